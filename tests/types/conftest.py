"""A repo in memory and its open root."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import vzarr


@pytest.fixture
def repo() -> Iterator[vzarr.Repo]:
    with_name = vzarr.create(f"memory://{uuid.uuid4().hex}", alias="types")
    yield with_name
    with_name.close()
