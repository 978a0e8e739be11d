"""A repo: made once, opened anywhere, its instances and their keys through history."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import vzarr
from vzarr.errors import (
    AlreadyExistsError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    SealedError,
    UnsupportedError,
)
from vzarr.overlay import layout
from vzarr.overlay.opening import open_objects


def test_a_new_repo(url: str):
    with vzarr.create(url, alias="fly", description="a brain") as repo:
        state = repo.state
        assert (state.alias, state.description, state.log) == ("fly", "a brain", ())
        assert repo.uuid == repo.root.uuid == repo["master"].uuid
        assert (len(repo.uuid), repo.root.sealed, repo.versions()) == (32, False, [repo.root])
        assert (repo.branches(), repo.branch_versions("master")) == (["master"], [repo.uuid])
        assert dict(repo.root.zarr.members()) == {}
        assert [op["op"] for op in repo.log()[0].ops] == ["repo", "node"]
        assert "fly" in repr(repo)
        with vzarr.open(url) as again:
            assert again == repo
            assert hash(again) == hash(repo)
            assert again.state == state


def test_a_client_may_name_the_root(url: str):
    with vzarr.create(url, root="My.repo-1") as repo:
        repo.root.create_array("a", dtype="u1", chunks=(2, 2, 2), shape=(2, 2, 2))
        repo.root.write("a", (0, 0, 0), repo.root.read("a", (0, 0, 0), (2, 2, 2)) + 7)
        child = repo.root.commit().newversion()
        assert repo["My"] == repo.root
        assert child.owners("a", [(0, 0, 0)]) == ["My.repo-1"]
        assert (child.zarr["a"][...] == 7).all()
        assert child.commit().newversion().owners("a", [(0, 0, 0)]) == ["My.repo-1"]


@pytest.mark.parametrize("root", ["", "..", "a/b", "-", "a b", "x" * 129])
def test_a_root_of_another_name_is_refused(url: str, root: str):
    with pytest.raises(InvalidInputError):
        vzarr.create(url, root=root)
    with pytest.raises(NotFoundError):
        vzarr.open(url)


def test_one_place_holds_one_repo(repo: vzarr.Repo, url: str):
    with pytest.raises(AlreadyExistsError, match="repo already"):
        vzarr.create(url)
    assert vzarr.open(url).uuid == repo.uuid


def test_a_creation_that_was_cut_off_can_be_finished(url: str):
    objects = open_objects(url)
    with vzarr.create(url) as repo:
        first = repo.uuid
        objects.delete(layout.log_entry(0))
    with pytest.raises(FormatError, match="never finished"):
        vzarr.open(url)
    with vzarr.create(url, alias="again") as repo:
        assert (repo.uuid, repo.state.alias) == (first, "again")


@pytest.mark.parametrize("url", ["", "s3://", "nope://host/repo"])
def test_other_places_are_refused(url: str):
    for make in (vzarr.open, vzarr.create):
        with pytest.raises((InvalidInputError, UnsupportedError)):
            make(url)


def test_a_folder_without_a_repo(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(NotFoundError, match="no repo"):
            vzarr.open(str(path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_branches_versions_and_tags(repo: vzarr.Repo):
    root = repo.root
    for make in (root.newversion, lambda: root.branch("side"), lambda: root.tag("v1")):
        with pytest.raises(SealedError, match="commit"):
            make()
    root.commit()
    child, side, tag = root.newversion(), root.branch("side", uuid="1" * 32), root.tag("v1", user="ann")
    assert side.uuid == "1" * 32
    assert repo.branches() == ["master", "side", "tag-v1"]
    for make, error in [
        (root.newversion, AlreadyExistsError),
        (lambda: root.branch("side"), AlreadyExistsError),
        (lambda: root.branch("new", uuid="1" * 32), AlreadyExistsError),
        (lambda: root.branch("new", uuid="xyz"), InvalidInputError),
        (lambda: root.branch("master"), InvalidInputError),
        (lambda: root.branch("a/b"), InvalidInputError),
        (lambda: root.tag("v1"), AlreadyExistsError),
        (lambda: root.tag("1" * 32), AlreadyExistsError),
        (lambda: root.tag("a b"), InvalidInputError),
        (lambda: root.tag("../v2"), InvalidInputError),
        (root.commit, SealedError),
        (lambda: root.set_note("x"), SealedError),
    ]:
        with pytest.raises(error):
            make()
    assert repo.versions() == [root, child, side, tag]
    assert repo.log()[-1].user == "ann"
    assert tag.newversion().branch_name == "tag-v1"


def test_no_name_hides_another(repo: vzarr.Repo):
    root = repo.root.commit()
    side, tag = root.branch("abc123"), root.tag("v1")
    before = repo.versions()
    for make, error, text in [
        (lambda: root.tag("master"), InvalidInputError, "'master' is the default branch"),
        (lambda: root.tag("abc123"), AlreadyExistsError, "a branch is named 'abc123'"),
        (lambda: root.tag("tag-v1"), AlreadyExistsError, "a branch is named 'tag-v1'"),
        (lambda: root.branch(root.uuid), AlreadyExistsError, f"a version or tag is named '{root.uuid}'"),
        (lambda: root.branch("v1"), AlreadyExistsError, "a version or tag is named 'v1'"),
        (lambda: root.branch("tag-v1"), AlreadyExistsError, "branch already exists"),
    ]:
        with pytest.raises(error, match=text):
            make()
    root.branch("f" * 32)
    with pytest.raises(AlreadyExistsError, match="a branch is named"):
        root.branch("other", uuid="f" * 32)
    root.branch("tag-v2")
    with pytest.raises(AlreadyExistsError, match="the branch of the tag 'v2'"):
        root.tag("v2")
    root.tag("tag-v3")
    with pytest.raises(AlreadyExistsError, match="a version or tag is named 'tag-v3'"):
        root.tag("v3")
    assert [repo[ref] for ref in ("master", "abc123", root.uuid, "v1", "tag-v1")] == [root, side, root, tag, tag]
    assert len(repo.versions()) == len(before) + 3
    with pytest.raises(InvalidInputError, match="default branch"):
        vzarr.create("memory://named-master", root="master")


def test_settings_of_the_repo(repo: vzarr.Repo):
    repo.set_info(alias="a")
    repo.set_info(description="d")
    repo.add_log(["one", "two"], user="ann")
    state = repo.state
    assert (state.alias, state.description) == ("a", "d")
    assert [line.split("  ", 1)[1] for line in state.log] == ["one", "two"]
    assert repo.log()[-1].user == "ann"


def test_instances_belong_to_the_repo(repo: vzarr.Repo):
    made = repo.record_instance(repo.root, "kv", "keyvalue", config={"k": "v"}, user="ann")
    assert (made.name, made.typename, made.config, made.version) == ("kv", "keyvalue", {"k": "v"}, repo.uuid)
    assert len(made.data_uuid) == 32
    with pytest.raises(AlreadyExistsError, match="'kv'"):
        repo.record_instance(repo.root, "kv", "keyvalue")
    child = repo.root.commit().newversion()
    with pytest.raises(SealedError):
        repo.record_instance(repo.root, "late", "keyvalue")
    assert child.instance_info("kv") == made
    changed = repo.update_instance("kv", tags={"t": "1"}, syncs=["x"])
    assert (changed.tags, changed.syncs, changed.config) == ({"t": "1"}, ("x",), {"k": "v"})
    with pytest.raises(NotFoundError, match="no instance 'other'"):
        repo.update_instance("other", tags={})
    repo.remove_instance("kv")
    with pytest.raises(NotFoundError):
        child.instance_info("kv")


def test_keys_follow_the_versions(repo: vzarr.Repo):
    repo.record_instance(repo.root, "kv", "keyvalue")
    repo.record_instance(repo.root, "plain", "keyvalue", versioned=False)
    root = repo.root
    for name in ("kv", "plain"):
        root.transact(name, lambda tx: (tx.put(b"a", b"1"), tx.put(b"b", b"1")))
    child = root.commit().newversion()
    side = root.branch("side")
    child.transact("kv", lambda tx: (tx.put(b"a", b"2"), tx.delete(b"b")))
    with pytest.raises(SealedError):
        root.transact("kv", lambda tx: tx.put(b"a", b"3"))
    root.transact("plain", lambda tx: tx.put(b"a", b"3"))
    with vzarr.open(repo.url) as elsewhere:
        for here in (repo, elsewhere):
            found = [dict(here[v.uuid].keys("kv").scan()) for v in (root, child, side)]
            assert found == [{b"a": b"1", b"b": b"1"}, {b"a": b"2"}, {b"a": b"1", b"b": b"1"}]
            assert {here[v.uuid].keys("plain").get(b"a") for v in (root, child, side)} == {b"3"}


def test_a_transaction_that_fails_changes_nothing(repo: vzarr.Repo):
    repo.record_instance(repo.root, "kv", "keyvalue")

    def fail(tx) -> None:
        tx.put(b"a", b"1")
        raise InvalidInputError("no")

    with pytest.raises(InvalidInputError):
        repo.root.transact("kv", fail)
    assert repo.root.keys("kv").get(b"a") is None


def test_many_versions_stay_quick_to_name(repo: vzarr.Repo):
    version = repo.root
    for n in range(60):
        version = version.commit(f"note {n}").newversion()
    assert repo["master"] == version
    assert repo["master~60"] == repo.root
    assert len(repo.branch_versions("master")) == 61
    with vzarr.open(repo.url) as again:
        assert again.state == repo.state
        assert pickle.loads(pickle.dumps(again["master"])) == version
