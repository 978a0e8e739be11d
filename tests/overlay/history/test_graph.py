"""The drawing against drawings made by hand, and for any history: each version once, below its children."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.overlay.history.graph import draw

DRAWINGS = {
    "line": ({"c": "b", "b": "a", "a": ""}, "* c", "* b", "* a"),
    "fork": ({"c": "a", "b": "a", "a": ""}, "* c", "| * b", "|/", "* a"),
    "merge": ({"d": "bc", "c": "a", "b": "a", "a": ""}, "* d", "|\\", "| * c", "* | b", "|/", "* a"),
    "three forks": (
        {"d": "a", "c": "b", "b": "a", "e": "a", "a": ""},
        "* d", "| * c", "| * b", "| | * e", "|_|/", "|/", "* a",
    ),
    "three parents": (
        {"e": "bcd", "d": "a", "c": "a", "b": "a", "a": ""},
        "* e", "|\\", "|\\ \\", "| * | d", "| | * c", "* | | b", "|_|/", "|/", "* a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings(name: str):
    parents, *lines = DRAWINGS[name]
    drawn = [strokes if node is None else f"{strokes} {node}" for strokes, node in draw(list(parents), parents.get)]
    assert drawn == lines


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3), max_size=12))
def test_each_version_stands_once_in_the_order_given(choices: list[list[int]]):
    parents = {"0": []}
    for number, chosen in enumerate(choices, 1):
        parents[str(number)] = [str(c % number) for c in chosen]
    order = list(parents)[::-1]
    drawn = list(draw(order, parents.get))
    assert [node for _, node in drawn if node is not None] == order
    assert all(strokes.count("*") == (node is not None) for strokes, node in drawn)
