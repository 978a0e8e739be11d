"""Ingestion: image stacks, HDF5, npy and Zarr into versioned instances."""

from __future__ import annotations

from vzarr.ingest.pipeline import Progress, ingest
from vzarr.ingest.sources import Source, open_source

__all__ = ["Progress", "Source", "ingest", "open_source"]
