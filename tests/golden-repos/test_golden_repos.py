"""Every repo that a release ever wrote opens, and says what it said then."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

import vzarr

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("make_golden_repo", HERE / "make.py")
make = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make)
RELEASES = sorted(p.parent.name for p in HERE.glob("*/contents.json"))


def test_there_are_golden_repos():
    assert RELEASES


@pytest.mark.parametrize("release", RELEASES)
def test_a_repo_of_an_older_release_opens_and_says_the_same(release, tmp_path):
    shutil.unpack_archive(HERE / release / "repo.zip", tmp_path / "repo")
    with vzarr.open(str(tmp_path / "repo")) as repo:
        assert make.contents(repo) == json.loads((HERE / release / "contents.json").read_text())


@pytest.mark.parametrize("release", RELEASES)
def test_a_repo_of_an_older_release_can_be_gone_on_with(release, tmp_path):
    shutil.unpack_archive(HERE / release / "repo.zip", tmp_path / "repo")
    with vzarr.open(str(tmp_path / "repo")) as repo:
        tip = repo["master"]
        tip.zarr["image"][0, 0, 0] = 199
        tip["seg"].merge(1, [4])
        tip.commit("by a newer release")
        assert tip.newversion().zarr["image"][0, 0, 0] == 199


def test_this_release_writes_what_it_reads(tmp_path):
    make.build(tmp_path / "repo")
    with vzarr.open(str(tmp_path / "repo")) as repo:
        newest = json.loads((HERE / RELEASES[-1] / "contents.json").read_text())
        assert make.contents(repo) == newest
