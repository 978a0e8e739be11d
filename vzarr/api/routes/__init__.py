"""One module of routes per datatype, and those of server, repos, nodes, Zarr and the web clients."""
