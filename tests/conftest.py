"""What every test shares: isolation from the user's machine, and the real data where they exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import postgres

# No deadline: a busy machine pauses where it likes.  "thorough" is for `make test-all`.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("vzarr", **_COMMON)
settings.register_profile("thorough", max_examples=500, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "vzarr"))


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test read the settings of the person who runs it, nor write any."""
    for name in [name for name in os.environ if name.startswith("VZARR_") and name != "VZARR_TEST_DATA"]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))


@pytest.fixture(scope="session")
def fib25() -> Path:
    """Folder of the FIB-SEM data: 250 PNG slices, an over-segmentation and a ground truth; skips without."""
    root = os.environ.get("VZARR_TEST_DATA")
    if not root:
        pytest.skip("VZARR_TEST_DATA is not set: the fib25 data are not at hand")
    folder = Path(root) / "fib25"
    if not folder.is_dir():
        pytest.fail(f"VZARR_TEST_DATA is set, but {folder} is no folder")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of a PostgreSQL server; skips where none is installed."""
    with postgres.server() as address:
        yield address
