"""What queries can say, and what holds."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.neuronjson.queries import LONGEST_PATTERN, Pattern, Query

RECORD = {
    "bodyid": 7,
    "type": "KCab",
    "group": 2,
    "score": 1.5,
    "soma": True,
    "tags": ["x", "y", 3],
    "note": "",
    "o": {},
}


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ({"type": "KCab"}, True),
        ({"type": "KC"}, False),
        ({"type": ["PN", "KCab"]}, True),
        ({"type": []}, False),
        ({"type": "re/^KC"}, True),
        ({"type": "re/b"}, True),
        ({"type": "re/^b"}, False),
        ({"type": ["re/^PN", "KCab"]}, True),
        ({"group": 2}, True),
        ({"group": 2.0}, True),
        ({"group": "2"}, False),
        ({"group": True}, False),
        ({"soma": True}, True),
        ({"soma": 1}, False),
        ({"score": 1.5}, True),
        ({"tags": "y"}, True),
        ({"tags": 3}, True),
        ({"tags": ["z", "x"]}, True),
        ({"tags": "re/^y$"}, True),
        ({"note": ""}, True),
        ({"note": "exists/1"}, True),
        ({"o": "exists/1"}, True),
        ({"gone": "exists/1"}, False),
        ({"gone": "exists/0"}, True),
        ({"gone": 1}, False),
        ({"bodyid": 7}, True),
        ({"bodyid": [1, 7]}, True),
        ({"bodyid": 7, "type": "PN"}, False),
        ({}, False),
        ([{}, {"type": "KCab"}], True),
        ([{"type": "PN"}, {"group": 3}], False),
    ],
)
def test_what_holds(query: object, holds: bool):
    assert Query.parse(query).holds(RECORD) is holds


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([], "no query provided"),
        ("type", "should be a JSON object"),
        (None, "should be a JSON object"),
        ([{"type": "a"}, 5], "should be a JSON object"),
        ({"type": None}, '"exists/0" for none'),
        ({"type": {"a": 1}}, "ask for text"),
        ({"type": [["a"]]}, "ask for text"),
        ({"type": "exists/2"}, "exists/1 or exists/0"),
        ({"type": "\ud800"}, "UTF-8"),
        ({"\ud800": 1}, "UTF-8"),
        ({"type": "re/("}, "no regular expression"),
        ({"type": "re/((a{100}){100}){100}"}, "no regular expression"),
        ({"type": "re/" + "\\p{L}{500}" * 5}, "too large"),
        ({"type": "re/(?=a)"}, "no regular expression"),
        ({"type": "re/" + "a" * (LONGEST_PATTERN + 1)}, "at most 4096 characters"),
    ],
)
def test_what_is_no_query(query: object, said: str):
    with pytest.raises(InvalidInputError, match=said):
        Query.parse(query)


def test_a_pattern_that_backtracks_for_ages_elsewhere_does_not_here():
    began = time.process_time()
    for pattern in ("(a+)+$", "(a|aa)+$", "(.*a){20}$"):
        assert not Pattern.parse(pattern).found_in(b"a" * 50_000 + b"!")
    assert time.process_time() - began < 2


@given(st.from_regex(r"\^[a-cX-Z.]{0,4}[*+?]?[ab$]{0,2}", fullmatch=True), st.text("abcXYZ.", max_size=6))
def test_whatever_matches_lies_within_the_bounds(pattern: str, text: str):
    try:
        parsed = Pattern.parse(pattern)
    except InvalidInputError:
        return
    bounds = parsed.bounds()
    if bounds is not None and parsed.found_in(text.encode()):
        assert bounds[0] <= text.encode() <= bounds[1]


def test_only_patterns_that_must_match_from_the_start_have_bounds():
    low, high = Pattern.parse("^KC").bounds()
    assert (low[:2], high[:2]) == (b"KC", b"KC")
    for text in ("KC", "^KC|PN", "^*KC", "(?m)^KC", "^?KC"):
        assert Pattern.parse(text).bounds() is None


def test_a_query_for_bodies_alone_keeps_their_order():
    assert Query.parse([{"bodyid": [9, 3]}, {"bodyid": 3}, {"bodyid": 1}]).bodies() == [9, 3, 1]
    for query in ({"bodyid": 1, "a": 2}, {"bodyid": "exists/1"}, {"bodyid": "re/1"}, {}, [{"bodyid": 1}, {"a": 1}]):
        assert Query.parse(query).bodies() is None
