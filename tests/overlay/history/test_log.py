"""The repo log: one winner per entry, checkpoints, hints that may lie, damage that may not pass."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

import vzarr
from vzarr.errors import AlreadyExistsError, FormatError, NotFoundError, VzarrError
from vzarr.overlay import layout
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.looks import Looks, one_look
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.files import FileObjects
from vzarr.overlay.objects.memory import MemoryObjects
from vzarr.overlay.opening import open_objects

NOTE = {"op": "repo_log", "lines": ["x"]}


@pytest.fixture
def objects(url: str) -> Objects:
    return open_objects(url)


def _fill(objects: Objects, count: int) -> RepoLog:
    log = RepoLog(objects)
    root = {"op": "repo", "root": "a", "alias": "", "description": ""}
    log.publish(lambda _: (root, {"op": "node", "id": "a", "parents": [], "branch": "", "note": ""}))
    for n in range(1, count):
        log.publish(lambda _, n=n: ({"op": "repo_log", "lines": [f"line {n}"]},), user="ann", app="test")
    return log


def _node(name: str, *parents: str) -> dict[str, Any]:
    return {"op": "node", "id": name, "parents": list(parents), "branch": "", "note": ""}


class Counting:
    """Passes calls on to an object store and keeps the keys that are read."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self.read = objects, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def get(self, key: str, *args: Any) -> bytes | None:
        self.read.append(key)
        return self._objects.get(key, *args)


def test_entries_say_who_when_and_with_what(objects: Objects):
    log = _fill(objects, 3)
    entries = list(RepoLog(objects).entries())
    assert [e.number for e in entries] == [0, 1, 2]
    assert len({e.id for e in entries}) == 3
    assert (entries[1].user, entries[1].app, entries[1].ops) == (
        "ann",
        "test",
        ({"op": "repo_log", "lines": ["line 1"]},),
    )
    assert entries[1].tool.startswith("vzarr/")
    assert entries[0].time <= entries[1].time
    assert entries[0].time.endswith("Z")
    assert list(log.entries(2)) == entries[2:]


def test_a_plan_that_refuses_publishes_nothing(objects: Objects):
    log = _fill(objects, 1)

    def refuse(_state: object) -> Any:
        raise AlreadyExistsError("no")

    with pytest.raises(AlreadyExistsError):
        log.publish(refuse)
    assert len(list(log.entries())) == 1


def test_who_loses_plans_again_on_the_newer_state(objects: Objects):
    ours, theirs = _fill(objects, 1), RepoLog(objects)
    theirs.open()
    seen = []

    def plan(state: Any) -> Any:
        seen.append(state.next)
        if len(seen) == 1:
            theirs.publish(lambda _: (NOTE,))
        return (NOTE,)

    entry, state = ours.publish(plan)
    assert (seen, entry.number, state.next, len(state.log)) == ([1, 2], 2, 3, 2)


def test_a_lost_answer_does_not_publish_twice(objects: Objects):
    class Lossy(Counting):
        def create(self, key: str, data: bytes) -> bool:
            self._objects.create(key, data)
            return False

    log = RepoLog(Lossy(objects))
    log.publish(lambda _: (NOTE,))
    log.publish(lambda _: (NOTE,))
    assert len(list(RepoLog(objects).entries())) == 2


def test_a_long_log_opens_with_few_reads(objects: Objects):
    log = _fill(objects, 700)
    expected = log.refresh()
    counting = Counting(objects)
    opened = RepoLog(counting)
    assert opened.open() == expected
    assert len(counting.read) <= 3 + layout.HINT_EVERY
    assert len([k for k, _ in objects.walk("log") if "checkpoint" in k]) <= 2
    assert [e.number for e in opened.entries()] == list(range(700))


@pytest.mark.parametrize("harm", ["no hint", "no checkpoint", "neither", "stale hint", "foreign hint"])
def test_hints_may_lag_or_be_lost(objects: Objects, harm: str):
    log = _fill(objects, 300)
    stale = objects.get(layout.LATEST)
    for n in range(300, 620):
        log.publish(lambda _, n=n: ({"op": "repo_log", "lines": [f"line {n}"]},))
    if harm in ("no hint", "neither"):
        objects.delete(layout.LATEST)
    if harm in ("no checkpoint", "neither"):
        for key, _ in list(objects.walk("log")):
            if "checkpoint" in key:
                objects.delete(key)
    if harm == "stale hint":
        objects.put(layout.LATEST, stale)
    if harm == "foreign hint":
        objects.put(layout.LATEST, orjson.dumps({"checkpoint": 255, "entries": []}))
    again = RepoLog(objects)
    assert again.open() == log.refresh()
    for n in range(620, 800):
        again.publish(lambda _, n=n: ({"op": "repo_log", "lines": [f"line {n}"]},))
    assert RepoLog(objects).open() == log.refresh()
    assert log.refresh().log[-1].endswith("  line 799")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"{}", b'{"number": 1}', b"\xff\xfe", b'{"number":1,"ops":[1]}']
)
def test_a_damaged_entry_is_named(objects: Objects, data: bytes):
    log = _fill(objects, 3)
    objects.put(layout.log_entry(1), data)
    objects.delete(layout.LATEST)
    with pytest.raises(FormatError, match=layout.log_entry(1)):
        RepoLog(objects).open()
    with pytest.raises(FormatError, match=layout.log_entry(1)):
        list(log.entries())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"checkpoint": 255, "head": 1}', b'{"checkpoint": "x"}'])
