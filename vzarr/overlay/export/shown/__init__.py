"""Versions shown in formats other than Zarr: each object of these is made when somebody asks for it."""
