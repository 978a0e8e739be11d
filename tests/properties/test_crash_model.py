"""Random histories in which processes die: before each single change of a file or of the keys that an operation makes.

What a killed operation leaves is, version by version, what the model was before it or after it; and who tries again
succeeds.  The operation is carried out for good first; then it is replayed in forks, on copies of what was there
before, that kill themselves before their first, second, ... change.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

import vzarr
from tests.crash import attempts
from tests.properties.test_repo_model import KEYS, MANY, SETTINGS, STRATEGIES, Model, RepoMachine, check_store

PROCESSES = multiprocessing.get_context("forkserver")
OPERATION_NAMES = ["commit", "child", "merge", "chunk", "no chunk", "metadata", "keys"]
MOMENTS = 1000 if MANY else 3
"""Changes before which to die, of those that an operation makes: the last ones, which publish it, and some before."""


class Recorded:
    """Draws, and gives the same again when it is asked once more."""

    def __init__(self, data: st.DataObject | None) -> None:
        self.data, self.next = data, 0
        self.given: list[Any] = []

    def draw(self, strategy: Any, label: Any = None) -> Any:
        if self.next == len(self.given):
            self.given.append(self.data.draw(strategy, label))
        self.next += 1
        return self.given[self.next - 1]


Told = tuple[str, list[Any], int, int, dict[str, Model]]
"""What a process is told to do: name, draws, number of things made so far, fill value, and the models before."""
Operation = Callable[["DyingMachine", Recorded], object]


class DyingMachine(RepoMachine):
    """Random histories, and operations at which processes die."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = Path(tempfile.mkdtemp(prefix="vzarr-crash-"))  # where the server does not look for repos

    def teardown(self) -> None:
        shutil.rmtree(self.copies)
        super().teardown()

    @rule(data=st.data(), name=st.sampled_from(["merge", "commit", *OPERATION_NAMES]))
    def die(self, data: st.DataObject, name: str) -> None:
        if not self._possible(name):
            return
        self.repo.close()
        before, folder = deepcopy(self.models), self.folder / "repo"
        shutil.copytree(folder, self.copies / "before")
        self.repo = vzarr.open(str(folder))
        draws, made = Recorded(data), self.made
        OPERATIONS[name](self, draws)
        changes = self._killed(name, draws, made, before, 0)
        deadly = sorted(
            {*range(1, changes + 1, max(1, changes // MOMENTS)), *range(max(1, changes - MOMENTS), changes + 1)}
        )
        for n in sorted(deadly):
            assert self._killed(name, draws, made, before, n) == -n
            self._check_left(name, draws, made, before, f"{name}: change {n} of {changes}")
        shutil.rmtree(self.copies / "before")

    def _possible(self, name: str) -> bool:
        if name in ("chunk", "no chunk"):
            return any(m.open and a.grid() for m in self.models.values() for a in m.arrays.values())
        sealed = sum(not m.open for m in self.models.values())
        return {"merge": sealed > 1, "child": sealed > 0}.get(name, self.any_open())

    def _killed(self, name: str, draws: Recorded, made: int, before: dict[str, Model], deadly: int) -> int:
        """Number of changes that the operation makes when it lives; minus `deadly` when it died there."""
        victim, counted = self.copies / "victim", self.copies / "counted"
        shutil.rmtree(victim, ignore_errors=True)
        shutil.copytree(self.copies / "before", victim)
        told = name, draws.given, made, self.fill, before
        process = PROCESSES.Process(target=replay_and_die, args=(told, str(victim), deadly, str(counted)))
        process.start()
        process.join(60)
        code = process.exitcode
        process.close()
        if code == -signal.SIGKILL:
            return -deadly
        assert code == 0
        changes = int(counted.read_text())
        counted.unlink()
        return changes

    def _check_left(self, name: str, draws: Recorded, made: int, before: dict[str, Model], where: str) -> None:
        victim = str(self.copies / "victim")
        done = self._matches(victim, self.models, before)
        assert done or self._matches(victim, before, before), where
        if not done:
            replay((name, draws.given, made, self.fill, before), victim)
            assert self._matches(victim, self.models, before), f"{where}, tried again"

    def _matches(self, url: str, models: dict[str, Model], before: dict[str, Model]) -> bool:
        """Whether every version is as a model says; versions that were made meanwhile go by another id."""
        with vzarr.open(url) as repo:
            here = [v.uuid for v in repo.versions() if v.uuid not in before]
            there = [n for n in models if n not in before]
            if len(here) != len(there):
                return False
            pairs = [*zip(here, there, strict=True), *((n, n) for n in before)]
            try:
                for node, model in pairs:
                    assert repo[node].sealed != models[model].open
                    check_store(repo[node], models[model])
            except AssertionError:
                return False
            return True


def replay(told: Told, url: str) -> None:
    """Carry an operation out on another copy of the repo."""
    name, given, made, fill, before = told
    machine, draws = object.__new__(DyingMachine), Recorded(None)
    machine.models, machine.made, machine.fill, draws.given = deepcopy(before), made, fill, given
    with vzarr.open(url) as machine.repo:
        OPERATIONS[name](machine, draws)


def replay_and_die(told: Told, url: str, deadly: int, counted: str) -> None:
    """The same for a process that kills itself before its `deadly`-th change."""
    attempts.ATTEMPTS["replay"] = lambda url: replay(told, url)
    attempts.run("replay", url, deadly, counted)


def _commit(machine: DyingMachine, data: Recorded) -> None:
    version, model = machine.pick_open(data)
    version.commit("done")
    model.open = False


def _child(machine: DyingMachine, data: Recorded) -> None:
    node = data.draw(st.sampled_from([n for n, m in machine.models.items() if not m.open]))
    machine._child(machine.repo[node], branch=True)


def _merge(machine: DyingMachine, data: Recorded) -> None:
    sealed = [n for n, m in machine.models.items() if not m.open]
    heads = data.draw(st.lists(st.sampled_from(sealed), min_size=2, max_size=3, unique=True))
    machine._merge(heads, data.draw(STRATEGIES))


def _at_chunk(machine: DyingMachine, data: Recorded) -> tuple[Any, ...]:
    found = [(n, p) for n, m in machine.models.items() if m.open for p, a in m.arrays.items() if a.grid()]
    node, path = data.draw(st.sampled_from(found))
    array = machine.models[node].arrays[path]
    return machine.repo[node], path, array, data.draw(st.sampled_from(array.grid()))


def _chunk(machine: DyingMachine, data: Recorded) -> None:
    version, path, array, coord = _at_chunk(machine, data)
    chunk = array.voxels()[:0].dtype.type(data.draw(st.integers(0, 9))).repeat(16).reshape(4, 4)
    version.write_chunks(path, {coord: chunk})
    array.chunks[coord] = version.uuid, chunk


def _no_chunk(machine: DyingMachine, data: Recorded) -> None:
    version, path, array, coord = _at_chunk(machine, data)
    version.delete_chunks(path, [coord])
    array.chunks.pop(coord, None)


def _metadata(machine: DyingMachine, data: Recorded) -> None:
    if data.draw(st.booleans()) and machine.any_array():
        machine.grow(data, (0, 1), (1, 0))
    else:
        machine.set_attribute(data, data.draw(st.integers(0, 3)))


def _keys(machine: DyingMachine, data: Recorded) -> None:
    if data.draw(st.booleans()):
        machine.put_key(data, data.draw(KEYS), data.draw(st.binary(max_size=4)))
    else:
        machine.remove_key(data, data.draw(KEYS))


OPERATIONS: dict[str, Operation] = {
    "commit": _commit,
    "child": _child,
    "merge": _merge,
    "chunk": _chunk,
    "no chunk": _no_chunk,
    "metadata": _metadata,
    "keys": _keys,
}
"""Operations that are one as far as anybody who looks is concerned."""


@pytest.mark.crash
@pytest.mark.timeout(7200 if MANY else 300)
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
def test_who_dies_has_done_nothing_or_all():
    PROCESSES.set_forkserver_preload(["tests.properties.test_crash_model"])
    few = settings(SETTINGS, max_examples=60 if MANY else 4, stateful_step_count=30 if MANY else 14)
    run_state_machine_as_test(DyingMachine, settings=few)
