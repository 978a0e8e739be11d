"""A git-like version DAG over plain Zarr."""
