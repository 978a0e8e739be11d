"""Many repos below one folder: how versions are found by name, and repos when they appear."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import vzarr
from vzarr.api.errors import UnknownReferenceError
from vzarr.api.hub import Hub
from vzarr.errors import AlreadyExistsError, InvalidInputError
from vzarr.overlay.objects.durable import DurableFiles
from vzarr.overlay.transfer.copying import copy_nodes
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.plans import Arrival

A, B = "aaaa" + "0" * 28, "aaab" + "0" * 28


def test_an_absent_root_is_made_empty(tmp_path: Path):
    hub = Hub(tmp_path / "deep" / "root")
    assert hub.repos() == []
    assert (tmp_path / "deep" / "root").is_dir()


def test_a_repo_lies_in_a_folder_named_by_its_root(hub: Hub):
    repo = hub.create(alias="fly")
    assert (hub.root / repo.uuid / "vzarr.json").is_file()
    assert [found.uuid for found in hub.repos()] == [repo.uuid]
    assert hub.find(repo.uuid)[0] is repo


def test_references_by_exact_id_and_unique_prefix_over_all_repos(hub: Hub):
    hub.create(root=A)
    hub.create(root=B)
    assert hub.find(A)[1].uuid == A
    assert hub.find("aaab")[1].uuid == B
    with pytest.raises(InvalidInputError, match="more than one UUID matches aaa"):
        hub.find("aaa")
    for unknown in ("zz", A + "00", "AAAA", ""):
        with pytest.raises(UnknownReferenceError, match="could not find UUID with partial match"):
            hub.find(unknown)


def test_a_whole_id_is_found_without_a_look_at_the_folder_until_its_repo_may_be_gone(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    hub.create(root=A)
    hub.create(root=B)
    hub.find(A)
    looks, stamp = [], hub._stamp
    monkeypatch.setattr(hub, "_stamp", lambda: looks.append(1) or stamp())
    monkeypatch.setattr("vzarr.api.hub._GONE_SECONDS", 1000.0)
    hub.find(B)
    looks.clear()
    assert hub.find(A)[1].uuid == A
    assert not looks
    for ref in ("aaaa", "aaab"):  # might not be the only one any more
        hub.find(ref)
    assert looks
    shutil.rmtree(hub.root / A)
    hub._look_by = 0.0
    with pytest.raises(UnknownReferenceError):
        hub.find(A)


def test_references_by_branch(hub: Hub):
    repo = hub.create(root=A)
    repo.root.commit("first")
    side = repo.root.branch("side", uuid="b" * 32)
    child = repo.root.newversion(uuid="c" * 32)
    for ref, expected in (
        ("aaaa:master", child),
        (":master", child),
        (":side", side),
        ("bbb:master", child),
        ("aaaa:side", side),
        ("aaaa:", repo.root),
        ("aaaa:master~0", child),
        ("aaaa:master~1", repo.root),
        ("aaaa:side~1", repo.root),
    ):
        assert hub.find(ref)[1].uuid == expected.uuid, ref
    with pytest.raises(UnknownReferenceError, match='parent 2 is out of range for branch "master"'):
        hub.find("aaaa:master~2")
    for unknown in ("aaaa:nowhere", ":nowhere", "zz:master"):
        with pytest.raises(UnknownReferenceError):
            hub.find(unknown)


def test_a_branch_alone_needs_exactly_one_repo(hub: Hub):
    with pytest.raises(InvalidInputError, match="UUID must be specified"):
        hub.find(":master")
    hub.create()
    hub.find(":master")
    hub.create()
    with pytest.raises(InvalidInputError, match="UUID must be specified"):
        hub.find(":master")


def test_ids_are_unique_over_all_repos(hub: Hub):
    hub.create(root="mine")
    with pytest.raises(AlreadyExistsError, match="UUID already exists"):
        hub.create(root="mine")
    hub.find("mine")[1].commit()
    hub.find("mine")[1].tag("v1")
    with pytest.raises(AlreadyExistsError, match="UUID already exists"):
        hub.create(root="v1")


@pytest.mark.parametrize("root", ["../outside", "a/b", ".hidden", "a b", "x" * 129])
def test_a_root_that_cannot_name_a_version_is_refused(hub: Hub, root: str):
    with pytest.raises(InvalidInputError):
        hub.create(root=root)
    assert hub.repos() == []


def test_a_repo_that_somebody_else_makes_is_found(hub: Hub):
    assert hub.repos() == []
    vzarr.create(str(hub.root / "other"), root=A).close()
    assert hub.find("aaaa")[1].uuid == A


def test_a_folder_may_become_a_repo_later(hub: Hub):
    (hub.root / "slow").mkdir()
    assert hub.repos() == []
    vzarr.create(str(hub.root / "slow"), root=A).close()
    assert [repo.uuid for repo in hub.repos()] == [A]


def test_a_damaged_repo_hides_no_other(hub: Hub, caplog: pytest.LogCaptureFixture):
    (hub.root / "broken").mkdir()
    (hub.root / "broken" / "vzarr.json").write_text("{")
    hub.create(root=A)
    assert [repo.uuid for repo in hub.repos()] == [A]
    assert "broken" in caplog.text


def test_one_repos_own_folder_is_served_alone(tmp_path: Path):
    vzarr.create(str(tmp_path / "one"), root=A).close()
    hub = Hub(tmp_path / "one")
    assert hub.find(":master")[1].uuid == A
    with pytest.raises(InvalidInputError, match="no other"):
        hub.create()
    hub.close()


def test_a_server_that_starts_again_finds_its_repos(hub: Hub):
    hub.create(root=A)
    again = Hub(hub.root)
    assert [repo.uuid for repo in again.repos()] == [A]
    again.close()


def test_nothing_is_remembered_of_a_repo_that_was_removed(hub: Hub, tmp_path: Path):
    """It can come again, and then lacks all that it had."""
    with vzarr.create(str(tmp_path / "first"), root=A) as repo:
        repo.root.commit()
        for _ in range(2):
            hub.begin(A)
            place = hub.place(A)
            assert not place.state().nodes
            assert not place.knows(A)
            transfer(repo, hub)
            assert hub.place(A).knows(A)
            assert hub.find(A)[1].sealed
            shutil.rmtree(hub.root / A)
            hub.look_again()


def test_what_is_pushed_lasts_as_new_repos_do(tmp_path: Path):
    with vzarr.create(str(tmp_path / "first"), root=A) as repo:
        repo.root.commit()
        Hub(tmp_path / "repos", durability="fsync").begin(A)
        hub = Hub(tmp_path / "repos")
        hub.begin(A)  # goes on as it was begun
        transfer(repo, hub)
        assert hub.find(A)[0].objects.__class__ is DurableFiles


def transfer(repo: vzarr.Repo, hub: Hub) -> None:
    """What a push does once it has begun."""
    state, here, there = repo.state, open_place(repo.url), hub.place(repo.uuid)
    nodes = list(state.nodes)
    copy_nodes(here, there, state, nodes)
    there.publish(Arrival(state, nodes))
    hub.look_again()