def test_a_damaged_hint_is_none(objects: Objects, data: bytes, caplog: pytest.LogCaptureFixture):
    log = _fill(objects, layout.CHECKPOINT_EVERY + 3)
    whole = objects.get(layout.LATEST)
    for harm in (data, whole[: len(whole) // 2]):
        objects.put(layout.LATEST, harm)
        again = RepoLog(objects)
        assert again.open() == log.refresh()
        assert f"{layout.LATEST} is damaged" in caplog.text
        for _ in range(layout.HINT_EVERY):
            again.publish(lambda _: (NOTE,))
        caplog.clear()
        assert RepoLog(objects).open() == log.refresh()
        assert not caplog.text, "who writes next has mended it"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_checkpoint_is_none(objects: Objects, data: bytes, caplog: pytest.LogCaptureFixture):
    expected = _fill(objects, layout.CHECKPOINT_EVERY + layout.HINT_EVERY).refresh()
    objects.put(layout.checkpoint(layout.CHECKPOINT_EVERY - 1), data)
    assert list(RepoLog(objects).open().nodes) == list(expected.nodes)
    # A hint of earlier releases does not repeat the checkpoint's head.
    hint = orjson.loads(objects.get(layout.LATEST) or b"")
    del hint["head"]
    objects.put(layout.LATEST, orjson.dumps(hint))
    assert RepoLog(objects).open() == expected
    assert caplog.text.count(f"{layout.checkpoint(layout.CHECKPOINT_EVERY - 1)} is damaged") == 2


def test_the_newest_versions_are_found_without_the_checkpoint(objects: Objects):
    log = RepoLog(objects)
    log.publish(lambda _: ({"op": "repo", "root": "r", "alias": "", "description": ""}, _node("r")))
    for n in range(1, layout.CHECKPOINT_EVERY):
        name = f"{n:032x}"
        log.publish(lambda _, name=name: (_node(name, "r"), {"op": "seal", "id": name, "sha256": "1" * 64}))
    last, tip = f"{layout.CHECKPOINT_EVERY - 1:032x}", "f" * 32
    log.publish(lambda _: (_node(tip, last), {"op": "seal", "id": tip, "sha256": "x"}))
    counting = Counting(objects)
    state = RepoLog(counting).open()
    assert state.leaf("master") == tip
    assert state.nodes[tip].parents == (last,)
    assert not [key for key in counting.read if "checkpoint" in key]
    assert state.nodes[last].sealed
    assert len([key for key in counting.read if "checkpoint" in key]) == 1


def test_a_checkpoint_that_goes_while_a_log_is_open_is_made_again_from_the_entries(objects: Objects):
    expected = _fill(objects, layout.CHECKPOINT_EVERY + layout.HINT_EVERY).refresh()
    state = RepoLog(objects).open()
    objects.delete(layout.checkpoint(layout.CHECKPOINT_EVERY - 1))
    assert state == expected
    again = RepoLog(objects)
    again.open()
    for _ in range(layout.HINT_EVERY):
        again.publish(lambda _: (NOTE,))
    assert objects.size(layout.checkpoint(layout.CHECKPOINT_EVERY - 1)) is not None, "and written again"


def test_a_long_head_is_read_from_the_checkpoint(objects: Objects):
    log = RepoLog(objects)
    for n in range(layout.CHECKPOINT_EVERY + layout.HINT_EVERY):
        log.publish(lambda _, n=n: ({"op": "repo_log", "lines": [f"line {n} " + "x" * 100]},))
    assert "head" not in orjson.loads(objects.get(layout.LATEST) or b"")
    assert RepoLog(objects).open() == log.refresh()


# -- races: 2,000 in all, with exactly one winner each


def _race(workers: int, rounds: int, turn: Any) -> list[list[Any]]:
    """What `turn(worker, round)` gave each worker in each round; all start a round together."""
    barrier = threading.Barrier(workers)
    results: list[list[Any]] = [[None] * workers for _ in range(rounds)]

    def run(worker: int) -> None:
        for n in range(rounds):
            barrier.wait()
            try:
                results[n][worker] = turn(worker, n)
            except VzarrError as e:
                results[n][worker] = e

    threads = [threading.Thread(target=run, args=(w,)) for w in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.slow
def test_threads_race_to_create_an_object(tmp_path: Path):
    for objects in (MemoryObjects(uuid.uuid4().hex), FileObjects(tmp_path)):
        found = _race(4, 400, lambda w, n, o=objects: o.create(f"log/{n}", bytes([w]) * 1000))
        assert all(sum(winners) == 1 for winners in found)
        for n, winners in enumerate(found):
            assert objects.get(f"log/{n}") == bytes([winners.index(True)]) * 1000


@pytest.mark.slow
def test_threads_race_to_create_a_repo():
    names = [f"memory://{uuid.uuid4().hex}" for _ in range(400)]
    for name, results in zip(names, _race(3, 400, lambda _w, n: vzarr.create(names[n])), strict=True):
        winners = [r for r in results if isinstance(r, vzarr.Repo)]
        assert len(winners) == 1
        assert all(isinstance(r, AlreadyExistsError) for r in results if r is not winners[0])
        assert len(vzarr.open(name).log()) == 1


@pytest.mark.slow
def test_threads_race_to_commit_and_to_branch():
    url = f"memory://{uuid.uuid4().hex}"
    repos = [vzarr.create(url), *(vzarr.open(url) for _ in range(2))]
    node = repos[0].uuid
    for _ in range(100):
        commits = _race(3, 1, lambda w, _n, node=node: repos[w][node].commit())[0]
        assert [isinstance(c, vzarr.Version) for c in commits].count(True) == 1, commits
        children = _race(3, 1, lambda w, _n, node=node: repos[w][node].newversion())[0]
        made = [c for c in children if isinstance(c, vzarr.Version)]
        assert len(made) == 1, children
        node = made[0].uuid
    assert len(repos[0].branch_versions("master")) == 101


_RACER = """
import sys, time
import vzarr
from vzarr.errors import AlreadyExistsError, SealedError
from vzarr.overlay.objects.files import FileObjects
folder, start, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
from pathlib import Path
objects = FileObjects(Path(folder) / "plain")
time.sleep(max(0, start - time.time()))
print("".join("01"[objects.create(f"log/{n}", sys.argv[4].encode())] for n in range(count)), end=" ")
won = ""
for n in range(20):
    try:
        vzarr.create(f"{folder}/repo{n}").close()
        won += "1"
    except AlreadyExistsError:
        won += "0"
print(won, end=" ")
won = ""
for n in range(20):
    with vzarr.open(f"{folder}/repo{n}") as repo:
        try:
            repo.root.commit()
            won += "1"
        except SealedError:
            won += "0"
print(won)
"""


@pytest.mark.slow
def test_processes_race_on_files(tmp_path: Path):

    start = time.time() + 4
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(tmp_path), str(start), "600", str(w)], stdout=subprocess.PIPE, text=True
        )
        for w in range(3)
    ]
    results = [p.communicate(timeout=200)[0].split() for p in racers]
    assert [p.returncode for p in racers] == [0, 0, 0]
    for race in zip(*results, strict=True):
        wins = [Counter(column)["1"] for column in zip(*race, strict=True)]
        assert wins == [1] * len(wins)
    for n in range(20):
        with vzarr.open(str(tmp_path / f"repo{n}")) as repo:
            assert repo.root.sealed
            assert len(repo.log()) == 2


