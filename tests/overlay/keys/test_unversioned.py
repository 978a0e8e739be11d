"""Keys outside of versions: each commit leaves a snapshot of them, for who has no keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zarr

import vzarr
from vzarr.errors import FormatError, InvalidInputError
from vzarr.overlay import layout
from vzarr.overlay.care import gc
from vzarr.overlay.care.verify import verify
from vzarr.overlay.keys import unversioned


def folders(repo: vzarr.Repo) -> list[str]:
    return repo.objects.list_dir(f"{layout.node(layout.UNVERSIONED)}/keys")[0]


def test_a_commit_takes_a_snapshot_of_what_changed(repo: vzarr.Repo):
    loose = repo.record_instance(repo.root, "loose", "keyvalue", versioned=False)
    other = repo.record_instance(repo.root, "other", "keyvalue", versioned=False)
    repo.root.transact(loose, lambda tx: (tx.put(b"a", b"1"), tx.put(b"b", b"1")))
    repo.root.transact(other, lambda tx: tx.put(b"x", b"1"))
    child = repo.root.commit().newversion()
    first = unversioned.read(repo.objects)
    assert dict(first[loose.data_uuid].open(repo.objects).scan()) == {b"a": b"1", b"b": b"1"}
    child.transact(loose, lambda tx: (tx.delete(b"a"), tx.put(b"b", b"2")))
    child = child.commit().newversion()
    second = unversioned.read(repo.objects)
    assert second[other.data_uuid] == first[other.data_uuid]
    assert second[loose.data_uuid].time > first[loose.data_uuid].time
    assert dict(second[loose.data_uuid].open(repo.objects).scan()) == {b"b": b"2"}
    # Who has just read the list may still open the one before.
    assert dict(first[loose.data_uuid].open(repo.objects).scan()) == {b"a": b"1", b"b": b"1"}
    before = set(repo.objects.walk(layout.node(layout.UNVERSIONED)))
    child.commit()
    assert set(repo.objects.walk(layout.node(layout.UNVERSIONED))) == before


def test_old_snapshots_go(repo: vzarr.Repo):
    loose = repo.record_instance(repo.root, "loose", "keyvalue", versioned=False)
    version = repo.root
    for n in range(4):
        version.transact(loose, lambda tx, n=n: tx.put(b"a", b"%d" % n))
        version = version.commit().newversion()
    assert len(folders(repo)) == 2
    assert not list(verify(repo.objects))
    assert not gc.find(repo.objects, repo.authority, repo.state, 0)


def put_outside(repo: vzarr.Repo, instance: str, value: bytes) -> None:
    keys = repo.keys.versioned
    repo.authority.kv.transact(
        lambda txn: keys.within(txn, bytes.fromhex(instance), unversioned.POSITION).put(b"a", value)
    )


def test_what_a_versioned_instance_keeps_outside_stands_in_the_list(repo: vzarr.Repo):
    seg = repo.record_instance(repo.root, "seg", "keyvalue")
    put_outside(repo, seg.data_uuid, b"1")
    child = repo.root.commit().newversion()
    first = unversioned.read(repo.objects)[seg.data_uuid]
    assert dict(first.open(repo.objects).scan()) == {b"a": b"1"} == dict(first.open(repo.objects).scan(b"a", b"b"))
    put_outside(repo, seg.data_uuid, b"2")
    child = child.commit().newversion()
    assert dict(unversioned.read(repo.objects)[seg.data_uuid].open(repo.objects).scan()) == {b"a": b"2"}
    assert not folders(repo)
    assert not list(verify(repo.objects))
    put_outside(repo, seg.data_uuid, b"x" * unversioned.LISTED)
    child = child.commit().newversion()
    assert len(folders(repo)) == 1
    put_outside(repo, seg.data_uuid, b"3")
    child = child.commit().newversion()
    last = unversioned.read(repo.objects)[seg.data_uuid]
    assert last.rows == {b"a".hex(): b"3".hex()}
    assert [last.before] == folders(repo)  # for who has just read the list
    put_outside(repo, seg.data_uuid, b"4")
    child.commit()
    assert not folders(repo)
    assert not gc.find(repo.objects, repo.authority, repo.state, 0)
    listed = json.loads(repo.objects.get(layout.unversioned()) or b"")
    listed["instances"][seg.data_uuid]["rows"]["61"] = b"5".hex()
    repo.objects.put(layout.unversioned(), json.dumps(listed).encode())
    assert [f.name for f in verify(repo.objects)] == ["snapshots-differ"]


def test_a_change_meanwhile_is_in_the_next_snapshot(repo: vzarr.Repo):
    loose = repo.record_instance(repo.root, "loose", "keyvalue", versioned=False)
    instance = bytes.fromhex(loose.data_uuid)
    repo.root.transact(loose, lambda tx: tx.put(b"a", b"1"))
    keys = repo.keys.versioned
    turn = b"snapshot of somebody who was killed"
    assert repo.authority.kv.transact(unversioned._mark(keys, turn)) == [instance]
    repo.root.transact(loose, lambda tx: tx.put(b"a", b"2"))
    repo.authority.kv.transact(unversioned._unmark([instance], turn))
    repo.root.commit()
    assert dict(unversioned.read(repo.objects)[loose.data_uuid].open(repo.objects).scan()) == {b"a": b"2"}


def test_nobody_else_is_called_so(repo: vzarr.Repo, tmp_path: Path):
    repo.root.commit()
    with pytest.raises(InvalidInputError, match="belongs to no version"):
        repo.root.tag("unversioned")
    with pytest.raises(InvalidInputError, match="belongs to no version"):
        vzarr.create(str(tmp_path / "new"), root="unversioned")


def test_a_damaged_list_is_an_error(file_repo: vzarr.Repo):
    loose = file_repo.record_instance(file_repo.root, "loose", "keyvalue", versioned=False)
    file_repo.root.transact(loose, lambda tx: tx.put(b"a", b"1"))
    file_repo.root.commit()
    path = Path(file_repo.objects.path(layout.unversioned()))
    plain = json.loads(path.read_bytes())
    name = plain["instances"][loose.data_uuid]["name"]
    assert zarr.open_group(path.parent / name, mode="r")["values"][:].tobytes() == b"1"
    path.write_text(json.dumps({**plain, "format": 99}))
    with pytest.raises(FormatError, match="upgrade vzarr"):
        unversioned.read(file_repo.objects)
    path.write_text("{}")
    with pytest.raises(FormatError, match="damaged"):
        unversioned.read(file_repo.objects)


@pytest.mark.parametrize("field", ["name", "before"])
def test_no_name_of_a_stranger_leads_out_of_the_folder(repo: vzarr.Repo, field: str):
    """Snapshots are copied and removed by the names that their list has."""
    seg = repo.record_instance(repo.root, "seg", "keyvalue")
    put_outside(repo, seg.data_uuid, b"1")
    repo.root.commit()
    listed = json.loads(repo.objects.get(layout.unversioned()) or b"")
    listed["instances"][seg.data_uuid][field] = "../../../victim"
    repo.objects.put(layout.unversioned(), json.dumps(listed).encode())
    with pytest.raises(FormatError, match="victim"):
        unversioned.read(repo.objects)
