"""Clones of a region of space: every chunk that touches it, at every scale, and a clear error for all others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vzarr
from tests.overlay.transfer.conftest import Receiver
from vzarr.cli import main
from vzarr.errors import InvalidInputError, NotFoundError, SealedError, StorageError, UnsupportedError
from vzarr.overlay import layout, opening
from vzarr.overlay.care.verify import verify
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.region import Region, parse
from vzarr.overlay.transfer.verbs import clone
from vzarr.types.registry import create

SIZE = 256


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """Labels in two scales, an image in smaller blocks, a plain array and a ROI that moves, over three versions."""
    draw = np.random.default_rng(0)
    with vzarr.create(str(tmp_path / "first")) as repo:
        root = repo.root
        seg = create(root, "seg", "labelmap", config={"maxdownreslevel": "2"})
        seg.write((0, 0, 0), draw.integers(1, 9, (64, 64, SIZE), np.uint64))
        em = create(root, "em", "uint8blk")
        em.write((0, 0, -SIZE), draw.integers(1, 255, (32, 64, 2 * SIZE), np.uint8))
        root.create_array("weights", dtype="u1", chunks=(4, 4, 4))
        root.write("weights", (0, 0, 0), np.full((8, 8, 8), 7, "u1"))
        roi = create(root, "hot", "roi")
        roi.replace(np.array([[0, 0, 2, 2]]))  # x from 64 to 95
        create(root, "notes", "keyvalue").put("a", b"1")
        root.commit()
        second = root.newversion()
        second["hot"].replace(np.array([[0, 0, -4, -4]]))
        second["em"].write((0, 0, 64), np.full((32, 32, 32), 3, np.uint8))
        second.commit()
        third = second.newversion()
        third["seg"].write((0, 0, 64), np.full((64, 64, 64), 5, np.uint64))
        third.commit()
        yield repo


def within(roi: str, depth: int | None = None, instances: tuple[str, ...] | None = None) -> Limits:
    return Limits(depth, instances, parse(roi))


def test_chunks_of_a_region_and_no_others(repo: vzarr.Repo, receiver: Receiver):
    with receiver.clone(repo, within(f"hot,{repo.uuid}")) as other:
        for node in (v.uuid for v in repo.versions()):
            mine, theirs = repo[node], other[node]
            for path, lo, hi in (
                ("seg/0", (0, 0, 64), (64, 64, 128)),
                ("seg/1", (0, 0, 0), (32, 32, 64)),
                ("seg/2", (0, 0, 0), (16, 16, 64)),
                ("em/0", (0, 0, 64), (32, 32, 96)),
                ("weights", (0, 0, 0), (8, 8, 8)),
            ):
                np.testing.assert_array_equal(theirs.read(path, lo, hi), mine.read(path, lo, hi))
            for path, y, x in (("seg/0", 0, 0), ("seg/0", 0, 128), ("seg/1", 0, 64), ("em/0", 32, 64)):
                with pytest.raises(StorageError, match=rf"partial clone \(--roi hot,{repo.uuid}\)"):
                    theirs.read(path, (0, y, x), (1, y + 1, x + 1))
            for name in repo.state.instances:
                assert dict(theirs.keys(name).scan()) == dict(mine.keys(name).scan())
        assert {f.name for f in verify(other.objects)} == {"left-out"}


def test_what_such_a_clone_lost_is_told_from_what_it_left_out(repo: vzarr.Repo, receiver: Receiver):
    with receiver.clone(repo, within(f"hot,{repo.uuid}")) as other:
        other.objects.delete(f"{layout.zarr(repo.uuid)}/seg/1/c/0/0/0")
        assert {f.name for f in verify(other.objects) if f.damage} == {"object-missing", "chunk-missing"}
        with pytest.raises(StorageError, match="is missing, which"):
            other[repo.uuid].read("seg/1", (0, 0, 0), (1, 1, 1))


def test_without_a_ref_the_region_is_that_of_the_newest_version(repo: vzarr.Repo, receiver: Receiver):
    with receiver.clone(repo, within("hot")) as other:
        tip = repo["master"]
        assert opening.read_meta(other.objects)["partial"]["roi"] == ["hot", tip.uuid]
        np.testing.assert_array_equal(
            other["master"].read("em/0", (0, 0, -128), (32, 32, -96)), tip.read("em/0", (0, 0, -128), (32, 32, -96))
        )
        with pytest.raises(StorageError, match="partial clone"):
            other["master"].read("em/0", (0, 0, 64), (1, 1, 65))


def test_such_a_clone_goes_on_and_keeps_its_region(repo: vzarr.Repo, receiver: Receiver, tmp_path: Path):
    with receiver.clone(repo, within(f"hot,{repo.uuid}", 1, ("seg",))) as other:
        tip = other["master"].newversion()
        tip["seg"].write((0, 0, 64), np.full((64, 64, 64), 6, np.uint64))
        with pytest.raises(StorageError, match=r"--depth 1 --instances seg --roi hot"):
            tip.write("seg/0", (0, 0, 0), np.full((1, 1, 1), 6, np.uint64))
        tip.commit()
        other.push(repo.url)
        later = repo["master"].newversion()
        later["hot"].clear()
        later["seg"].write((0, 0, 128), np.full((64, 64, 64), 8, np.uint64))
        later.commit()
        receiver.bring(repo)
        theirs = other["master"]
        assert not len(theirs["hot"].spans())
        np.testing.assert_array_equal(theirs.read("seg/0", (0, 0, 64), (64, 64, 128)), 6)
        with pytest.raises(StorageError, match="partial clone"):
            theirs.read("seg/0", (0, 0, 128), (1, 1, 129))
        assert {f.name for f in verify(other.objects)} == {"left-out"}
        with pytest.raises(StorageError, match="partial clone"):
            clone(receiver.place(repo), open_place(str(tmp_path / "third")))


def test_a_region_that_is_none(repo: vzarr.Repo, receiver: Receiver):
    tip = repo["master"].newversion()
    side = repo.root.branch("side").commit()
    late = create(tip, "late", "roi", versioned=False)
    late.replace(np.array([[0, 0, 0, 0]]))
    refused = {
        "cold": (NotFoundError, "'cold'"), "late": (InvalidInputError, "not versioned"),
        f"hot,{tip.uuid}": (SealedError, "open"), "notes": (UnsupportedError, "no region"),
        "hot,x": (NotFoundError, "x"), "hot,a,b": (InvalidInputError, "NAME,REF"), ",a": (InvalidInputError, "NAME"),
    }  # fmt: skip
    for roi, (error, says) in refused.items():
        with pytest.raises(error, match=says):
            receiver.clone(repo, within(roi))
    with pytest.raises(NotFoundError, match="not among those"):
        receiver.clone(repo, within(f"hot,{side.uuid}"), branches=["master"])
    tip["hot"].clear()
    tip.commit()
    with pytest.raises(InvalidInputError, match="has no blocks"):
        receiver.clone(repo, within("hot"))
    assert not (receiver.root / repo.uuid).exists()


def test_by_the_command_line(repo: vzarr.Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    url = str(tmp_path / "part")
    assert main(["clone", repo.url, url, "--roi", f"hot,{repo.uuid[:8]}"]) == 0
    assert main(["verify", url]) == 0
    assert "left-out" in capsys.readouterr().out
    assert main(["clone", repo.url, url, "--roi", "hot"]) == 1
    assert main(["clone", repo.url, str(tmp_path / "b"), "--roi", "hot", "--mirror"]) == 1


def test_interrupted_it_goes_on_with_the_same_region(repo: vzarr.Repo, receiver: Receiver):
    limits = Limits(roi=("hot", repo.uuid))

    def stop(_count: int, _size: int) -> None:
        raise StorageError("the cable was cut")

    with pytest.raises(StorageError, match="cable"):
        receiver.clone(repo, limits, progress=stop)
    with pytest.raises(InvalidInputError, match=f"other limits: --roi hot,{repo.uuid}"):
        receiver.clone(repo, Limits(roi=("hot", "")))
    receiver.clone(repo, limits).close()
    assert receiver.bring(repo).versions == []


COORD = st.integers(-5, 5)
SPANS = st.lists(st.tuples(COORD, COORD, COORD, st.integers(0, 3)), min_size=1, max_size=4)


@given(SPANS, st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.sampled_from([1, 2, 3, 4, 7, 1.5, 2.25])] * 3))
def test_against_voxel_by_voxel(rows: list[tuple[int, ...]], block: tuple[int, ...], edges: tuple[float, ...]):
    spans = np.array([(z, y, x, x + n) for z, y, x, n in rows])
    expected = set()
    for z, y, first, last in spans.tolist():
        ranges = zip((z, y, first), (z, y, last), block, strict=True)
        voxels = itertools.product(*(range(a * b, (c + 1) * b) for a, c, b in ranges))
        expected |= {tuple(int(v // e) for v, e in zip(voxel, edges, strict=True)) for voxel in voxels}
    found = Region(block, spans).chunks(edges)
    if all(e == int(e) for e in edges):
        assert found == expected
    else:
        assert expected <= found


def test_names_of_regions():
    assert parse("hot") == ("hot", "")
    assert parse("hot,v1.0") == ("hot", "v1.0")
