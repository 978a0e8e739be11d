"""A version by voxels and by paths: arrays, groups, growth, renames, who wrote what."""

from __future__ import annotations

import json
import pickle

import numpy as np
import orjson
import pytest

import vzarr
from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from vzarr.overlay.history.state import NodeInfo

CHUNK = np.full((4, 4), 5, "u2")


def make(version: vzarr.Version, path: str = "a", **options) -> None:
    version.create_array(path, dtype="u2", chunks=(4, 4), dimension_names=None, **options)


def sealed_child(version: vzarr.Version) -> vzarr.Version:
    return version.commit().newversion()


def test_a_version_knows_its_place(repo: vzarr.Repo):
    root = repo.root.commit("first", user="ann")
    child, side = root.newversion("second"), root.branch("side", "third")
    assert (root.sealed, root.note, root.branch_name, root.parents) == (True, "first", "master", [])
    assert (child.sealed, child.note, child.branch_name, child.parents) == (False, "second", "master", [root])
    assert (side.note, side.branch_name) == ("third", "side")
    assert root.children == [child, side]
    assert isinstance(child.info, NodeInfo)
    child.set_note("new")
    child.add_log(["one", "two"])
    assert child.note == "new"
    assert [line.split("  ")[1] for line in child.info.log] == ["one", "two"]
    for version in repo.versions():
        assert pickle.loads(pickle.dumps(version)) == version
        assert version.uuid in repr(version)
        assert version.uuid in version._repr_html_()


def test_notes_are_shown_as_text(repo: vzarr.Repo):
    repo.set_info(alias="<b>", description="<script>")
    repo.root.set_note("<img>")
    assert not any(tag in repo._repr_html_() + repo.root._repr_html_() for tag in ("<b>repo <b>", "<script>", "<img>"))


def test_making_an_array_twice_changes_nothing(version: vzarr.Version):
    make(version, "g/h/a", fill_value=3, attributes={"k": 1})
    version.write("g/h/a", (0, 0), CHUNK)
    before = version.store.read("g/h/a/zarr.json")
    version.create_array("g/h/a", dtype="f8", chunks=(1, 1, 1))
    assert version.store.read("g/h/a/zarr.json") == before
    assert sorted(version.zarr["g"].group_keys()) == ["h"]
    assert version.attributes("g/h/a") == {"k": 1}
    assert version.attributes("g") == {}
    assert version.chunk_shape("g/h/a") == (4, 4)
    assert version.has_array("g/h/a")
    assert not version.has_array("g/h")


def test_groups(version: vzarr.Version):
    version.create_group("g/h", {"k": 1})
    version.create_group("g/h")
    assert version.attributes("g/h") == {"k": 1}
    version.create_group("g/h", {"m": 2})
    assert version.attributes("g/h") == {"m": 2}
    version.create_group("", {"top": True})
    assert dict(version.zarr.attrs) == {"top": True}


@pytest.mark.parametrize("path", ["a\\b", "zarr.json", "g/.zarray/a", ".zattrs"])
def test_names_that_zarr_would_not_find_are_refused(version: vzarr.Version, path: str):
    version.create_group("b")
    before = list(version.store.keys())
    for change in (lambda: make(version, path), lambda: version.create_group(path), lambda: version.rename("b", path)):
        with pytest.raises(InvalidInputError, match=r"backslash|documents"):
            change()
    assert list(version.store.keys()) == before


@pytest.mark.parametrize("path", ["/a", "a/", "a//b", "..", "../x", "a/../../x", ".", "a\0", "a\n"])
def test_paths_that_lead_out_are_refused(version: vzarr.Version, path: str):
    before = dict(version.repo.objects.walk())
    for change in (
        lambda: make(version, path),
        lambda: version.create_group(path),
        lambda: version.rename(path, "b"),
        lambda: version.rename("", path),
    ):
        with pytest.raises(InvalidInputError):
            change()
    assert dict(version.repo.objects.walk()) == before


def test_what_stands_in_the_way_is_not_replaced(version: vzarr.Version):
    make(version, "a")
    version.create_group("g/h")
    with pytest.raises(AlreadyExistsError, match="group already"):
        make(version, "g")
    with pytest.raises(AlreadyExistsError, match="array already"):
        version.create_group("a")
    for change in (lambda: make(version, "a/b"), lambda: version.create_group("a/b/c")):
        with pytest.raises(InvalidInputError, match="inside the array 'a'"):
            change()


