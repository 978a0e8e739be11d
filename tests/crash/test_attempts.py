"""`kill -9` before each single change that a change of history makes on disk or in the keys."""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzarr
from tests.crash import attempts
from vzarr.errors import AlreadyExistsError, FormatError, NotFoundError, SealedError
from vzarr.overlay import layout
from vzarr.overlay.sealing import seal

PROMPTLY = 10
"""Seconds within which a next attempt succeeds: it never waits for a dead process's lease (30 s)."""
LAST = 12
"""Changes that publish an attempt and tidy up after it: each of them is a moment to die in every run."""
SOME, EACH = 4, 1
MERGED = -1
"""In place of a number of entries: a repo whose open version is a merge."""
CASES = [
    *((name, 0, SOME) for name in attempts.ATTEMPTS),
    *((name, layout.CHECKPOINT_EVERY - 1, 1000) for name in ("commit", "newversion")),
    *(pytest.param(name, 0, EACH, marks=pytest.mark.exhaustive) for name in attempts.ATTEMPTS),
]
"""Attempt, least number of entries in the log (255: its entry makes a checkpoint), step between moments to die."""

Kill = Callable[[str, Path, int], int]


@pytest.fixture(scope="module")
def kill(tmp_path_factory: pytest.TempPathFactory) -> Kill:
    """Run an attempt that dies before its n-th change; the number of changes it made if it lived, else 0."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.crash.attempts"])
    counted = tmp_path_factory.mktemp("counted") / "changes"

    def kill(name: str, repo: Path, deadly: int) -> int:
        counted.unlink(missing_ok=True)
        process = processes.Process(target=attempts.run, args=(name, str(repo), deadly, str(counted)))
        process.start()
        process.join(60)
        code = process.exitcode
        process.close()
        assert code in (0, -9), f"{name} ended with {code}"
        return int(counted.read_text()) if code == 0 else 0

    return kill


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Repos on which each attempt succeeds, by the least number of entries in their logs, or `MERGED`."""
    base = tmp_path_factory.mktemp("prepared")

    def prepared(entries: int) -> Path:
        folder = base / f"of-{entries}"
        if not folder.exists() and entries == MERGED:
            attempts.prepare_merged(str(folder))
        elif not folder.exists():
            attempts.prepare(str(folder), entries)
        return folder

    return prepared


def outcome(folder: Path) -> dict[str, Any] | None:
    """What a repo comes to, without the ids that are drawn at random; None if there is none yet."""
    try:
        repo = vzarr.open(str(folder))
    except NotFoundError:
        return None
    except FormatError:  # begun and not finished
        return None
    with repo:
        found: dict[str, Any] = {"instances": sorted(repo.state.instances), "alias": repo.state.alias}
        for version in repo.versions():
            check_seal(repo, version)
            place = (version.branch_name, version.sealed, version.note, len(version.parents))
            lines = [line.partition("  ")[2] for line in version.info.log]
            held = attempts.contents(version) if version.has_array("a") else None
            assert str(place) not in found
            found[str(place)] = held, lines
        if "gray" in repo.state.instances:
            gray = repo["master"]["gray"]
            gray.write((0, 0, 0), np.full((8, 8, 8), 3, "u1"))
            assert (gray.read((0, 0, 0), (8, 8, 8)) == 3).all()
        return found


def check_seal(repo: vzarr.Repo, version: vzarr.Version) -> None:
    """A version that the log calls sealed is whole: each object is there with its checksum, and no other."""
    if not version.sealed:
        return
    record = seal.load_record(repo.objects, layout.seal(version.uuid), version.info.seal)
    sums = repo.objects.get(layout.sums(version.uuid))
    assert sums is not None
    assert seal.sha256(sums) == record.sums
    listed = {key: digest for key, _size, digest in seal.read_sums(sums)}
    folder = Path(repo.objects.path(layout.node(version.uuid)))
    assert listed == {
        k: d for k, d in checksums(folder).items() if not k.startswith(("seal.json", "sums/", "journal/"))
    }


def check_child(folder: Path) -> None:
    """What comes after a version that was committed sees all that this holds."""
    with vzarr.open(str(folder)) as repo:
        sealed = repo["master"]
        assert attempts.contents(sealed.newversion()) == attempts.contents(sealed)


def checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sealed_folders(folder: Path) -> dict[str, dict[str, str]]:
    with vzarr.open(str(folder)) as repo:
        return {v.uuid: checksums(folder / "nodes" / v.uuid) for v in repo.versions() if v.sealed}


@pytest.mark.crash
@pytest.mark.parametrize(("name", "entries", "step"), CASES)
def test_a_killed_attempt_did_nothing_or_all(
    prepared: Callable[[int], Path], tmp_path: Path, kill: Kill, name: str, entries: int, step: int
):
    source = prepared(MERGED if name == "commit of a merge" else entries) if name != "create" else tmp_path / "nothing"
    reference = tmp_path / "reference"
    _copy(source, reference)
    before = outcome(reference)
    unchanged = sealed_folders(reference) if before else {}
    changes = kill(name, reference, 0)
    after = outcome(reference)
    assert after not in (before, None)
    assert changes > 2
    ends = []
    for deadly in (n for n in range(1, changes + 1) if n % step == 1 % step or n > changes - LAST):
        victim = tmp_path / f"victim{deadly}"
        _copy(source, victim)
        assert kill(name, victim, deadly) == 0
        left = outcome(victim)
        assert left in (before, after), f"change {deadly} of {changes}"
        ends.append(left == after)
        _try_again(name, victim, done=left == after)
        assert outcome(victim) == after, f"change {deadly} of {changes}"
        assert {node: checksums(victim / "nodes" / node) for node in unchanged} == unchanged
        if name == "commit":
            check_child(victim)
        shutil.rmtree(victim)
    assert ends == sorted(ends), "what was done was undone by what follows"
    assert not ends[0]


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copytree(source, target)


def _try_again(name: str, folder: Path, *, done: bool) -> None:
    if done and name in ("merge", "write"):
        return  # could be done once more, on top
    started = time.monotonic()
    if done:
        with pytest.raises((AlreadyExistsError, SealedError)):
            attempts.ATTEMPTS[name](str(folder))
    else:
        attempts.ATTEMPTS[name](str(folder))
    assert time.monotonic() - started < PROMPTLY


@pytest.mark.crash
def test_a_creation_that_was_cut_off_is_finished_with_the_root_it_began_with(tmp_path: Path, kill: Kill):
    folder = tmp_path / "repo"
    deadly = 1
    while not (folder / layout.REPO).exists():
        assert kill("create", folder, deadly) == 0
        deadly += 1
    assert outcome(folder) is None
    with pytest.raises(AlreadyExistsError, match="begun with root"):
        vzarr.create(str(folder), root="other")
    with vzarr.create(str(folder)) as repo:
        assert repo.uuid == "root"
