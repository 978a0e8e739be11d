"""Jobs as rows of a repo's keys: seen by everybody who uses these, and told to be over when their process is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vzarr
from vzarr.errors import NotFoundError
from vzarr.jobs import records
from vzarr.jobs.records import Records

BEGIN = """
import sys, vzarr
from vzarr.jobs.records import Records
repo = vzarr.open(sys.argv[1])
jobs = Records.of(repo)
job = jobs.add(repo.uuid, "push", {"target": "x"}, user="ann")
jobs.update(job.id, state="running", done=3, total=9)
print(job.id, flush=True)
sys.stdin.read()
"""


def test_another_process_sees_a_job_and_that_it_was_killed(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        command = [sys.executable, "-c", BEGIN, repo.url]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        number = process.stdout.readline().strip()
        jobs = Records.of(repo)
        job = jobs.get(number)
        assert (job.state, job.verb, job.user, job.done, job.total) == ("running", "push", "ann", 3, 9)
        assert [j.id for j in jobs.all()] == [number]
        assert jobs.ask_to_stop(number).cancelling
        process.kill()
        process.communicate()
        job = jobs.get(number)
        assert (job.state, job.active, job.done) == ("interrupted", False, 3)
        assert "gone" in job.error["message"]
        assert jobs.ask_to_stop(number).state == "interrupted"
        with vzarr.open(repo.url) as again:
            assert Records.of(again).get(number).state == "interrupted"


def test_the_newest_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "KEPT", 3)
    with vzarr.create(str(tmp_path / "repo")) as repo:
        jobs = Records.of(repo)
        numbers = [jobs.add(repo.uuid, "push", {}).id for _ in range(2)]
        assert jobs.get(numbers[0]).active
        for _ in range(4):
            number = jobs.add(repo.uuid, "push", {}).id
            jobs.update(number, state="done")
            numbers.append(number)
        assert {j.id for j in jobs.all()} == {*numbers[:2], *numbers[-3:]}
        assert [j.id for j in jobs.all()] == sorted((j.id for j in jobs.all()), reverse=True)
        with pytest.raises(NotFoundError):
            jobs.get(numbers[2])


def test_where_keys_cannot_be_reached_jobs_are_this_processs_own(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo"), keys=f"sqlite:///{tmp_path}/keys.sqlite") as repo:
        repo.root.commit()
    (tmp_path / "keys.sqlite").unlink()
    with vzarr.open(str(tmp_path / "repo")) as repo:
        job = Records.of(repo).add(repo.uuid, "push", {})
        assert Records.of(repo).get(job.id) == job


def test_what_is_shown_says_nothing_of_processes(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        shown = Records.of(repo).add(repo.uuid, "push", {"a": 1}, unit="objects", user="ann", app="x").to_json()
    assert shown.keys() == {
        "id", "repo", "verb", "arguments", "user", "app", "state", "created", "started", "ended", "result", "error",
        "cancelling", "progress",
    }  # fmt: skip
    assert shown["progress"] == {"done": 0, "total": None, "unit": "objects"}
