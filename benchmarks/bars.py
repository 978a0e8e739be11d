"""Figures held against bars: one table, and whether all bars were met."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def interleaved(
    jobs: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each job in each round; the order changes from round to round, so that noise hits all alike."""
    took: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name in random.sample(list(jobs), len(jobs)):
            start = clock()
            jobs[name]()
            took[name].append(clock() - start)
    return took


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Pair by pair."""
    return [x / y for x, y in zip(a, b, strict=True)]


@dataclass
class Bars:
    """Rows of a table: figures, whose median must not be above a bar."""

    rows: list[tuple[str, Sequence[float], str, float | None]] = field(default_factory=list)

    def add(self, name: str, values: Sequence[float], unit: str = "", bar: float | None = None) -> None:
        """One row; without a bar it is only reported."""
        self.rows.append((name, values, unit, bar))

    @property
    def missed(self) -> list[str]:
        """Rows whose median is above the bar."""
        return [name for name, values, _, bar in self.rows if bar is not None and statistics.median(values) > bar]

    def markdown(self) -> str:
        """The table: median, quartiles, bar."""
        lines = ["| what | median | quartiles | bar | |", "|---|---|---|---|---|"]
        for name, values, unit, bar in self.rows:
            low, middle, high = (
                statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
            )
            verdict = "" if bar is None else "missed" if middle > bar else "met"
            shown = "" if bar is None else f"{bar:g}{unit}"
            lines.append(f"| {name} | {middle:.3g}{unit} | {low:.3g}-{high:.3g} | {shown} | {verdict} |")
        return "\n".join(lines)

    def report(self, title: str, *, check: bool) -> int:
        """Print the table, and give the exit status: 1 where bars were missed and `check` asks for that."""
        print(f"{title}\n\n{self.markdown()}")
        for name in self.missed:
            print(f"missed: {name}")
        return 1 if check and self.missed else 0
