"""The open root: what others do at the same moment."""

from __future__ import annotations

import numpy as np
import pytest

import vzarr
from vzarr.overlay.hierarchy.tree import ArrayEntry, Entry
from vzarr.overlay.views.rootview import RootView


def test_a_row_that_comes_between_the_look_and_the_document(file_repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    """Else the document, of an array that reaches below voxel 0 by now, would seem to begin there."""
    root = file_repo.root
    root.create_array("a", dtype="u1", chunks=(4,), shape=(4,), dimension_names=None)
    view = root.view
    assert isinstance(view, RootView)
    read = view._read

    def late(path: str) -> Entry | None:
        monkeypatch.undo()
        with vzarr.open(file_repo.url) as other:
            other.root.write_chunks("a", {(-2,): np.ones(4, "u1")})
        return read(path)

    monkeypatch.setattr(view, "_read", late)
    entry = view.entry("a")
    assert isinstance(entry, ArrayEntry)
    assert entry.window == ((-8,), (4,))
