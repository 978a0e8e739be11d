"""Checkpoint and hint of the log: damage is named, does no harm, and is mended from the entries."""

from __future__ import annotations

from pathlib import Path

import pytest

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.care.rebuild import rebuild_damaged
from vzarr.overlay.care.verify import verify


@pytest.fixture
def repo(file_repo: vzarr.Repo) -> vzarr.Repo:
    file_repo.root.commit().newversion("two").commit()
    return file_repo


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"checkpoint": 0, "state": {}}', b'{"head": 1}', "half"])
def test_a_damaged_hint_is_named_and_made_again(repo: vzarr.Repo, data: bytes | str):
    hint = Path(repo.objects.path(layout.LATEST))
    whole = hint.read_bytes()
    hint.write_bytes(whole[: len(whole) // 2] if isinstance(data, str) else data)
    with vzarr.open(repo.url) as again:
        assert again["master"] == repo["master"]
    found = list(verify(repo.objects))
    assert [(f.name, f.key) for f in found] == [("hint-damaged", layout.LATEST)]
    assert rebuild_damaged(repo.objects, found) == ([layout.LATEST], [])
    assert list(verify(repo.objects)) == []
    assert hint.read_bytes() == whole


def test_a_damaged_checkpoint_is_made_again(repo: vzarr.Repo):
    while repo.state.next <= layout.CHECKPOINT_EVERY:
        repo.add_log(["a line"])
    key = layout.checkpoint(layout.CHECKPOINT_EVERY - 1)
    whole = Path(repo.objects.path(key)).read_bytes()
    Path(repo.objects.path(key)).write_bytes(b"nonsense")
    found = list(verify(repo.objects))
    assert [(f.name, f.key) for f in found][:1] == [("checkpoint-damaged", key)]
    assert key in rebuild_damaged(repo.objects, found)[0]
    assert list(verify(repo.objects)) == []
    assert Path(repo.objects.path(key)).read_bytes() == whole


def test_a_log_that_is_damaged_itself_is_not_papered_over(repo: vzarr.Repo):
    for key in (layout.LATEST, layout.log_entry(2)):
        Path(repo.objects.path(key)).write_bytes(b"nonsense")
    assert rebuild_damaged(repo.objects, list(verify(repo.objects))) == ([], [])
    assert repo.objects.get(layout.LATEST) == b"nonsense"
