"""The header Range, against what RFC 9110 says of it."""

from __future__ import annotations

import pytest

from vzarr.api.errors import RangeNotSatisfiableError
from vzarr.api.ranges import parse_range


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=8-", (8, 13)),
        ("bytes=-4", (9, 13)),
        ("bytes=-40", (0, 13)),
        ("bytes=5-500", (5, 13)),
        ("bytes=12-12", (12, 13)),
        (None, None),
        ("bytes=0-1,3-4", None),
        ("bytes=x", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("items=0-3", None),
    ],
)
def test_one_range_of_bytes_counts_and_all_else_means_the_whole(header: str | None, found: tuple[int, int] | None):
    assert parse_range(header, 13) == found


@pytest.mark.parametrize(("header", "size"), [("bytes=13-", 13), ("bytes=500-", 13), ("bytes=-0", 13), ("bytes=-1", 0)])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str, size: int):
    with pytest.raises(RangeNotSatisfiableError) as caught:
        parse_range(header, size)
    assert caught.value.size == size
