"""A repo in memory and a broker in this process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import vzarr
from tests.kafka.collector import Collector


@pytest.fixture
def repo() -> Iterator[vzarr.Repo]:
    with vzarr.create(f"memory://{uuid.uuid4().hex}", alias="kafka") as repo:
        yield repo


@pytest.fixture
def broker() -> Collector:
    return Collector()
