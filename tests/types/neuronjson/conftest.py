"""A neuronjson instance at the root of a repo in memory."""

from __future__ import annotations

import pytest

import vzarr
from vzarr.types import registry
from vzarr.types.neuronjson.handle import NeuronJson


@pytest.fixture
def neurons(repo: vzarr.Repo) -> NeuronJson:
    return registry.create(repo.root, "neurons", "neuronjson")
