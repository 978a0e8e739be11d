"""The page for operators names every setting and no verb that is not there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from vzarr.cli import VERBS
from vzarr.config import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def test_every_setting_is_there_and_no_other():
    named = set(re.findall(r"VZARR_\w+", PAGE))
    assert named == {f"VZARR_{field.name.upper()}" for field in fields(Settings)}


def test_every_verb_is_one():
    commands = [line for line in PAGE.splitlines() if line.startswith("$ ")] + re.findall(r"`[^`\n]+`", PAGE)
    verbs = {verb for command in commands for verb in re.findall(r"\bvzarr ([a-z][a-z-]+)", command)}
    assert len(verbs) > 6
    assert verbs <= set(VERBS)
