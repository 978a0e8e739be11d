"""What is a path and what a URL: no URL becomes a folder of that name."""

from __future__ import annotations

from pathlib import Path

import pytest

import vzarr
from vzarr.errors import InvalidInputError
from vzarr.overlay.export.references import export_references
from vzarr.overlay.export.shown.export import flatten_n5
from vzarr.overlay.export.standalone import flatten
from vzarr.overlay.objects.localpaths import local_path, local_target
from vzarr.overlay.sources.locate import open_files


def test_paths_and_urls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert local_path("a/b") == tmp_path / "a/b"
    assert local_path("file:///a%20b") == Path("/a b")
    assert local_path("~") == Path.home()
    assert local_path("./s3:/a") == tmp_path / "s3:/a"
    assert local_path("s3://bucket/a") is None


@pytest.mark.parametrize("read", [local_path, vzarr.open, vzarr.create, open_files])
def test_a_url_that_lost_a_slash_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="s3://bucket/fly with a slash lost"):
        read(Path("s3://bucket/fly"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["s3://bucket/v1.json", "", Path("s3://bucket/v1.json")])
def test_exports_go_to_local_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repo: vzarr.Repo, target):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidInputError):
        local_target(target)
    for export in (flatten, export_references):
        with pytest.raises(InvalidInputError):
            export(repo.root.view, target)
    with pytest.raises(InvalidInputError):
        flatten_n5(repo.root.store, target)
    assert sorted(tmp_path.iterdir()) == before
