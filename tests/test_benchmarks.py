"""The benchmarks run, on volumes too small to mean anything; they check what every library reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "overlay.py"


def test_the_overlay_benchmark_runs_every_workload(tmp_path: Path) -> None:
    small = ["--size", "128", "--labels", "64", "--rounds", "1", "--depth", "2"]
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *small, "--only", "LocalStore,vzarr Store,vzarr",
         "--folder", str(tmp_path), "--json", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seconds = json.loads(out.read_text())["seconds"]
    assert {row.split()[0] for row in seconds} == {f"W{n}" for n in range(1, 10)}
    for row, times in seconds.items():
        assert set(times) == {"LocalStore", "vzarr Store", "vzarr"}, row
        assert f"| {row} | " in done.stdout
