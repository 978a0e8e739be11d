"""Batches of keys and values in each form, against what a reference server sent and the libraries of each form."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vzarr
from vzarr.errors import InvalidInputError
from vzarr.types import keyvalue, largevalues, messages, pairstreams, registry
from vzarr.types.keyvalue import KeyValue, Wanted

PAIRS = st.lists(st.tuples(st.text(max_size=120).filter(str.isalnum), st.binary(max_size=1100)), max_size=4)


def test_a_json_object():
    pairs = [("a", b'{"x": 1}'), ('quote"', None), ("empty", b"")]
    assert json.loads(b"".join(pairstreams.json_stream(pairs))) == {"a": {"x": 1}, 'quote"': {}, "empty": {}}
    assert b"".join(pairstreams.json_stream([])) == b"{}"
    pairstreams.check_json(pairs)
    with pytest.raises(InvalidInputError, match='"bad"'):
        pairstreams.check_json([("bad", b"not json")])


@given(PAIRS)
def test_a_tar_archive(pairs: list[tuple[str, bytes]]):
    body = b"".join(pairstreams.tar_stream(pairs))
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        found = [(m.name, m.mode, archive.extractfile(m).read()) for m in archive]
    assert found == [(k, 0o755, v) for k, v in pairs]


def test_a_reply_of_the_reference_server():
    pieces = pairstreams.protobuf_stream(iter([("j", b'{"x":1}'), ("zz", None)]))
    assert b"".join(pieces).hex() == "0a0c0a016a12077b2278223a317d0a040a027a7a"


@given(PAIRS)
def test_a_protobuf_message(pairs: list[tuple[str, bytes]]):
    body = b"".join(pairstreams.protobuf_stream(pairs))
    assert keyvalue.pairs_from_protobuf(body) == pairs
    whole = messages.KeyValues(kvs=[messages.KeyValue(key=k, value=v) for k, v in pairs])
    assert body == whole.SerializeToString()


@pytest.fixture
def kv(repo: vzarr.Repo, monkeypatch: pytest.MonkeyPatch) -> KeyValue:
    """With a value ``a`` of many parts."""
    monkeypatch.setattr(largevalues, "PART", 1000)
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.put("a", bytes(range(250)) * 20)
    return kv


def test_large_values_go_out_in_parts(kv: KeyValue):
    value = kv.get("a")
    for pairs in (lambda: kv.find_range("a", "z"), lambda: kv.find_many([Wanted("a")])):
        for stream in (pairstreams.json_stream, pairstreams.tar_stream, pairstreams.protobuf_stream):
            pieces = list(stream(pairs()))
            assert max(map(len, pieces)) <= 1024
            assert b"".join(pieces) == b"".join(stream([("a", value)]))
    assert [(k, p.whole()) for k, p in kv.find_many([Wanted("a", 990, 2010)])] == [("a", value[990:2011])]


def test_parts_that_are_asked_for_often_are_not_held_together(kv: KeyValue):
    wanted = [Wanted("a", 0, 4999)] * 1000
    tracemalloc.start()
    try:
        sent = sum(map(len, pairstreams.json_stream(kv.find_many(wanted))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent > 5_000_000
    assert peak < 1_000_000


def test_what_cannot_be_sent_is_told_before_the_first_piece(kv: KeyValue):
    for wrong in (Wanted("a", 0, 5000), Wanted(""), Wanted("", 0, 1)):
        with pytest.raises(InvalidInputError):
            kv.find_many([Wanted("a"), wrong])
