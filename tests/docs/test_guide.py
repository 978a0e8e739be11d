"""The guide to vzarr in Python says what happens: its examples are run."""

from __future__ import annotations

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_of_the_guide_run_as_they_stand():
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    failed, tried = doctest.testfile(str(GUIDE), module_relative=False, optionflags=options)
    assert tried > 30
    assert failed == 0