def test_unknown_paths(version: vzarr.Version):
    version.create_group("g")
    for ask in (
        lambda: version.bounds("x"),
        lambda: version.bounds("g"),
        lambda: version.read("x", (0, 0), (1, 1)),
        lambda: version.write("g", (0, 0), CHUNK),
        lambda: version.chunk_coords("x"),
        lambda: version.owners("x", []),
        lambda: version.delete_chunks("x", []),
        lambda: version.grow("x", (0,), (1,)),
        lambda: version.attributes("x"),
        lambda: version.instance_info("x"),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_arrays_grow_on_every_side(version: vzarr.Version):
    make(version, fill_value=1)
    assert version.bounds("a") is None
    version.write_chunks("a", {(2, 3): CHUNK})
    assert version.bounds("a") == ((0, 0), (12, 16))
    version.write("a", (-1, 5), np.full((2, 2), 7, "u2"))
    assert version.bounds("a") == ((-4, 0), (12, 16))
    assert version.read("a", (-2, 4), (2, 8)).tolist() == [[1, 1, 1, 1], [1, 7, 7, 1], [1, 7, 7, 1], [1, 1, 1, 1]]
    version.grow("a", (0, 1), (3, 0))
    assert version.bounds("a") == ((-4, -4), (15, 16))
    shown = version.zarr["a"]
    assert shown.shape == (19, 20)
    assert shown.attrs["vzarr_origin"] == [-4, -4]
    assert np.array_equal(shown[...], version.read("a", (-4, -4), (15, 16)))
    later = sealed_child(version)
    assert np.array_equal(later.zarr["a"][...], shown[...])
    later.write_chunks("a", {(-2, -2): CHUNK})
    assert later.bounds("a") == ((-8, -8), (15, 16))
    assert (later.zarr["a"][:4, :4] == 5).all()
    assert version.bounds("a") == ((-4, -4), (15, 16))


def test_growth_below_keeps_to_the_grain_that_is_asked_for(version: vzarr.Version):
    make(version)
    version.write_chunks("a", {(-1, -3): CHUNK}, step=4)
    assert version.bounds("a") == ((-16, -16), (0, 0))
    assert version.read("a", (-4, -12), (0, -8)).tolist() == CHUNK.tolist()


def test_an_extent_may_be_wider_or_narrower_than_the_chunks(version: vzarr.Version):
    make(version)
    version.write_chunks("a", {(0, 0): CHUNK}, extent=((0, 0), (3, 9)))
    assert version.bounds("a") == ((0, 0), (3, 9))
    assert version.zarr["a"][...].sum() == 5 * 12


def test_chunks_of_a_wrong_shape_write_nothing(version: vzarr.Version):
    make(version)
    with pytest.raises(InvalidInputError, match="shape"):
        version.write_chunks("a", {(0, 0): CHUNK, (0, 1): CHUNK[:3]})
    assert len(version.chunk_coords("a")) == 0


def test_owners_and_stored_chunks_through_history(version: vzarr.Version):
    make(version)
    version.write_chunks("a", {(0, 0): CHUNK, (-1, 2): CHUNK, (5, 5): CHUNK})
    child = sealed_child(version)
    child.write_chunks("a", {(0, 0): CHUNK + 1, (1, 1): CHUNK})
    child.delete_chunks("a", [(5, 5), (9, 9)])
    coords = [(0, 0), (-1, 2), (1, 1), (5, 5), (9, 9)]
    expected = [child.uuid, version.uuid, child.uuid, None, None]
    for _ in range(2):
        assert child.owners("a", coords) == expected
        assert child.chunk_coords("a").tolist() == [[-1, 2], [0, 0], [1, 1]]
        assert child.chunk_coords("a", (0, 0), (1, 9)).tolist() == [[0, 0]]
        assert [c for c, v in child.read_chunks("a", coords) if v is None] == [(5, 5), (9, 9)]
        assert version.owners("a", coords) == [version.uuid] * 2 + [None, version.uuid, None]
        if not child.sealed:
            child.commit()
    grandchild = child.newversion()
    grandchild.write_chunks("a", {(5, 5): CHUNK + 2})
    assert grandchild.owners("a", [(5, 5)]) == [grandchild.uuid]
    grandchild.delete_chunks("a", [(5, 5)])
    assert grandchild.owners("a", [(5, 5)]) == [None]
    assert grandchild.commit().owners("a", coords) == expected


def test_a_deletion_is_32_bytes(file_repo: vzarr.Repo):
    make(file_repo.root)
    file_repo.root.write_chunks("a", {(0, 0): CHUNK})
    child = sealed_child(file_repo.root)
    child.delete_chunks("a", [(0, 0), (1, 1)])
    sizes = [n for k, n in file_repo.objects.walk(f"nodes/{child.uuid}/zarr")]
    assert sizes == [32]
    assert child.store.read("a/c/0/0") is None
    assert child.store.read("a/c/0/0", -1) is None
    assert list(child.store.keys("a/c")) == []


def test_deleting_folders_of_chunks(version: vzarr.Version):
    make(version)
    version.write_chunks("a", {(y, x): CHUNK for y in range(3) for x in range(3)})
    child = sealed_child(version)
    child.write_chunks("a", {(1, 0): CHUNK})
    child.store.delete_below("a/c/1")
    assert {y for y, _ in child.chunk_coords("a").tolist()} == {0, 2}
    child.write_chunks("a", {(1, 1): CHUNK})
    assert [1, 1] in child.chunk_coords("a").tolist()
    assert child.owners("a", [(1, 0), (1, 1)]) == [None, child.uuid]
    child.commit()
    assert child.owners("a", [(1, 0), (1, 1), (2, 2)]) == [None, child.uuid, version.uuid]
    assert (version.zarr["a"][...] == 5).all()


@pytest.mark.parametrize("depth", [0, 1])
def test_renames_move_all_below(version: vzarr.Version, depth: int):
    make(version, "g/a")
    version.write("g/a", (-2, 0), CHUNK)
    version.create_group("g/h", {"k": 1})
    version.store.write("g/notes.txt", b"1")
    for _ in range(depth):
        version = sealed_child(version)
    before = version.read("g/a", (-4, -4), (8, 8))
    version.rename("g", "x/y")
    assert list(version.store.keys("g/")) == []
    for at in (lambda: version, version.commit, version.newversion):
        found = at()
        assert np.array_equal(found.read("x/y/a", (-4, -4), (8, 8)), before)
        assert found.zarr["x/y/a"].attrs["vzarr_origin"] == [-4, 0]
        assert found.attributes("x/y/h") == {"k": 1}
        assert found.store.read("x/y/notes.txt") == (b"1", 1)
        assert found.store.read("g/notes.txt") is None
    found.write("x/y/a", (0, 0), CHUNK + 1)
    assert (found.read("x/y/a", (0, 0), (4, 4)) == 6).all()
    assert np.array_equal(version.read("x/y/a", (-4, -4), (8, 8)), before)


def test_renames_that_cannot_be(version: vzarr.Version):
    make(version, "a")
    version.create_group("g/h")
    version.store.write("loose/x", b"1")
    for source, target, error in [
        ("nosuch", "b", NotFoundError),
        ("a", "g", AlreadyExistsError),
        ("a", "a", AlreadyExistsError),
        ("a", "loose", AlreadyExistsError),
        ("g", "g/x", InvalidInputError),
        ("g", "a/g", InvalidInputError),
    ]:
        with pytest.raises(error):
            version.rename(source, target)
    assert sorted(version.store.keys()) == ["a/zarr.json", "g/h/zarr.json", "g/zarr.json", "loose/x", "zarr.json"]


def test_an_array_made_where_one_was_renamed_or_deleted_is_another(version: vzarr.Version):
    for n in range(2):
        make(version, "a", creator="shared")
        version.write("a", (0, 0), CHUNK + n)
        version.rename("a", f"b{n}")
        make(version, "a", creator="shared")
        assert version.read("a", (0, 0), (4, 4)).sum() == 0
        version.write("a", (0, 0), CHUNK + 10 + n)
        assert (version.read(f"b{n}", (0, 0), (4, 4)) == 5 + n).all()
        version = sealed_child(version)
        del version.zarr["a"]
        make(version, "a", creator="shared")
        assert version.read("a", (0, 0), (4, 4)).sum() == 0
        assert len(version.chunk_coords("a")) == 0
        del version.zarr["a"]
    assert (version.commit().read("b0", (0, 0), (4, 4)) == 5).all()
    assert (version.read("b1", (0, 0), (4, 4)) == 6).all()


def test_one_array_made_on_two_branches_is_one(repo: vzarr.Repo):
    root = repo.root.commit()
    left, right = root.newversion(), root.branch("side")
    for n, side in enumerate((left, right)):
        make(side, "a", creator="0" * 32)
        side.write_chunks("a", {(0, n): CHUNK + n})
        side.commit()
    joined = repo.merge([left, right])
    assert joined.read("a", (0, 0), (4, 8)).tolist() == [[5] * 4 + [6] * 4] * 4


def test_arrays_of_any_number_of_axes(version: vzarr.Version):
    for n, names in enumerate([("x",), ("y", "x"), ("z", "y", "x"), None], 1):
        version.create_array(f"a{n}", dtype="u1", chunks=(4,) * n)
        version.write(f"a{n}", (0,) * n, np.ones((4,) * n, "u1"))
        assert version.zarr[f"a{n}"].metadata.dimension_names == names


@pytest.mark.parametrize("wrong", [{"chunks": (0, 4)}, {"dtype": "nonsense"}, {"dimension_names": ("t",)}])
def test_no_array_is_made_of_nonsense(version: vzarr.Version, wrong: dict):
    with pytest.raises(InvalidInputError):
        version.create_array("a", **({"dtype": "u1", "chunks": (4, 4)} | wrong))
    assert not version.has_array("a")


def test_boxes_of_other_axes_are_refused(version: vzarr.Version):
    make(version)
    for act in (
        lambda: version.read("a", (0, 0, 0), (1, 1, 1)),
        lambda: version.read("a", (0, 0), (1, 1, 1)),
        lambda: version.write("a", (0, 0, 0), CHUNK),
        lambda: version.write("a", (0, 0), CHUNK[None]),
    ):
        with pytest.raises(InvalidInputError, match="array 'a' has 2 axes"):
            act()
    assert version.bounds("a") in (None, ((0, 0), (0, 0)))


FAR = 10**18


@pytest.mark.parametrize("coord", [(FAR, 0), (0, -FAR), (1 << 70, 0), (0.5, 0), ("0", 0), (None, 0), (0,), (0, 0, 0)])
def test_chunks_that_cannot_be_are_refused_and_change_nothing(version: vzarr.Version, coord: tuple):
    make(version)
    version.write_chunks("a", {(0, 0): CHUNK})
    for write in (
        lambda: version.write_chunks("a", {(1, 1): CHUNK, coord: CHUNK}),
        lambda: version.write("a", coord, CHUNK),
        lambda: version.grow("a", (0, 0), coord),
        lambda: version.resize("a", (0, 0), coord),
    ):
        with pytest.raises(InvalidInputError):
            write()
    if len(coord) != 2 or not all(isinstance(c, int) for c in coord):
        for ask in (version.owners, version.delete_chunks, lambda p, c: list(version.read_chunks(p, c))):
            with pytest.raises(InvalidInputError):
                ask("a", [coord])
        with pytest.raises(InvalidInputError):
            version.read("a", coord, (4, 4))
    else:
        assert version.owners("a", [coord]) == [None]
        version.delete_chunks("a", [coord])
    assert version.bounds("a") == ((0, 0), (4, 4))
    assert version.chunk_coords("a").tolist() == [[0, 0]]


def test_what_is_called_like_a_chunk_too_far_away_is_just_a_key(version: vzarr.Version):
    make(version)
    version.write_chunks("a", {(0, 0): CHUNK})
    key = f"a/c/{FAR}/0"
    version.store.write(key, b"1")
    assert set(version.store.keys()) >= {key, "a/c/0/0"}
    for found in (version.commit(), version.newversion()):
        assert found.store.read(key) == (b"1", 1)
        assert found.chunk_coords("a").tolist() == [[0, 0]]


@pytest.mark.parametrize("shape", [(1 << 62, 4), (1 << 70, 4)])
def test_no_array_is_larger_than_can_be_counted(version: vzarr.Version, shape: tuple):
    with pytest.raises(InvalidInputError, match="too large"):
        make(version, shape=shape)
    assert not version.has_array("a")
    make(version, "b")
    doc = orjson.loads(version.store.read("b/zarr.json")[0])
    version.store.write("a/zarr.json", json.dumps({**doc, "shape": shape}).encode())
    version.store.write("a/c/0/0", b"1")
    assert not version.has_array("a")
    assert version.commit().store.read("a/c/0/0") == (b"1", 1)
