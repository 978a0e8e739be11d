"""Blobs: named by their content as DVID names them, kept beside all versions."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def _by_definition(content: bytes) -> str:
    """FNV-1 as it is defined, a byte at a time."""
    found = 0x6C62272E07BB014262B821756295C58D
    for byte in content:
        found = (found * 0x0000000001000000000000000000013B % 2**128) ^ byte
    return base64.urlsafe_b64encode(found.to_bytes(16, "big")).decode()


@given(st.binary(max_size=300))
def test_short_blobs_are_called_as_the_definition_says(content: bytes):
    assert blobs.reference(content) == _by_definition(content)


@pytest.mark.parametrize("size", [blobs._BLOCK - 1, blobs._BLOCK, blobs._BLOCK + 1, 3 * blobs._BLOCK + 7])
@pytest.mark.parametrize("fill", [None, 0, 255])
def test_long_blobs_are_called_as_the_definition_says(size: int, fill: int | None):
    content = np.random.default_rng(size).bytes(size) if fill is None else bytes([fill]) * size
    assert blobs.reference(content) == _by_definition(content)
    assert blobs.reference(memoryview(content)) == blobs.reference(bytearray(content)) == _by_definition(content)


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
