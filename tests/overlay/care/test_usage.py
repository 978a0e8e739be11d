"""What versions store is counted by their lists of checksums, and only if these are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import vzarr
from vzarr.errors import FormatError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.care.usage import total, usage


@pytest.fixture
def repo(file_repo: vzarr.Repo) -> vzarr.Repo:
    file_repo.root.create_array("a", dtype="u1", chunks=(2,), shape=(4,), dimension_names=None)
    file_repo.root.zarr["a"][...] = 1
    file_repo.root.commit()
    return file_repo


def test_a_sealed_version_is_as_large_as_its_folder(repo: vzarr.Repo):
    sizes = [size for _, size in repo.objects.walk(layout.node(repo.uuid))]
    counted = total(usage(repo.objects, repo.state, [repo.uuid]), lambda row: row.version)
    assert counted == {repo.uuid: (len(sizes), sum(sizes))}


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
        lambda data: b"\xff\n",
        lambda data: b"nonsense\n",
    ],
)
def test_a_damaged_list_is_named(repo: vzarr.Repo, harm: Callable[[bytes], bytes]):
    key = layout.sums(repo.uuid)
    path = Path(repo.objects.path(key))
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(FormatError, match=f"{key} is damaged"):
        list(usage(repo.objects, repo.state, [repo.uuid]))


def test_a_missing_seal_is_named(repo: vzarr.Repo):
    repo.objects.delete(layout.seal(repo.uuid))
    with pytest.raises(StorageError, match=f"{layout.seal(repo.uuid)} is missing"):
        list(usage(repo.objects, repo.state, [repo.uuid]))
