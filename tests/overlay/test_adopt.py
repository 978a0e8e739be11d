"""Adoption: an existing Zarr is the root's, in place; edits land beside it; what vanished or changed is an error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tensorstore
import zarr

import vzarr
from vzarr.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.export.references import export_references, references
from vzarr.overlay.export.standalone import flatten
from vzarr.overlay.objects.files import FileObjects

SHAPE, CHUNKS = (20, 24, 28), (8, 8, 8)
HELD = (slice(0, 16), slice(0, 24), slice(0, 28))
"""What the source stores; the planes behind are never written."""


def image() -> np.ndarray:
    found = np.random.default_rng(1).integers(1, 255, SHAPE).astype("u1")
    found[16:] = 0
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source.zarr"
    array = zarr.create_array(folder, shape=SHAPE, chunks=CHUNKS, dtype="u1")
    array[HELD] = image()[HELD]
    return folder


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    with vzarr.create(str(tmp_path / "repo")) as repo:
        yield repo


@pytest.fixture
def adopted(repo: vzarr.Repo, source: Path) -> vzarr.Repo:
    repo.adopt("em", str(source))
    return repo


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def whole(version: vzarr.Version, path: str = "em/0") -> np.ndarray:
    """All voxels, by the region reader; by zarr they are the same."""
    found = version.read(path, (0, 0, 0), SHAPE)
    assert np.array_equal(version.zarr[path][...], found)
    return found


def test_nothing_is_copied(adopted: vzarr.Repo, tmp_path: Path):
    assert np.array_equal(whole(adopted.root), image())
    assert not any(Path(p).name.isdigit() for p in sizes(tmp_path / "repo"))


def test_edits_land_in_the_repo(adopted: vzarr.Repo, source: Path):
    before = sizes(source)
    model = image()
    version = adopted.root
    for n in range(3):
        version.write("em/0", (n, 3, 5), np.full((9, 9, 9), n, "u1"))
        model[n : n + 9, 3:12, 5:14] = n
        version.delete_chunks("em/0", [(0, 2, n)])
        model[0:8, 16:24, 8 * n : 8 * n + 8] = 0
        assert np.array_equal(whole(version), model)
        sealed = version.commit()
        assert np.array_equal(whole(sealed), model)
        version = sealed.newversion()
    assert sizes(source) == before


def test_deleted_stays_deleted(adopted: vzarr.Repo):
    coord, key = (0, 1, 1), "em/0/c/0/1/1"
    root = adopted.root
    root.delete_chunks("em/0", [coord])
    assert root.store.read(key) is None
    assert root.owners("em/0", [coord]) == [None]
    child = root.commit().newversion()
    assert child.store.read(key) is None
    child.commit()
    assert child.store.read(key) is None
    assert len(child.chunk_coords("em/0")) == 2 * 3 * 4 - 1


def test_a_folder_of_chunks_is_deleted(adopted: vzarr.Repo):
    model = image()
    adopted.root.store.delete_below("em/0/c/0/1")
    model[:8, 8:16] = 0
    assert np.array_equal(whole(adopted.root), model)
    child = adopted.root.commit().newversion()
    child.store.delete_below("em/0/c/1")
    model[8:16] = 0
    assert np.array_equal(whole(child), model)
    child.commit()
    assert np.array_equal(whole(child), model)
    assert adopted.diff(adopted.root, child).paths[0].chunks.removed.shape == (12, 3)


def test_the_root_owns_what_nobody_wrote(adopted: vzarr.Repo):
    root = adopted.root.commit()
    child = root.newversion()
    child.write("em/0", (0, 0, 0), np.ones((8, 8, 8), "u1"))
    assert child.owners("em/0", [(0, 0, 0), (0, 0, 1), (5, 5, 5)]) == [child.uuid, root.uuid, None]
    assert child.blame("em/0").counts() == {1: 3 * 3 * 4 - 1, 2: 1}
    changed = adopted.diff(root, child).paths[0].chunks
    assert (len(changed.added), len(changed.removed), changed.rewritten.tolist()) == (0, 0, [[0, 0, 0]])
    child.delete_chunks("em/0", [(1, 1, 1)])
    assert adopted.diff(root, child).paths[0].chunks.removed.tolist() == [[1, 1, 1]]


def test_branches_are_merged(adopted: vzarr.Repo):
    root = adopted.root.commit()
    ours, theirs, third = (root.branch(name) for name in ("ours", "theirs", "third"))
    ours.write("em/0", (0, 0, 0), np.full((8, 8, 8), 1, "u1"))
    theirs.delete_chunks("em/0", [(1, 0, 0)])
    third.delete_chunks("em/0", [(0, 0, 0)])
    for branch in (ours, theirs, third):
        branch.commit()
    model = image()
    model[:8, :8, :8] = 1
    model[8:16, :8, :8] = 0
    assert np.array_equal(whole(adopted.merge([ours, theirs])), model)
    with pytest.raises(ConflictError) as caught:
        adopted.merge([ours, third])
    assert caught.value.conflicts == [("em/0", ((0, 0, 0), (8, 8, 8)))]


def test_the_array_grows_and_shrinks(adopted: vzarr.Repo):
    child = adopted.root.commit().newversion()
    child.write("em/0", (-8, 0, 0), np.full((8, 8, 8), 5, "u1"))
    assert np.array_equal(child.read("em/0", (0, 0, 0), SHAPE), image())
    assert (child.read("em/0", (-8, 0, 0), (0, 8, 8)) == 5).all()
    assert adopted.root.bounds("em/0") == ((0, 0, 0), SHAPE)
    other = adopted.root.branch("side")
    other.zarr["em/0"].resize((8, 24, 28))
    other.zarr["em/0"].resize(SHAPE)
    model = image()
    model[8:] = 0
    assert np.array_equal(whole(other), model)


def test_the_root_grows_below_zero(adopted: vzarr.Repo):
    adopted.root.write("em/0", (-8, 0, 0), np.full((8, 8, 8), 5, "u1"))
    assert np.array_equal(adopted.root.read("em/0", (0, 0, 0), SHAPE), image())
    assert adopted.root.zarr["em/0"].attrs["vzarr_origin"] == [-8, 0, 0]
    sealed = adopted.root.commit()
    assert np.array_equal(sealed.read("em/0", (0, 0, 0), SHAPE), image())


def test_a_renamed_instance_keeps_its_source(adopted: vzarr.Repo):
    adopted.root.write("em/0", (0, 0, 0), np.ones((1, 1, 1), "u1"))
    model = image()
    model[0, 0, 0] = 1
    adopted.root.rename("em", "gray")
    assert np.array_equal(whole(adopted.root, "gray/0"), model)
    child = adopted.root.commit().newversion()
    child.rename("gray", "em")
    child.zarr["em/0"].attrs["seen"] = 1
    assert np.array_equal(whole(child), model)


@pytest.mark.parametrize("in_root", [True, False])
def test_an_array_made_anew_has_no_source(adopted: vzarr.Repo, in_root: bool):
    version = adopted.root if in_root else adopted.root.commit().newversion()
    version.write("em/0", (0, 0, 0), np.ones((1, 1, 1), "u1"))
    version.zarr.create_array("em/0", shape=(8, 8), chunks=(8, 8), dtype="u2", overwrite=True)
    assert not version.read("em/0", (0, 0), (8, 8)).any()
    assert version.chunk_coords("em/0").shape == (0, 2)
    version.commit()
    assert not version.zarr["em/0"][...].any()


def test_metadata_alone_make_an_array_anew(adopted: vzarr.Repo, tmp_path: Path):
    other = zarr.create_array(tmp_path / "other", shape=(4,), chunks=(2,), dtype="i4")
    adopted.root.store.write("em/0/zarr.json", (tmp_path / "other" / "zarr.json").read_bytes())
    assert adopted.root.zarr["em/0"][...].tolist() == other[...].tolist()
    adopted.root.store.delete_sync("em/0/zarr.json")
    assert not adopted.root.has_array("em/0")


def test_bare_folders_are_refused(adopted: vzarr.Repo):
    """Neither the root's folder nor a child's reads as fill value."""
    adopted.root.write("em/0", (0, 0, 0), np.ones((1, 1, 1), "u1"))
    adopted.root.commit()
    folder = Path(adopted.objects.path(layout.zarr(adopted.uuid)))
    with pytest.raises((ValueError, KeyError), match=r"vzarr|chunk_key_encoding"):
        zarr.open_array(folder / "em" / "0", mode="r")
    with pytest.raises(ValueError, match="vzarr"):
        tensorstore.open({"driver": "zarr3", "kvstore": f"file://{folder}/em/0/"}).result()


def test_reading_costs_the_same_at_any_depth(adopted: vzarr.Repo, monkeypatch: pytest.MonkeyPatch):
    version = adopted.root.commit()
    counts = {}
    for depth in range(101):
        if depth in (1, 100):
            version.read("em/0", (8, 8, 8), (16, 16, 16))  # pages and the source are open from here on
            opened: list[object] = []
            with monkeypatch.context() as patch:
                real = os.open
                patch.setattr(
                    os, "open", lambda *a, real=real, opened=opened, **k: (opened.append(a), real(*a, **k))[1]
                )
                version.read("em/0", (8, 16, 16), (16, 24, 24))
            counts[depth] = len(opened)
        child = version.newversion()
        child.write("em/0", (0, 0, 0), np.full((8, 8, 8), depth, "u1"))
        version = child.commit()
    assert counts[1] == counts[100] <= 1


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda p: shutil.rmtree(p), id="gone"),
        pytest.param(lambda p: (p / "zarr.json").unlink(), id="metadata-gone"),
        pytest.param(
            lambda p: (p / "zarr.json").write_text(
                (p / "zarr.json").read_text().replace("[\n        8,", "[\n        4,")
            ),
            id="metadata-changed",
        ),
    ],
)
def test_a_vanished_source_is_an_error(adopted: vzarr.Repo, source: Path, harm: Callable[[Path], None], sealed: bool):
    version = adopted.root.commit() if sealed else adopted.root
    assert version.read("em/0", (0, 0, 0), (1, 1, 1)).all()
    before = (source / "zarr.json").read_text()
    harm(source)
    assert not (source / "zarr.json").exists() or (source / "zarr.json").read_text() != before
    for access in (
        lambda: version.read("em/0", (16, 0, 0), (17, 1, 1)),
        lambda: version.store.read("em/0/c/2/0/0"),
        lambda: version.chunk_coords("em/0"),
    ):
        with pytest.raises(StorageError, match=r"source\.zarr"):
            access()
    with vzarr.open(adopted.url) as again, pytest.raises(StorageError, match=r"source\.zarr"):
        again[adopted.uuid].read("em/0", (0, 0, 0), (1, 1, 1))


def test_a_truncated_chunk_is_an_error(adopted: vzarr.Repo, source: Path):
    chunk = source / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StorageError, match="damaged"):
        adopted.root.read("em/0", (0, 0, 0), (1, 1, 1))
    chunk.unlink()
    chunk.mkdir()
    assert adopted.root.store.read("em/0/c/0/0/0") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_chunk_is_an_error(adopted: vzarr.Repo, source: Path):
    (source / "c" / "0" / "0" / "0").chmod(0)
    with pytest.raises(StorageError, match="could not read"):
        adopted.root.read("em/0", (0, 0, 0), (1, 1, 1))


def touch(path: Path) -> None:
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1000))


def swap(path: Path) -> None:
    """Other bytes of the same size and time."""
    about = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize("harm", [touch, Path.unlink, lambda p: p.write_bytes(b"short")])
def test_a_pinned_source_tells_changes(repo: vzarr.Repo, source: Path, harm: Callable[[Path], None]):
    repo.adopt("em", str(source), pin=True)
    repo.root.commit()
    assert np.array_equal(whole(repo.root), image())
    assert list(verify(repo.objects)) == []
    harm(source / "c" / "0" / "0" / "0")
    with pytest.raises(StorageError, match="is not what was pinned"):
        repo.root.read("em/0", (0, 0, 0), (1, 1, 1))
    assert repo.root.read("em/0", (8, 0, 0), (9, 1, 1)).all()
    found = list(verify(repo.objects))
    assert [f.name for f in found] in (["source-differs"], ["source-missing"])
    assert found[0].key == f"file://{source}/c/0/0/0"


def test_a_new_object_in_a_pinned_source_is_told(repo: vzarr.Repo, source: Path):
    repo.adopt("em", str(source), pin=True)
    repo.root.commit()
    (source / "c" / "2" / "0").mkdir(parents=True)
    shutil.copy(source / "c" / "0" / "0" / "0", source / "c" / "2" / "0" / "0")
    with pytest.raises(StorageError, match="it was not there"):
        repo.root.read("em/0", (16, 0, 0), (17, 1, 1))
    assert [f.name for f in verify(repo.objects)] == ["source-differs"]


def test_hashes_tell_what_times_do_not(repo: vzarr.Repo, source: Path):
    repo.adopt("em", str(source), pin="hash")
    repo.root.commit()
    assert list(verify(repo.objects)) == []
    swap(source / "c" / "0" / "0" / "0")
    assert [f.message for f in verify(repo.objects)] == ["its checksum differs"]


def test_the_seal_covers_the_pins(repo: vzarr.Repo, source: Path):
    repo.adopt("em", str(source), pin=True)
    repo.root.commit()
    (pins,) = [k for k, _ in repo.objects.walk(f"nodes/{repo.uuid}/pins")]
    repo.objects.put(pins, repo.objects.get(pins)[:-1])
    assert {"object-differs", "source-unusable"} == {f.name for f in verify(repo.objects)}


def test_verify_names_unpinned_and_vanished_sources(adopted: vzarr.Repo, source: Path):
    adopted.root.commit()
    adopted.root.newversion().commit()
    (found,) = verify(adopted.objects)
    assert (found.name, found.key, found.damage) == ("source-unpinned", f"file://{source}", False)
    shutil.rmtree(source)
    (found,) = verify(adopted.objects)
    assert (found.name, found.damage) == ("source-unusable", True)


def edited(repo: vzarr.Repo) -> tuple[vzarr.Version, np.ndarray]:
    child = repo.root.commit().newversion()
    child.write("em/0", (0, 0, 0), np.full((8, 8, 8), 9, "u1"))
    child.delete_chunks("em/0", [(1, 1, 1)])
    model = image()
    model[:8, :8, :8] = 9
    model[8:16, 8:16, 8:16] = 0
    return child.commit(), model


def test_flatten_makes_it_stand_alone(adopted: vzarr.Repo, source: Path, tmp_path: Path):
    version, model = edited(adopted)
    done = flatten(version.view, tmp_path / "flat")
    assert done.linked == 2 * 3 * 4 - 1
    flatten(version.view, tmp_path / "copy", copy=True)
    shutil.rmtree(source)
    for name in ("flat", "copy"):
        assert np.array_equal(zarr.open_group(tmp_path / name, mode="r")["em/0"][...], model)


def test_references_name_the_source(adopted: vzarr.Repo, source: Path, tmp_path: Path):
    version, model = edited(adopted)
    refs = references(version.view)["refs"]
    assert refs["em/0/c/0/0/1"] == [f"file://{source}/c/0/0/1"]
    assert export_references(version.view, tmp_path / "refs.json") == len(refs)
    mapper = fsspec.get_mapper("reference://", fo=str(tmp_path / "refs.json"))
    assert np.array_equal(zarr.open_group(mapper, mode="r")["em/0"][...], model)


def test_only_an_open_root_adopts(adopted: vzarr.Repo, source: Path):
    with pytest.raises(AlreadyExistsError, match="em"):
        adopted.adopt("em", str(source))
    adopted.root.zarr.create_array("taken", shape=(1,), dtype="u1")
    with pytest.raises(AlreadyExistsError, match="taken"):
        adopted.adopt("taken", str(source))
    adopted.root.commit()
    with pytest.raises(InvalidInputError, match="sealed"):
        adopted.adopt("late", str(source))
    assert set(adopted.state.instances) == {"em"}


def test_what_cannot_be_adopted(repo: vzarr.Repo, tmp_path: Path, source: Path):
    with pytest.raises(NotFoundError, match="nothing at"):
        repo.adopt("em", str(tmp_path / "missing"))
    zarr.create_group(tmp_path / "group")
    with pytest.raises(InvalidInputError, match="name one of its arrays"):
        repo.adopt("em", str(tmp_path / "group"))
    with pytest.raises(InvalidInputError, match="labelmap holds"):
        repo.adopt("em", str(source), typename="labelmap")
    with pytest.raises(InvalidInputError, match="pins are"):
        repo.adopt("em", str(source), pin="ever")
    with pytest.raises(InvalidInputError, match="credentials"):
        repo.adopt("em", "https://me:secret@host/a.zarr")
    child = repo.root.commit().newversion()
    child.create_array("em/0", dtype="u1", chunks=CHUNKS, shape=SHAPE)
    child.write("em/0", (0, 0, 0), image())
    with vzarr.create(str(tmp_path / "other")) as other, pytest.raises(InvalidInputError, match="flatten"):
        other.adopt("em", f"{repo.objects.path(layout.zarr(child.commit().uuid))}/em/0~{child.uuid}~0")
    assert not repo.state.instances


def test_an_interrupted_adoption_is_finished(repo: vzarr.Repo, source: Path, monkeypatch: pytest.MonkeyPatch):
    def cut(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(vzarr.Repo, "record_instance", cut)
        with pytest.raises(KeyboardInterrupt):
            repo.adopt("em", str(source))
    assert np.array_equal(whole(repo.root), image())
    repo.adopt("em", str(source))
    assert np.array_equal(repo.root["em"].read((0, 0, 0), SHAPE), image())


def test_an_adoption_that_is_killed_anywhere_is_whole_or_not_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It dies at its n-th write, for every n; whoever looks then sees the volume, or nothing, and may try again."""
    died = True
    for n in range(100):
        with vzarr.create(str(tmp_path / f"repo{n}")) as repo:
            left = [n]

            def put(self, key, data, *, left=left, real=FileObjects.put, **options):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                real(self, key, data, **options)

            with monkeypatch.context() as patch:
                patch.setattr(FileObjects, "put", put)
                try:
                    repo.adopt("em", str(source), pin=True)
                    died = False
                except KeyboardInterrupt:
                    pass
        with vzarr.open(str(tmp_path / f"repo{n}")) as repo:
            if repo.root.has_array("em/0"):
                assert np.array_equal(whole(repo.root), image())
            if died:
                repo.adopt("em", str(source), pin=True)
            assert np.array_equal(whole(repo.root.commit()), image())
            assert not any(f.damage for f in verify(repo.objects))
        if not died:
            break
    assert n > 3
