"""Protobuf messages, against bytes that a reference server sent."""

from __future__ import annotations

import pytest

from vzarr.errors import InvalidInputError
from vzarr.types import keyvalue, messages


def test_a_request_for_two_keys():
    wanted = keyvalue.wanted_from_protobuf(bytes.fromhex("0a016a0a027a7a"))
    assert wanted == [keyvalue.Wanted("j"), keyvalue.Wanted("zz")]


def test_other_bytes_are_refused():
    with pytest.raises(InvalidInputError, match="KeyValues"):
        messages.parse(messages.KeyValues, b"\xff\xff\xff not protobuf")


def test_a_map_is_written_with_its_zeros():
    message = messages.LabelIndex(label=100)
    message.blocks[0].counts[100] = 5
    assert message.SerializeToString().hex() == "0a0a080012060a04086410051064"
