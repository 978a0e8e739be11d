"""The datatype ``counter``: named whole numbers that count up, each version with its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vzarr.types import settings
from vzarr.types.base import Datatype, Instance


@dataclass(frozen=True)
class Counters(Instance):
    """Counters at one version; one that was never touched stands at the setting ``Start``."""

    @property
    def start(self) -> int:
        """Where each counter begins."""
        return int(self.config["start"])

    def count(self, name: str) -> int:
        """Where one counter stands."""
        return int(self.keys.get(name.encode()) or self.start)

    def counts(self) -> dict[str, int]:
        """All counters that were touched."""
        return {name.decode(): int(value) for name, value in self.keys.scan()}

    def add(self, name: str, step: int) -> int:
        """Move one counter and return where it stands then."""

        def move(tx) -> int:
            value = int(tx.get(name.encode()) or self.start) + step
            tx.put(name.encode(), str(value).encode())
            return value

        return self.transact(move)


def _configure(config: Mapping[str, str]) -> dict[str, str]:
    return {**config, "start": str(settings.integer(config, "start", 0, -(10**9), 10**9))}


COUNTER = Datatype(
    name="counter",
    handle=Counters,
    summary="Named counters, each version with its own.",
    configure=_configure,
)
