"""A key of any length that another repo has can be taken in, whatever the backend of the keys."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import vzarr
from tests.postgres import database
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import clone, push
from vzarr.types.registry import create

LONG = ["".join(random.Random(n).choices("abcdefgh", k=10_000)) for n in range(3)]
"""No two begin alike, and none can be compressed much."""


@pytest.fixture(params=["sqlite", "lmdb", pytest.param("postgresql", marks=pytest.mark.postgres)])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a key store that does not exist yet."""
    if request.param != "postgresql":
        yield f"{request.param}:///{tmp_path}/keys.db"
        return
    with database(request.getfixturevalue("postgres_server")) as url:
        yield url


def test_long_keys_are_written_read_and_sealed(tmp_path: Path, keys: str):
    with vzarr.create(str(tmp_path / "repo"), keys=keys) as repo:
        kv, version = create(repo.root, "kv", "keyvalue"), repo.root
        same = LONG[0][:-1] + "z"
        for n in range(3):
            kv = kv.at(version)
            kv.put_many([(LONG[0], b"%d" % n), (same, b"x" * 2000), ("a", b"1")])
            assert (kv.get(LONG[0]), kv.get(same)) == (b"%d" % n, b"x" * 2000)
            assert list(kv.list_keys()) == sorted(["a", LONG[0], same])
            version = version.commit().newversion()
        assert [kv.at(v).get(LONG[0]) for v in (repo["master~3"], repo["master~2"], version)] == [b"0", b"1", b"2"]
        kv.at(version).delete(same)
        assert list(kv.at(version.commit()).list_keys()) == sorted(["a", LONG[0]])


def test_long_keys_that_are_pulled_are_no_obstacle(tmp_path: Path, keys: str):
    origin, url = str(tmp_path / "origin"), str(tmp_path / "clone")
    with vzarr.create(origin) as repo:
        kv, other = create(repo.root, "kv", "keyvalue"), create(repo.root, "other", "keyvalue")
        kv.put(LONG[0], b"0")
        other.put("q", b"1")
        repo.root.commit()
        clone(open_place(origin), open_place(url), keys=keys)
        tip = repo.root.newversion()
        kv.at(tip).put(LONG[1], b"1")
        tip.commit()
        push(open_place(origin), open_place(url))
    with vzarr.open(url) as repo:
        tip = repo["master"].newversion()
        assert list(tip["kv"].items("a", "z")) == sorted(zip(LONG, (b"0", b"1"), strict=False))
        tip["kv"].put(LONG[2], b"2")
        tip["other"].put("z", b"2")
        sealed = tip.commit()
        assert list(sealed["kv"].list_keys()) == sorted(LONG)
        push(open_place(url), open_place(origin))
    with vzarr.open(origin) as repo:
        assert repo["master"]["kv"].get(LONG[2]) == b"2"
