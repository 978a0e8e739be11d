"""Protobuf messages, against bytes that a reference server sent."""

from __future__ import annotations

import pytest

from vzarr.errors import InvalidInputError
from vzarr.types import keyvalue, messages


def test_a_request_for_two_keys():
    wanted = keyvalue.wanted_from_protobuf(bytes.fromhex("0a016a0a027a7a"))
    assert wanted == [keyvalue.Wanted("j"), keyvalue.Wanted("zz")]


def test_a_reply_in_pieces_is_one_message():
    pieces = messages.keyvalues_stream(iter([("j", b'{"x":1}'), ("zz", None)]))
    assert b"".join(pieces).hex() == "0a0c0a016a12077b2278223a317d0a040a027a7a"


def test_an_empty_value_reads_like_an_absent_one():
    body = b"".join(messages.keyvalues_stream(iter([("a", b"")])))
    assert keyvalue.pairs_from_protobuf(body) == [("a", b"")]


def test_other_bytes_are_refused():
    with pytest.raises(InvalidInputError, match="KeyValues"):
        messages.parse(messages.KeyValues, b"\xff\xff\xff not protobuf")


def test_a_map_is_written_with_its_zeros():
    message = messages.LabelIndex(label=100)
    message.blocks[0].counts[100] = 5
    assert message.SerializeToString().hex() == "0a0a080012060a04086410051064"
