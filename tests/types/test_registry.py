"""Datatypes by entry point, and instances made from settings."""

from __future__ import annotations

import pytest

from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError, SealedError, UnsupportedError
from vzarr.types import registry
from vzarr.types.keyvalue import KEYVALUE, KeyValue


def test_builtin_types_enter_by_their_entry_points():
    assert {"keyvalue", "labelmap", "uint8blk"} <= set(registry.names())
    assert registry.get("keyvalue") is KEYVALUE
    with pytest.raises(NotFoundError, match="nosuch"):
        registry.get("nosuch")


def test_an_instance_is_made_from_one_object_of_settings(repo):
    made = registry.create_from_settings(
        repo.root, {"typename": "keyvalue", "DataName": "stuff", "Tags": "a=1,b=2", "versioned": "false"}
    )
    assert isinstance(made, KeyValue)
    base = registry.open_instance(repo.root, "stuff").info_json()["Base"]
    assert len(base.pop("DataUUID")) == 32
    assert base == {
        "TypeName": "keyvalue",
        "TypeURL": "github.com/janelia-flyem/dvid/datatype/keyvalue",
        "TypeVersion": "0.2",
        "Name": "stuff",
        "RepoUUID": repo.root.uuid,
        "Compression": "LZ4 compression, level -1",
        "Checksum": "No checksum",
        "Syncs": [],
        "Versioned": False,
        "KVStore": "vzarr",
        "LogStore": "vzarr",
        "Tags": {"a": "1", "b": "2"},
    }


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"typename": "keyvalue"},
        {"typename": "", "dataname": "x"},
        {"typename": "keyvalue", "dataname": "log"},
        {"typename": "keyvalue", "dataname": "a", "Compression": "bogus"},
        {"typename": "keyvalue", "dataname": "a", "Checksum": "md5"},
        {"typename": "uint8blk", "dataname": "a", "Background": 7},
        {"typename": "uint8blk", "dataname": "a", "Background": "many"},
        {"typename": "uint8blk", "dataname": "a", "BlockSize": "a,b,c"},
    ],
)
def test_wrong_settings_leave_nothing_behind(repo, settings):
    with pytest.raises(InvalidInputError):
        registry.create_from_settings(repo.root, settings)
    assert not repo.state.instances


def test_a_name_is_taken_once(repo):
    registry.create(repo.root, "stuff", "keyvalue")
    with pytest.raises(AlreadyExistsError):
        registry.create(repo.root, "stuff", "uint8blk")


def test_tags_and_syncs_belong_to_types_that_have_them(repo):
    gray = registry.create(repo.root, "gray", "uint8blk")
    with pytest.raises(UnsupportedError):
        gray.tagged({"a": "1"})
    with pytest.raises(UnsupportedError, match="not syncable"):
        gray.synced(["gray"])
    stuff = registry.create(repo.root, "stuff", "keyvalue")
    assert stuff.tagged({"a": "1"}).tagged({"b": "2"}).info.tags == {"a": "1", "b": "2"}
    assert stuff.tagged({"c": "3"}, replace_all=True).info.tags == {"c": "3"}
    with pytest.raises(InvalidInputError):
        stuff.tagged({"a": 1})


def test_tags_of_a_sealed_version_can_change(repo):
    stuff = registry.create(repo.root, "stuff", "keyvalue")
    repo.root.commit("done")
    stuff.tagged({"late": "yes"})
    assert registry.open_instance(repo.root, "stuff").info.tags == {"late": "yes"}
    with pytest.raises(SealedError):
        registry.create(repo.root, "more", "keyvalue")
