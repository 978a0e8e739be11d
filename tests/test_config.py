"""Settings of a server: from variables, from arguments, from neither."""

from __future__ import annotations

import pytest

from vzarr.config import Settings
from vzarr.errors import InvalidInputError


def test_defaults_are_safe():
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.is_loopback
    assert settings.admin_token == ""
    assert settings.cors_origins == ()


def test_variables_are_read():
    env = {
        "VZARR_HOST": "0.0.0.0",
        "VZARR_PORT": "9",
        "VZARR_ADMIN_TOKEN": "t",
        "VZARR_READONLY": "true",
        "VZARR_CORS_ORIGINS": "https://a, https://b",
        "PORT": "1",
    }
    expected = Settings("0.0.0.0", 9, "t", readonly=True, cors_origins=("https://a", "https://b"))
    assert Settings.from_environment(env) == expected
    assert not expected.is_loopback


def test_arguments_win_unless_they_are_none():
    settings = Settings.from_environment({"VZARR_PORT": "9", "VZARR_NOTE": "env"}, port=10, note=None)
    assert (settings.port, settings.note) == (10, "env")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VZARR_NOTE", "from outside")
    assert Settings.from_environment().note == "from outside"


@pytest.mark.parametrize(("name", "value"), [("VZARR_PORT", "http"), ("VZARR_READONLY", "maybe")])
def test_nonsense_is_refused_by_name(name: str, value: str):
    with pytest.raises(InvalidInputError, match=name):
        Settings.from_environment({name: value})
