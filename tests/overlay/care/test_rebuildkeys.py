"""Keys that were lost are made again from the folders; what was open then is refused, never shown as empty."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from tests.overlay.keys.test_repokeys import KEYS, look
from vzarr.cli import main
from vzarr.errors import AuthorityUnavailableError, InvalidInputError, StorageError
from vzarr.overlay import layout
from vzarr.overlay.care.doctor import Level, examine
from vzarr.overlay.care.rebuildkeys import SPARED_MUTATIONS, rebuild
from vzarr.overlay.care.verify import verify
from vzarr.overlay.opening import open_objects
from vzarr.types import registry
from vzarr.types.labelmap import allocate


def lose(folder: Path) -> None:
    """Remove the database, as somebody does who takes it for a cache; SQLite's other files may stay."""
    (folder / layout.database()).unlink()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repo with a sealed root and an open child, both with keys, versioned and not; closed."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        notes = repo.record_instance(repo.root, "notes", "keyvalue")
        loose = repo.record_instance(repo.root, "loose", "keyvalue", versioned=False)
        repo.root.create_array("a", dtype="u1", chunks=(4,), shape=(8,), dimension_names=None)
        repo.root.transact(notes, lambda tx: tx.put(b"a", b"1"))
        repo.root.transact(loose, lambda tx: (tx.put(b"x", b"1"), tx.put(b"y", b"1")))
        child = repo.root.commit().newversion()
        child.transact(notes, lambda tx: (tx.put(b"a", b"2"), tx.put(b"b", b"2")))
        child.transact(loose, lambda tx: tx.put(b"x", b"2"))
        child.write("a", (0,), np.full(4, 9, "u1"))
    return tmp_path / "repo"


def test_a_lost_database_is_not_opened_empty(folder: Path, capsys: pytest.CaptureFixture[str]):
    lose(folder)
    with vzarr.open(str(folder)) as repo:
        assert repo.root.keys("notes").get(b"a") == b"1"
        assert dict(repo.root.keys("loose").scan()) == {b"x": b"1", b"y": b"1"}
        with pytest.raises(AuthorityUnavailableError, match="vzarr rebuild-keys"):
            repo["master"]
    assert not (folder / layout.database()).exists()
    remarks = {r.topic: r for r in examine(open_objects(folder))}
    assert remarks["keys"].level is Level.problem
    assert "vzarr rebuild-keys" in remarks["keys"].message
    assert main(["commit", str(folder)]) == 1
    assert "vzarr rebuild-keys" in capsys.readouterr().err


