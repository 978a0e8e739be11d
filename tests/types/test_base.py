"""What every handle on an instance can do."""

from __future__ import annotations

import vzarr
from vzarr.types import registry


def test_an_instance_shows_itself_in_a_notebook():
    with vzarr.create("memory://instance-html") as repo:
        shown = registry.create(repo.root, "remarks", "keyvalue")._repr_html_()
        assert "<b>remarks</b> (keyvalue)" in shown
        assert "on master, open" in shown
        assert "<td>compression</td><td>lz4</td>" in shown


def test_an_instance_says_what_it_is():
    with vzarr.create("memory://instance-repr") as repo:
        for kind, cls in (("keyvalue", "KeyValue"), ("labelmap", "LabelMap"), ("uint8blk", "ImageBlk"), ("roi", "Roi")):
            shown = repr(registry.create(repo.root, f"my-{kind}", kind))
            assert shown == f"<{cls} my-{kind} [{kind}] in <vzarr.Version {repo.uuid} master open>>"
