"""Replays the reference server's recorded sessions against `vzarr serve`: one test per scenario."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance import conform
from tests.conformance.expected_failures import EXPECTED_FAILURES
from tests.serving import TOKEN, Server

HERE = Path(__file__).parent
SCENARIOS = sorted(path.stem for path in (HERE / "scenarios").glob("[!_]*.py"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONFORM_ADMIN_TOKEN", TOKEN)
    report = tmp_path / "report.json"
    status = conform.main(["check", server.url, "--only", name, "--json", str(report), "--verbose"])
    result = json.loads(report.read_text())[name]
    if name in EXPECTED_FAILURES:
        assert status != 0, f"{name} passes now: take it off EXPECTED_FAILURES"
        pytest.xfail(f"{EXPECTED_FAILURES[name]} ({result['agree']} of {result['steps']} steps agree)")
    differences = [f"step {d['step']} {d['method']} {d['path']}: {d['what']}" for d in result["differences"]]
    assert status == 0, "\n".join([f"stopped: {result['stopped']}", *differences])


def test_every_scenario_has_a_recording_and_every_exception_a_scenario():
    assert {path.stem for path in (HERE / "golden").glob("*.json")} == set(SCENARIOS)
    assert set(EXPECTED_FAILURES) <= set(SCENARIOS)
