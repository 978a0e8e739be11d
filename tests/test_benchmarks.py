"""The benchmarks run, on volumes too small to mean anything; they check what every library reads."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BENCHMARK = BENCHMARKS / "overlay.py"
SMALL = {
    "depth.py": ["--size", "128", "--depth", "6", "--chunks", "2", "--last", "2"],
    "neuronjson.py": ["--count", "300", "--rounds", "1"],
    "kv.py": ["--keys", "40", "--versions", "12", "--many", "1e3", "--rounds", "1"],
    "scale.py": ["--side", "18", "--depth", "1", "--chunks", "3", "--changed", "4", "--files", "30", "--rounds", "1"],
}
ROWS = {
    "depth.py": ["last 2 / first 2", "bytes of a version", "cold open"],
    "neuronjson.py": ["post 300 records", "ask: a value", "look: every record"],
    "kv.py": [
        "point reads, open: deep / shallow",
        "multi-get",
        "scan of all",
        "batch of writes",
        "folding",
        "open a repo",
    ],
    "scale.py": ["open", "diff", "merge", "seal"],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_with_bars_prints_every_row(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *SMALL[name], "--folder", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row in ROWS[name]:
        assert row in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_large_mapping_is_made_and_asked(tmp_path: Path) -> None:
    """Whether bars are met says little at this size and on a busy machine; that answers are right is checked inside."""
    command = [sys.executable, str(BENCHMARKS / "mapping.py"), "--count", "2e5", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "bars" in done.stdout, done.stderr
    assert {"open s", "process MB", "scattered, again ms"} <= {line[:28].strip() for line in done.stdout.splitlines()}
    assert list(tmp_path.iterdir()) == []


def test_a_missed_bar_is_named_and_changes_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    bars = importlib.import_module("bars").Bars()
    bars.add("quick enough", [1, 2, 3], " s", 2)
    bars.add("without a bar", [7])
    assert bars.report("title", check=True) == 0
    bars.add("too slow", [1, 3, 9], " s", 2)
    assert bars.report("title", check=False) == 0
    assert bars.report("title", check=True) == 1
    assert capsys.readouterr().out.count("missed: too slow") == 2


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
    assert "| W4 unaligned 128^3 cutout, sealed tip: vzarr Store / LocalStore |" in done.stdout


def test_the_overlay_benchmark_holds_every_workload_against_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    overlay, results = importlib.import_module("overlay"), importlib.import_module("results").Results("LocalStore")
    for workload in ("W1 write whole", "W3 random chunk, root", "W6 100 chunks and commit", "W9 list, root"):
        results.rows[workload] = {name: [1.0, 1.0] for name in ("LocalStore", "TensorStore", "OCDBT", "vzarr Store")}
        results.rows[workload]["vzarr"] = [1.1, 1.1]
    bars = overlay.bars_of(results)
    assert bars.missed == ["W3 random chunk, root: vzarr / TensorStore", "W9 list, root: vzarr / LocalStore"]
    assert {name.split(":")[0] for name, *_ in bars.rows} == set(results.rows)


@pytest.mark.exhaustive
def test_the_labels_benchmark_runs_every_row(tmp_path: Path) -> None:
    labels = BENCHMARK.with_name("labels.py")
    done = subprocess.run(
        [sys.executable, str(labels), "--quick", "--rounds", "1", "--folder", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for row in ("encode a label block", "sparsevol of 64 blocks", "labels at 1,000 points", "merge, 4 clients"):
        assert f"| {row} | " in done.stdout
