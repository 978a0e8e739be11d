"""Random histories in which processes die: before each single change of a file or of the keys that an operation makes.

What a killed operation leaves is, version by version, what the model was before it or after it; and who tries again
succeeds.  Of what are several operations of a store (zarr's resize deletes chunk by chunk), each part is so.  The
operation is carried out for good first; then it is replayed in forks, on copies of what was there before, that kill
themselves before their first, second, ... change.
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

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

import vzarr
from tests.crash import attempts
from tests.properties.model import Model, between, check_store
from tests.properties.test_repo_model import (
    COORDS,
    GROUPS,
    KEYS,
    LOOSE,
    MANY,
    PATHS,
    SETTINGS,
    SMALL,
    STRATEGIES,
    RepoMachine,
    make_source,
)

PROCESSES = multiprocessing.get_context("forkserver")
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


Told = tuple[str, list[Any], dict[str, Any]]
"""What a process is told to do: name, draws, and what else the machine was (`DyingMachine.plain`)."""
Operation = Callable[["DyingMachine", Recorded], object]


class DyingMachine(RepoMachine):
    """Random histories, and operations at which processes die."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = Path(tempfile.mkdtemp(prefix="vzarr-crash-"))  # where the server does not look for repos

    def teardown(self) -> None:
        shutil.rmtree(self.copies)
        super().teardown()

    @rule(data=st.data(), name=st.sampled_from(["commit", "child", "merge", "merge"]))
    def die_in_history(self, data: st.DataObject, name: str) -> None:
        self._die(data, name)

    @rule(data=st.data(), name=st.sampled_from(["chunk", "no chunk", "box", "resize", "cut", "grow", "key", "no key"]))
    def die_in_an_array(self, data: st.DataObject, name: str) -> None:
        self._die(data, name)

    @rule(data=st.data(), name=st.sampled_from(["adopt", "attribute", "rename", "rename group", "remove", "loose"]))
    def die_in_the_hierarchy(self, data: st.DataObject, name: str) -> None:
        self._die(data, name)

    @rule(data=st.data(), name=st.sampled_from(["make", "overwrite", "turn into"]))
    def die_making(self, data: st.DataObject, name: str) -> None:
        self._die(data, name)

    def plain(self) -> dict[str, Any]:
        """What a replay needs to know of the machine, as of now."""
        make_source(self.source, self.kinds[0], self.held)
        names = "models", "made", "kinds", "source", "held"
        return {name: deepcopy(getattr(self, name)) for name in names}

    def _die(self, data: st.DataObject, name: str) -> None:
        if not self._possible(name):
            return
        self.repo.close()
        folder = self.folder / "repo"
        shutil.copytree(folder, self.copies / "before")
        self.repo = vzarr.open(str(folder))
        told: Told = name, (draws := Recorded(data)).given, self.plain()
        OPERATIONS[name](self, draws)
        changes = self._killed(told, 0)
        deadly = {*range(1, changes + 1, max(1, changes // MOMENTS)), *range(max(1, changes - MOMENTS), changes + 1)}
        for n in sorted(deadly):
            # Threads may make a change less than they made before, and so live.
            lived = self._killed(told, n) >= 0
            self._check_left(told, f"{name}: change {n} of {changes}", lived=lived)
        shutil.rmtree(self.copies / "before")

    def _possible(self, name: str) -> bool:
        if name in ("chunk", "no chunk", "box"):
            return any(m.open and a.grid() for m in self.models.values() for a in m.arrays.values())
        if name in ("resize", "cut", "grow", "rename", "turn into"):
            return self.any_array()
        sealed = sum(not m.open for m in self.models.values())
        apart = {"merge": sealed > 1, "child": sealed > 0, "adopt": self.models[self.repo.uuid].open}
        return apart.get(name, self.any_open())

    def _killed(self, told: Told, deadly: int) -> int:
        """Number of changes that the operation makes when it lives; minus `deadly` when it died there."""
        victim, counted = self.copies / "victim", self.copies / "counted"
        shutil.rmtree(victim, ignore_errors=True)
        shutil.copytree(self.copies / "before", victim)
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

    def _check_left(self, told: Told, where: str, *, lived: bool) -> None:
        victim, before = str(self.copies / "victim"), told[2]["models"]
        done = self._matches(victim, self.models, before)
        assert done or not lived, where
        if not done:
            assert self._matches(victim, before, before, self.models if told[0] in IN_PARTS else {}), where
            replay(told, victim)
            assert self._matches(victim, self.models, before), f"{where}, tried again"
        if told[0] == "commit":
            self._check_child(victim, before, where)

    def _check_child(self, victim: str, before: dict[str, Model], where: str) -> None:
        """What comes after the version that was committed sees all that this holds."""
        (node,) = (n for n, model in before.items() if model.open != self.models[n].open)
        with vzarr.open(victim) as repo:
            child, model = repo[node].branch("after"), deepcopy(self.models[node])
            model.open = True
            try:
                check_store(child, model)
            except AssertionError as e:
                raise AssertionError(where) from e

    def _matches(
        self, url: str, models: dict[str, Model], before: dict[str, Model], after: dict[str, Model] | None = None
    ) -> bool:
        """Whether every version is as a model says; versions that were made meanwhile go by another id.

        With `after` a version's parts may also be as that says.
        """
        with vzarr.open(url) as repo:
            here = [v.uuid for v in repo.versions() if v.uuid not in before]
            there = [n for n in models if n not in before]
            if len(here) != len(there):
                return False
            pairs = [*zip(here, there, strict=True), *((n, n) for n in before)]
            try:
                for node, model in pairs:
                    assert repo[node].sealed != models[model].open
                    left = between(repo[node], models[model], after[node]) if after else models[model]
                    check_store(repo[node], left)
            except (AssertionError, StopIteration):
                return False
            return True


def replay(told: Told, url: str) -> None:
    """Carry an operation out on another copy of the repo."""
    name, given, plain = told
    machine, draws = object.__new__(DyingMachine), Recorded(None)
    machine.__dict__ |= deepcopy(plain)
    draws.given = given
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
    chunk = array.kind.chunk(data.draw(st.integers(0, 9)))
    version.write_chunks(path, {coord: chunk})
    array.chunks[coord] = version.uuid, chunk


def _no_chunk(machine: DyingMachine, data: Recorded) -> None:
    version, path, array, coord = _at_chunk(machine, data)
    version.delete_chunks(path, [coord])
    array.chunks.pop(coord, None)


def _box(machine: DyingMachine, data: Recorded) -> None:
    version, path, array, _ = _at_chunk(machine, data)
    values = np.full([b - a for a, b in zip(array.lo, array.hi, strict=True)], 7, array.kind.dtype)
    version.write(path, array.lo, values)
    array.set(version.uuid, array.lo, values, drop_empty=False)


def _remove(machine: DyingMachine, data: Recorded) -> None:
    if machine.any_array() and data.draw(st.booleans()):
        machine.delete_array(data)
    else:
        machine.delete_group(data, data.draw(st.sampled_from(GROUPS)))


def _loose(machine: DyingMachine, data: Recorded) -> None:
    if data.draw(st.booleans()):
        machine.write_key(data, data.draw(LOOSE), data.draw(st.binary(max_size=4)))
    else:
        machine.delete_key(data, data.draw(LOOSE))


OPERATIONS: dict[str, Operation] = {
    "commit": _commit,
    "child": _child,
    "merge": _merge,
    "chunk": _chunk,
    "no chunk": _no_chunk,
    "box": _box,
    "resize": lambda machine, data: machine.resize(data, data.draw(SMALL)),
    "cut": lambda machine, data: machine.cut(data, data.draw(COORDS), data.draw(SMALL)),
    "grow": lambda machine, data: machine.grow(data, (0, 1), (1, 0)),
    "key": lambda machine, data: machine.put_key(data, data.draw(KEYS), data.draw(st.binary(max_size=4))),
    "no key": lambda machine, data: machine.remove_key(data, data.draw(KEYS)),
    "adopt": lambda machine, data: machine.adopt(data.draw(st.sampled_from(GROUPS))),
    "attribute": lambda machine, data: machine.set_attribute(data, data.draw(st.integers(0, 3))),
    "rename": lambda machine, data: machine.rename(data, data.draw(PATHS)),
    "rename group": lambda machine, data: machine.rename_group(data, data.draw(st.sampled_from(GROUPS))),
    "remove": _remove,
    "loose": _loose,
    "make": lambda machine, data: machine.create_array(data, data.draw(PATHS), data.draw(SMALL)),
    "overwrite": lambda machine, data: machine.overwrite(data, data.draw(PATHS), data.draw(SMALL)),
    "turn into": lambda machine, data: machine.turn_into(data, data.draw(SMALL)),
}
"""Operations by name."""
IN_PARTS = {"adopt", "box", "resize", "cut", "rename", "make", "overwrite"}
"""Those that are several as far as anybody who looks is concerned: chunks, or groups above what is made."""


@pytest.mark.crash
@pytest.mark.timeout(7200 if MANY else 300)
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
def test_who_dies_has_done_nothing_or_all():
    PROCESSES.set_forkserver_preload(["tests.properties.test_crash_model"])
    few = settings(SETTINGS, max_examples=60 if MANY else 4, stateful_step_count=30 if MANY else 14)
    run_state_machine_as_test(DyingMachine, settings=few)
