"""Lost and damaged pages come back as the very bytes that were sealed, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.errors import FormatError, UnsupportedError
from vzarr.overlay import layout
from vzarr.overlay.care.rebuild import rebuild_pages
from vzarr.overlay.care.verify import verify

ONES = np.ones((2, 2, 2), "u1")


@pytest.fixture
def repo(file_repo: vzarr.Repo) -> vzarr.Repo:
    root = file_repo.root
    for path in ("b", "a/x", "a.b"):
        root.create_array(path, dtype="u1", chunks=(2, 2, 2))
        root.write_chunks(path, {(z, 0, 0): ONES for z in range(0, 40, 13)})
    child = root.commit().newversion()
    child.write_chunks("b", {(0, 0, 0): ONES, (-1, 0, 0): ONES})
    child.delete_chunks("a/x", [(13, 0, 0)])
    for path in ("z", "0"):
        child.create_array(path, dtype="u1", chunks=(2, 2, 2))
        child.write_chunks(path, {(0, 0, 0): ONES})
    child.commit()
    return file_repo


@pytest.mark.parametrize("ref", ["master~1", "master"])
@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_pages_and_table_come_back(repo: vzarr.Repo, ref: str, harm: str):
    node = repo.resolve(ref)
    keys = [layout.owner_table(node), layout.owner_pages(node)]
    for key in keys:
        path = Path(repo.objects.path(key))
        path.unlink() if harm == "lost" else path.write_bytes(b"nonsense")
    assert any(f.damage for f in verify(repo.objects))
    assert rebuild_pages(repo.objects, repo.state, node) == keys
    assert list(verify(repo.objects)) == []
    assert rebuild_pages(repo.objects, repo.state, node) == []


def test_a_lost_chunk_is_not_papered_over(repo: vzarr.Repo):
    node = repo.resolve("master")
    Path(repo.objects.path(layout.owner_pages(node))).unlink()
    Path(repo.objects.path(f"{layout.zarr(node)}/b/c/-1/0/0")).unlink()
    with pytest.raises(FormatError, match="does not lead to what was sealed"):
        rebuild_pages(repo.objects, repo.state, node)
    assert repo.objects.get(layout.owner_pages(node)) is None


def test_open_versions_and_merges_are_refused(repo: vzarr.Repo):
    child = repo["master"].newversion()
    with pytest.raises(UnsupportedError, match="open"):
        rebuild_pages(repo.objects, repo.state, child.uuid)
    side = repo["master~1"].branch("side")
    child.commit()
    side.commit()
    merged = repo.merge([child, side]).commit()
    with pytest.raises(UnsupportedError, match="merge"):
        rebuild_pages(repo.objects, repo.state, merged.uuid)
