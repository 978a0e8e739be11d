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


def test_index_and_agglomerate(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    repo = str(place)
    assert cli.main(["index", repo, "master", "wrong", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["supervoxels"] == 1
    assert cli.main(["verify", "--labels", repo]) == 0
    table = tmp_path / "table.csv"
    table.write_text("sv,root\n6,60\n")
    assert cli.main(["agglomerate", repo, "master", "wrong", str(table), "--columns", "sv,root", "-u", "ann"]) == 0
    assert capsys.readouterr().out.endswith("moved 1 supervoxels to 1 bodies\n")
    with vzarr.open(repo) as opened:
        assert opened["master"]["wrong"].header(60).user == "ann"
    assert cli.main(["verify", "--labels", repo]) == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["index", "REPO", "master", "none"], 1, "no instance 'none'"),
        (["index", "REPO", "master", "sound", "--dask", "slurm"], 1, "a scheduler is one of"),
        (["agglomerate", "REPO", "master", "sound", "TABLE"], 1, "names 1 supervoxels that there are not: 77"),
        (["agglomerate", "REPO", "master", "sound", "TABLE", "--columns", "x,y"], 1, "no columns 'x' and 'y'"),
        (["agglomerate", "REPO", "master", "sound", "TABLE", "--columns", "x"], 2, "two names"),
        (["agglomerate", "REPO", "master", "sound", "gone.npy"], 1, "no such file"),
    ],
)
def test_what_labels_at_scale_refuse(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
):
    (tmp_path / "t.csv").write_text("sv,body\n5,5\n77,5\n")
    names = {"REPO": str(place), "TABLE": str(tmp_path / "t.csv")}
    assert cli.main([names.get(word, word) for word in words]) == status
    assert said in capsys.readouterr().err


def test_voxels_that_zarr_wrote_are_named_and_counted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        seg = registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
        seg.write((0, 0, 0), np.full((16, 16, 16), 5, np.uint64))  # type: ignore[attr-defined]
        child = repo.root.commit().newversion()
        child.zarr["seg/0"][:4] = 6
        place = str(tmp_path / "repo")
        assert cli.main(["verify", "--labels", place]) == 1
        assert "supervoxel 6 of body 6 is indexed wrongly" in capsys.readouterr().out
        assert cli.main(["index", place, "master", "seg"]) == 0
        assert cli.main(["verify", "--labels", place]) == 0
        assert (child["seg"].size(5), child["seg"].size(6)) == (12 * 256, 4 * 256)  # type: ignore[attr-defined]
