"""Versions over Zarr: log, owner pages, views, Store and region reader.  Knows no datatype and no HTTP."""
