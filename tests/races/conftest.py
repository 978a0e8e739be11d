"""Where the keys of the repos lie that processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def keys(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """URL of a key store: None for the repo itself, or one in PostgreSQL."""
    if request.param == "sqlite":
        yield None
        return
    with database(request.getfixturevalue("postgres_server")) as url:
        yield url
