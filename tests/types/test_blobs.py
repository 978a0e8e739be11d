"""Blobs: named by their content as DVID names them, kept beside all versions."""

from __future__ import annotations

import pytest

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.types import blobs


@pytest.mark.parametrize(
    ("content", "reference"),
    [
        (b"blobdata", "22YWnFVlmVpCPD-ku8_VEA=="),
        (b"some blob of bytes \x00\x01", "8Dz3ELSZZHRnKsZ4e9nneQ=="),
        (bytes(range(256)) * 20, "jALLlLvJajkVTJ5pAoE1jQ=="),
        (b"", "bGInLge7AUJiuCF1YpXFjQ=="),
    ],
)
def test_references_are_those_of_the_reference_server(content, reference):
    assert blobs.reference(content) == reference


def test_a_blob_is_seen_from_every_version(repo):
    name = blobs.put(repo.root, b"one")
    repo.root.commit()
    child = repo.root.newversion()
    late = blobs.put(repo.root, b"after the seal")
    assert [blobs.get(child, n) for n in (name, late)] == [b"one", b"after the seal"]
    assert repo.state.instances == {}


def test_what_is_not_there(repo):
    with pytest.raises(NotFoundError):
        blobs.get(repo.root, blobs.reference(b"never kept"))
    for bad in ("nosuchreference", "", "AAAA", "8Dz3ELSZZHRnKsZ4e9nne!=="):
        with pytest.raises(InvalidInputError):
            blobs.get(repo.root, bad)
