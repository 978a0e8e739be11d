"""Settings: what DVID's clients send as strings, and what is refused."""

from __future__ import annotations

import pytest

from vzarr.errors import InvalidInputError
from vzarr.types import settings


def test_keys_become_lower_case_and_values_must_be_strings():
    assert settings.lower_keys({"BlockSize": "8,8,8", "versioned": False}) == {
        "blocksize": "8,8,8",
        "versioned": "false",
    }
    with pytest.raises(InvalidInputError, match="Setting for 'MaxDownresLevel' was not a string: 3"):
        settings.lower_keys({"MaxDownresLevel": 3})
    with pytest.raises(InvalidInputError, match="IndexedLabels"):
        settings.lower_keys({"IndexedLabels": True})


@pytest.mark.parametrize("name", ["log", "branch", "note", "commit", "newversion"])
def test_reserved_names_are_refused_in_dvids_words(name: str):
    with pytest.raises(InvalidInputError, match=f'cannot use reserved name "{name}"'):
        settings.check_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", ".hidden", "..", "__x", "zarr.json", "c", "a\nb", "x" * 201])
def test_names_that_are_no_node_of_a_zarr_hierarchy_are_refused(name: str):
    with pytest.raises(InvalidInputError):
        settings.check_name(name)


@pytest.mark.parametrize("name", ["grayscale", "bad name!", "été", "seg_1", "a.b"])
def test_other_names_pass(name: str):
    assert settings.check_name(name) == name


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("FALSE", False), ("0", False), ("", True)])
def test_booleans(text: str, value: bool):
    assert settings.boolean({"k": text}, "k", True) is value


def test_a_boolean_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match="true or false"):
        settings.boolean({"k": "maybe"}, "k", True)


@pytest.mark.parametrize("text", ["x", "1.5", "", "-1", "256", "1_0", "٣"])
def test_a_whole_number_keeps_to_its_range(text: str):
    with pytest.raises(InvalidInputError):
        settings.integer({"k": text}, "k", 0, 0, 255)


def test_numbers_per_axis():
    assert settings.integers({"k": "32, 16,8"}, "k", (64, 64, 64), 1, 1024) == (32, 16, 8)
    assert settings.integers({"k": "32,16"}, "k", (64, 64, 64), 1, 1024) == (32, 16, 64)
    assert settings.integers({}, "k", (64, 64, 64), 1, 1024) == (64, 64, 64)
    assert settings.floats({"k": "4"}, "k", (8.0, 8.0, 8.0)) == (4.0, 4.0, 4.0)
    assert settings.floats({"k": "4,8,40.5"}, "k", (8.0, 8.0, 8.0)) == (4.0, 8.0, 40.5)
    for bad in ("1,2,3,4", "a,b,c", "0", "-1,1,1", "nan", "inf"):
        with pytest.raises(InvalidInputError):
            settings.floats({"k": bad}, "k", (8.0, 8.0, 8.0))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none", "No compression, level -1"),
        ("snappy", "Go Snappy compression, level -1"),
        ("lz4", "LZ4 compression, level -1"),
        ("gzip", "gzip compression, level -1"),
        ("gzip:9", "gzip compression, level 9"),
        ("jpeg", "jpeg compression, level 16"),
    ],
)
def test_compressions_have_dvids_texts(name: str, text: str):
    assert settings.compression_text(settings.compression({"compression": name}, "lz4"), 16) == text


@pytest.mark.parametrize("name", ["bogus", "jpeg:80", "gzip:10", "gzip:0", "lz4:1"])
def test_other_compressions_are_refused(name: str):
    with pytest.raises(InvalidInputError, match="Illegal compression specified"):
        settings.compression({"compression": name}, "lz4")


def test_tags_are_pairs():
    assert settings.pairs("type=raw, stage=test=1") == {"type": "raw", "stage": "test=1"}
    assert settings.pairs("") == {}
    with pytest.raises(InvalidInputError, match="key=value"):
        settings.pairs("novalue")
