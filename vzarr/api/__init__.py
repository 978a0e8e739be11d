"""The HTTP API: DVID's, and plain Zarr over GET; the only package that knows a web framework."""
