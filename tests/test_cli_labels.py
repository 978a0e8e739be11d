"""`vzarr verify --labels`: the index of a segmentation against its voxels and mapping."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr import cli
from vzarr.types import registry


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Repo with two small segmentations at its open root, of which the second is wrong."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        for name in ("sound", "wrong"):
            seg = registry.create(repo.root, name, "labelmap", config={"BlockSize": "16,16,16"})
            seg.write((0, 0, 0), np.full((16, 16, 16), 5, np.uint64))  # type: ignore[attr-defined]
        seg.store_blocks({(0, 0, 0): np.full((16, 16, 16), 6, np.uint64)})  # type: ignore[attr-defined]
    return tmp_path / "repo"


def test_a_wrong_index_is_named(place: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["verify", "--labels", str(place), "--instance", "sound"]) == 0
    assert capsys.readouterr().out == "all is well\n"
    assert cli.main(["verify", "--labels", str(place), "--version", "master", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {f["name"] for f in found} == {"data-inconsistent"}
    assert all(f["key"].endswith("/wrong") for f in found)
    assert "supervoxel 5 of body 5 is indexed wrongly" in [f["message"] for f in found]


def test_an_unknown_instance(place: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["verify", "--labels", str(place), "--instance", "none"]) == 1
    assert "no instance 'none'" in capsys.readouterr().err