def test_a_newer_format_is_refused(repo: vzarr.Repo, url: str):
    meta = orjson.loads(repo.objects.get(layout.REPO))
    repo.objects.put(layout.REPO, orjson.dumps({**meta, "format": layout.FORMAT + 1}))
    with pytest.raises(FormatError, match="upgrade vzarr"):
        vzarr.open(url)
    with pytest.raises((FormatError, AlreadyExistsError)):
        vzarr.create(url)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"format": "1", "root": "a"}', b'{"format": 1, "root": 7}', b"\xff"]
)
def test_a_damaged_repo_file_is_refused(repo: vzarr.Repo, url: str, data: bytes):
    repo.objects.put(layout.REPO, data)
    with pytest.raises(FormatError):
        vzarr.open(url)


def test_no_repo_is_not_a_damaged_one(url: str):
    with pytest.raises(NotFoundError, match="no repo"):
        vzarr.open(url)


def test_one_look_sees_one_moment_and_what_it_publishes_itself(objects: Objects):
    log = _fill(objects, 2)
    other = RepoLog(objects)
    other.open()
    looks: Looks = {}
    with one_look(looks):
        assert log.refresh().next == 2
        other.publish(lambda _: (NOTE,))
        assert log.refresh().next == 2
    with one_look(looks):
        assert log.refresh().next == 2
    with one_look({}):
        assert log.refresh().next == 3
        assert other.publish(lambda _: (NOTE,))[0].number == 3
        assert log.publish(lambda _: (NOTE,))[0].number == 4
        assert log.refresh().next == 5
    assert log.refresh().next == 5
