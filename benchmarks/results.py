"""Timings of interleaved rounds, and the one table they make."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Rounds = dict[str, list[float]]
"""Backend -> seconds, one per round; equal places were measured next to each other."""


class Results:
    """Seconds per workload, backend and round.

    Parameters
    ----------
    base
        Backend to which all others are compared, round by round.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.rows: dict[str, Rounds] = {}

    def measure(
        self, workload: str, jobs: Mapping[str, Callable[[], Any]], rounds: int, *, per: int = 1,
        before: Callable[[str], Any] | None = None,
    ) -> None:  # fmt: skip
        """Time every job once per round, in a new random order each, so that a slow moment hits all alike.

        Parameters
        ----------
        workload
            Name of the row.
        jobs
            Backend -> what to time.
        rounds
            How often.
        per
            Units of work in one call; times are stored per unit.
        before
            Called with the backend's name before each timed call.
        """
        row = self.rows.setdefault(workload, {})
        for _ in range(rounds):
            for name in random.sample(list(jobs), len(jobs)):
                if before is not None:
                    before(name)
                gc.collect()
                start = time.perf_counter()
                jobs[name]()
                row.setdefault(name, []).append((time.perf_counter() - start) / per)

    def ratios(self, workload: str, name: str, base: str | None = None) -> list[float]:
        """Ratio of a backend's time to the base's, round by round; [] where either was not measured."""
        row = self.rows[workload]
        base = base or self.base
        if name not in row or base not in row or len(row[name]) != len(row[base]):
            return []
        return [a / b for a, b in zip(row[name], row[base], strict=True)]

    def cell(self, workload: str, name: str, base: str | None = None) -> str:
        """Median ratio and its quartiles."""
        found = self.ratios(workload, name, base)
        if not found:
            return "-"
        low, middle, high = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
        return f"{middle:.2f} ({low:.2f}-{high:.2f})"

    def markdown(self, names: list[str], versus: list[tuple[str, str]]) -> str:
        """The table: absolute median of the base, ratios to it, and last the ratios of the `versus` pairs."""
        others = [n for n in names if n != self.base]
        heads = ["workload", self.base, *others, *(f"{a} / {b}" for a, b in versus)]
        lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for workload, row in self.rows.items():
            cells = [_seconds(statistics.median(row[self.base])) if self.base in row else "-"]
            cells += [self.cell(workload, n) for n in others]
            cells += [self.cell(workload, *pair) for pair in versus]
            lines.append(f"| {workload} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.2f} ms"