def test_who_rebuilds_is_told_of_when_unversioned_keys_are(folder: Path, capsys: pytest.CaptureFixture[str]):
    with vzarr.open(str(folder)) as repo:
        repo.record_instance(repo["master"], "later", "keyvalue", versioned=False)
        written = repo["master"].keys("loose").get(b"x")
    lose(folder)
    assert main(["rebuild-keys", str(folder), "--json"]) == 0
    told = dict(json.loads(capsys.readouterr().out)["unversioned"])
    assert told["later"] == ""
    assert told["loose"].startswith("20")
    assert main(["rebuild-keys", str(folder)]) == 0
    assert "unversioned" not in capsys.readouterr().out
    with vzarr.open(str(folder)) as repo:
        assert (written, repo.root.keys("loose").get(b"x")) == (b"2", b"1")
    lose(folder)
    assert main(["rebuild-keys", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"unversioned instance loose: its keys are as of the snapshot at {told['loose']}" in said
    assert "unversioned instance later: there is no snapshot" in said


def test_a_new_repo_that_was_cut_off_is_opened(tmp_path: Path):
    vzarr.create(str(tmp_path / "repo")).close()
    lose(tmp_path / "repo")
    with vzarr.open(str(tmp_path / "repo")) as repo:
        repo.root.commit()


def test_what_was_open_is_refused_until_its_loss_is_accepted(folder: Path, capsys: pytest.CaptureFixture[str]):
    lose(folder)
    assert main(["rebuild-keys", str(folder)]) == 0
    said = capsys.readouterr().out
    with vzarr.open(str(folder)) as repo:
        child = repo["master"]
        assert child.uuid in said
        for attempt in (
            lambda: child.keys("notes"),
            lambda: child.transact(child.instance_info("notes"), lambda tx: tx.put(b"a", b"3")),
            lambda: child.read("a", (0,), (4,)),
            lambda: child.write("a", (0,), np.zeros(4, "u1")),
            lambda: child.zarr["a"],
            lambda: child.commit(),
        ):
            with pytest.raises(AuthorityUnavailableError, match=f"{child.uuid} was open .* --accept-loss"):
                attempt()
        assert repo[f"{child.uuid}@sealed"].keys("notes").get(b"a") == b"1"
        lost = {r.topic: r for r in examine(repo.objects)}["lost"]
        assert lost.level is Level.problem
    assert main(["rebuild-keys", str(folder), "--accept-loss", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] == [child.uuid]
    with vzarr.open(str(folder)) as repo:
        child = repo["master"]
        assert dict(child.keys("notes").scan()) == {b"a": b"1"}
        assert dict(child.keys("loose").scan()) == {b"x": b"1", b"y": b"1"}
        assert child.read("a", (0,), (8,)).tolist() == [9] * 4 + [0] * 4
        assert "lost" in child.info.log[-1]
        child.commit()
        assert not [f for f in verify(repo.objects) if f.damage]


@settings(max_examples=8)
@given(st.data())
def test_every_version_has_its_keys_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.mktemp("random") / "repo"
    with vzarr.create(str(folder)) as repo:
        info = repo.record_instance(repo.root, "notes", "keyvalue")
        sealed, tips = [], [repo.root]
        for _ in range(data.draw(st.integers(1, 6))):
            tip = tips.pop(data.draw(st.integers(0, len(tips) - 1)))
            for key, value in data.draw(st.dictionaries(KEYS, st.none() | st.binary(max_size=2), max_size=3)).items():
                tip.transact(info, lambda tx, k=key, v=value: tx.delete(k) if v is None else tx.put(k, v))
            sealed.append(tip.commit())
            if len(sealed) > 1 and data.draw(st.booleans()):
                pair = data.draw(st.lists(st.sampled_from(sealed), min_size=2, max_size=2, unique_by=lambda v: v.uuid))
                tips.append(repo.merge(pair, keep_conflicts=True))
            tips.append(tip.branch(f"b{len(sealed)}"))
        before = {v.uuid: look(v.keys(info)) for v in sealed}
        written = {v.uuid: list(repo.keys.changes(v.uuid, info)) for v in sealed}
    lose(folder)
    done = rebuild(open_objects(folder))
    assert (done.restored, done.versions) == (True, len(sealed))
    with vzarr.open(str(folder)) as repo:
        info = repo.root.instance_info("notes")
        assert {node: look(repo[node].keys(info)) for node in before} == before
        assert {node: list(repo.keys.changes(node, info)) for node in before} == written
    shutil.rmtree(folder)


def test_ids_go_on_above_all_that_were_given(tmp_path: Path):
    folder = tmp_path / "repo"
    with vzarr.create(str(folder)) as repo:
        notes = repo.record_instance(repo.root, "notes", "keyvalue")
        seg = registry.create(repo.root, "seg", "labelmap")
        assert allocate.reserve(seg, 7) == (1, 7)
        given = [repo.root.transact(notes, lambda tx: tx.next_mutation_id()) for _ in range(3)]
        child = repo.root.commit().newversion()
        given.append(child.transact(notes, lambda tx: tx.next_mutation_id()))
    lose(folder)
    rebuild(open_objects(folder), accept_loss=True)
    with vzarr.open(str(folder)) as repo:
        child = repo["master"]
        assert given[-1] < child.transact(notes, lambda tx: tx.next_mutation_id()) <= given[-1] + SPARED_MUTATIONS
        assert allocate.reserve(child["seg"], 1) == (8, 8)


@pytest.mark.parametrize("harm", ["head", "middle", "empty", "cut"])
def test_a_damaged_database_is_named_and_kept_aside(folder: Path, harm: str):
    path = folder / layout.database()
    data = bytearray(path.read_bytes())
    if harm == "empty":
        data = bytearray()
    elif harm == "cut":
        data = data[:4096]
    else:
        at = 0 if harm == "head" else 4096
        data[at : at + 100] = b"\x55" * 100
    path.write_bytes(data)
    with (
        vzarr.open(str(folder)) as repo,
        pytest.raises((AuthorityUnavailableError, StorageError), match="vzarr rebuild-keys"),
    ):
        dict(repo["master"].keys("notes").scan())
    keys = [r for r in examine(open_objects(folder)) if r.topic == "keys"]
    assert keys[-1].level is Level.problem
    assert "vzarr rebuild-keys" in keys[-1].message
    done = rebuild(open_objects(folder), accept_loss=True)
    assert Path(done.aside).read_bytes() == data
    with vzarr.open(str(folder)) as repo:
        assert dict(repo["master"].keys("notes").scan()) == {b"a": b"1"}


def test_an_old_log_is_not_written_into_the_new_database(folder: Path):
    """What SQLite left beside a database that somebody removed would be taken for the new one's."""
    path = folder / layout.database()
    with vzarr.open(str(folder)) as repo:
        repo["master"].transact(repo.root.instance_info("notes"), lambda tx: tx.put(b"z", b"9"))
        log = Path(f"{path}-wal").read_bytes()
    path.unlink()
    Path(f"{path}-wal").write_bytes(log)
    rebuild(open_objects(folder), accept_loss=True)
    with vzarr.open(str(folder)) as repo:
        assert dict(repo["master"].keys("notes").scan()) == {b"a": b"1"}


def test_sound_keys_are_left_alone(folder: Path):
    with vzarr.open(str(folder)) as repo:
        done = repo.rebuild_keys()
    assert (done.restored, done.lost) == (False, ())
    with vzarr.open(str(folder)) as repo:
        assert repo["master"].keys("notes").get(b"b") == b"2"
    with pytest.raises(InvalidInputError, match="in their place"):
        rebuild(open_objects(folder), keys=f"sqlite:///{folder}/../elsewhere.sqlite")


def test_keys_move_to_a_new_place_when_the_old_one_is_lost(folder: Path, tmp_path: Path):
    lose(folder)
    rebuild(open_objects(folder), keys=f"sqlite:///{tmp_path}/keys.sqlite", accept_loss=True)
    assert not (folder / layout.database()).exists()
    with vzarr.open(str(folder)) as repo:
        assert dict(repo["master"].keys("notes").scan()) == {b"a": b"1"}
        repo["master"].commit()
    (tmp_path / "keys.sqlite").unlink()
    with vzarr.open(str(folder)) as repo, pytest.raises(AuthorityUnavailableError):
        repo.root.keys("notes").get_with_version(b"a")
    assert rebuild(open_objects(folder)).restored


def test_nothing_is_rebuilt_under_a_running_process(folder: Path):
    other = subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    with other:
        other.stdout.readline()
        lose(folder)
        with pytest.raises(InvalidInputError, match="1 other processes use"):
            rebuild(open_objects(folder))
        other.kill()
    assert rebuild(open_objects(folder)).restored


WRITER = """
import sys, time, vzarr
with vzarr.open(sys.argv[1]) as repo, repo["master"].writing():
    print("writing", flush=True)
    time.sleep(60)
"""
