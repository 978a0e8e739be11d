"""What installed packages offer."""

from __future__ import annotations

from importlib import metadata

import pytest

from vzarr import plugins


def test_all_groups_are_found_by_one_look_at_the_installed_packages(monkeypatch: pytest.MonkeyPatch):
    looks = []
    find = metadata.entry_points
    monkeypatch.setattr(plugins, "entry_points", lambda: looks.append(1) or find())
    plugins.forget()
    assert plugins.offered("vzarr.types")["labelmap"].value.startswith("vzarr.types.labelmap")
    assert {"labelmap", "keyvalue"} <= set(plugins.offered("vzarr.routers"))
    assert plugins.offered("vzarr.nothing") == {}
    assert len(looks) == 1
