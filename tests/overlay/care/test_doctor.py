"""Doctor: what would not work is named, what works is said to, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

import vzarr
from vzarr.cli import main
from vzarr.errors import FormatError, NotFoundError
from vzarr.overlay import layout
from vzarr.overlay.care.doctor import Level, examine
from vzarr.overlay.opening import open_objects


def found(repo: vzarr.Repo) -> dict[str, tuple[Level, str]]:
    return {r.topic: (r.level, r.message) for r in examine(repo.objects)}


def test_a_sound_repo_is_well_and_stays_as_it_was(repo: vzarr.Repo):
    repo.root.create_array("a", dtype="u1", chunks=(4,), shape=(8,), dimension_names=None)
    repo.root.commit().newversion()
    before = set(repo.objects.walk())
    remarks = list(examine(repo.objects))
    assert {r.level for r in remarks} == {Level.ok}
    assert {r.topic for r in remarks} >= {"format", "log", "writing", "clock", "keys", "garbage"}
    assert {k for k, _ in repo.objects.walk() if not k.startswith("keys/")} == {
        k for k, _ in before if not k.startswith("keys/")
    }


def test_who_writes_is_counted(repo: vzarr.Repo):
    with repo.root.writing():
        assert found(repo)["writers"][1].startswith("1 writing")


def test_an_interrupted_commit_is_told(repo: vzarr.Repo):
    repo.authority.begin_close(repo.uuid)
    level, message = found(repo)["commit"]
    assert level is Level.hint
    assert repo.uuid in message


def test_a_damaged_log_is_a_problem(file_repo: vzarr.Repo):
    file_repo.root.commit()
    Path(file_repo.objects.path(layout.log_entry(1))).write_bytes(b"{")
    level, message = found(file_repo)["log"]
    assert level is Level.problem
    assert layout.log_entry(1) in message


def test_an_entry_from_the_future_is_a_problem(file_repo: vzarr.Repo):
    path = Path(file_repo.objects.path(layout.log_entry(0)))
    entry = orjson.loads(path.read_bytes())
    entry["time"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    path.write_bytes(orjson.dumps(entry))
    level, message = found(file_repo)["clock"]
    assert level is Level.problem
    assert "in the future" in message


def test_what_was_left_behind_is_told(file_repo: vzarr.Repo):
    path = Path(file_repo.objects.path("tmp/left"))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"12345")
    os.utime(path, (time.time() - 10**6,) * 2)
    level, message = found(file_repo)["garbage"]
    assert level is Level.hint
    assert "5 bytes" in message


def test_a_lost_key_authority_is_a_problem(file_repo: vzarr.Repo):
    file_repo.close()
    keys = Path(file_repo.objects.path("keys"))
    shutil.rmtree(keys)
    keys.write_text("in the way")
    level, message = found(file_repo)["keys"]
    assert level is Level.problem
    assert "sealed versions can be read" in message


def test_no_repo_is_an_error(tmp_path: Path):
    with pytest.raises(NotFoundError):
        list(examine(open_objects(tmp_path)))
    (tmp_path / layout.REPO).write_bytes(b"{")
    with pytest.raises(FormatError):
        list(examine(open_objects(tmp_path)))


def test_the_verb_prints_it_and_its_exit_status_says_it(file_repo: vzarr.Repo, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--json"]) == 0
    assert [r["topic"] for r in json.loads(capsys.readouterr().out)] == ["installation", "extras"]
    assert main(["doctor", file_repo.url]) == 0
    assert "exclusive creates" in capsys.readouterr().out
    Path(file_repo.objects.path(layout.log_entry(0))).write_bytes(b"{")
    assert main(["doctor", file_repo.url]) == 1
