"""Repos to test on: one in memory and one on files, empty or with a history."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import vzarr


@pytest.fixture(params=["memory", "files"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL at which there is no repo yet."""
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/repo"


@pytest.fixture
def repo(url: str) -> Iterator[vzarr.Repo]:
    """A new repo, its root open."""
    with vzarr.create(url, alias="test") as repo:
        yield repo


@pytest.fixture
def file_repo(tmp_path: Path) -> Iterator[vzarr.Repo]:
    """A new repo on files, its root open."""
    with vzarr.create(str(tmp_path / "repo")) as repo:
        yield repo


@pytest.fixture(params=["root", "child"])
def version(request: pytest.FixtureRequest, repo: vzarr.Repo) -> vzarr.Version:
    """An open version without anything in it but the root group: the root, or a child of it."""
    return repo.root if request.param == "root" else repo.root.commit().newversion()
