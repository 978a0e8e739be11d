"""A tour without data at hand: a synthetic neuropil, versioned, proofread and served."""

from __future__ import annotations

from vzarr.demo.tour import run

__all__ = ["run"]
