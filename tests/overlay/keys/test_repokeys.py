"""Keys of sealed versions, read from folders alone, are those that the key store gives: through any history."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import AuthorityUnavailableError, ConflictError
from vzarr.overlay import layout
from vzarr.overlay.care.verify import verify
from vzarr.overlay.keys import keylayers
from vzarr.overlay.kv.sealed import Stack
from vzarr.overlay.sealing.seal import load_record

KEYS = st.sampled_from([b"a", b"b\0", b"c", b"d/e"])


def from_folders(version: vzarr.Version, name: str) -> dict[bytes, bytes | type[ConflictError]]:
    """Keys of an instance as the folders of a sealed version give them."""
    objects = version.repo.objects
    record = load_record(objects, layout.seal(version.uuid), version.info.seal)
    stack = keylayers.read(objects, record.layers).get(version.instance_info(name).data_uuid, Stack())
    assert len(stack.layers) < 8
    return look(keylayers.keys_of(objects, stack))


def look(keys) -> dict[bytes, bytes | type[ConflictError]]:
    found = {}
    for key in (b"a", b"b\0", b"c", b"d/e"):
        try:
            value = keys.get(key)
        except ConflictError:
            value = ConflictError
        if value is not None:
            found[key] = value
    if ConflictError in found.values():
        with pytest.raises(ConflictError):
            list(keys.scan())
    else:
        assert dict(keys.scan()) == found
    return found


@settings(max_examples=25)
@given(st.data())
def test_folders_say_what_the_key_store_says(data: st.DataObject):
    with vzarr.create(f"memory://{uuid4().hex}") as repo:
        info = repo.record_instance(repo.root, "notes", "keyvalue")
        sealed = []
        tips = [repo.root]
        for _ in range(data.draw(st.integers(1, 7))):
            tip = tips.pop(data.draw(st.integers(0, len(tips) - 1)))
            for key, value in data.draw(st.dictionaries(KEYS, st.none() | st.binary(max_size=2), max_size=3)).items():
                tip.transact(info, lambda tx, k=key, v=value: tx.delete(k) if v is None else tx.put(k, v))
            sealed.append(tip.commit())
            if len(sealed) > 1 and data.draw(st.booleans()):
                others = data.draw(
                    st.lists(st.sampled_from(sealed), min_size=2, max_size=3, unique_by=lambda v: v.uuid)
                )
                tips.append(repo.merge(others, keep_conflicts=True))
            tips.append(tip.branch(f"b{len(sealed)}"))
            for version in sealed:
                assert from_folders(version, "notes") == look(version.keys(info))


def test_a_repo_without_its_keys_is_read_from_folders(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        info = repo.record_instance(repo.root, "notes", "keyvalue")
        repo.record_instance(repo.root, "loose", "keyvalue", versioned=False)
        repo.root.transact(info, lambda tx: (tx.put(b"a", b"1"), tx.put(b"c", b"2")))
        child = repo.root.commit().newversion()
        child.transact(info, lambda tx: (tx.put(b"a", b"3"), tx.delete(b"c")))
        tagged = child.commit().tag("v1")
        child.newversion()
        assert not list(verify(repo.objects))
    shutil.rmtree(tmp_path / "repo" / "keys")
    (tmp_path / "repo" / "keys").write_text("in the way")
    with vzarr.open(str(tmp_path / "repo")) as repo:
        assert dict(repo[tagged.uuid].keys("notes").scan()) == {b"a": b"3"}
        assert repo.root.keys("notes").get_many([b"a", b"b", b"c"]) == [b"1", None, b"2"]
        assert repo.diff(repo.root, "v1").keys == {"notes": 2}
        with pytest.raises(AuthorityUnavailableError, match="loose"):
            repo["v1"].keys("loose")
        with pytest.raises(AuthorityUnavailableError):
            repo["v1"].keys("notes").get_with_version(b"a")


def test_versions_that_change_no_keys_share_the_list(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        info = repo.record_instance(repo.root, "notes", "keyvalue")
        repo.root.transact(info, lambda tx: tx.put(b"a", b"1"))
        child = repo.root.commit().newversion().commit()
        assert repo.objects.get(layout.key_layers(child.uuid)) is None
        assert from_folders(child, "notes") == {b"a": b"1"}


def test_a_damaged_layer_is_found(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        info = repo.record_instance(repo.root, "notes", "keyvalue")
        repo.root.transact(info, lambda tx: tx.put(b"a", b"1"))
        repo.root.commit()
        (tmp_path / "repo" / layout.key_layers(repo.uuid)).write_bytes(b"{}")
        assert "layers-differs" in {f.name for f in verify(repo.objects)}
