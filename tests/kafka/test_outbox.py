"""Cursors: whatever happens between two looks, each topic gets everything, in order."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import vzarr
from tests.kafka.collector import Collector
from vzarr.kafka import cursors, outbox
from vzarr.kafka.cursors import EntryCursor, MutationCursor
from vzarr.kafka.publisher import Publisher
from vzarr.kafka.topics import Topics
from vzarr.overlay import layout
from vzarr.types import mutations, registry

TOPICS = Topics()


def publish(repo: vzarr.Repo, broker: Collector) -> None:
    Publisher(lambda: [repo], TOPICS, broker).publish()


def topic_of(repo: vzarr.Repo, name: str) -> str:
    return TOPICS.of_instance(repo.uuid, repo.state.instances[name].data_uuid)


def ids(messages: list[dict]) -> list[int]:
    return [m["MutationID"] for m in messages]


def logged(repo: vzarr.Repo, name: str) -> list[int]:
    """Mutation ids of all records of an instance, at any version."""
    info = repo.state.instances[name]
    versions = repo.versions() if info.versioned else [repo.root]
    handles = [registry.open_instance(version, name) for version in versions]
    found = [json.loads(r)["MutationID"] for handle in handles for r in mutations.read(handle)]
    assert len(found) == len(set(found))
    return sorted(found)


def test_everything_comes_once_and_in_order(repo: vzarr.Repo, broker: Collector):
    kv = registry.create(repo.root, "kv", "keyvalue")
    shared = registry.create(repo.root, "shared", "keyvalue", versioned=False)
    kv.put("a", b"1")
    publish(repo, broker)
    shared.put("b", b"2")
    root = repo.root.commit()
    main, side = root.newversion(), root.branch("side")
    for n, version in enumerate((main, side, main, side)):
        version["kv"].put(f"{n}", b"")
        version["shared"].put(f"{n}", b"")
    root["shared"].put("at a sealed version", b"")
    publish(repo, broker)
    main.commit()
    side["kv"].put("last", b"")
    publish(repo, broker)
    assert [m["Key"] for m in broker.topics[topic_of(repo, "kv")]] == ["a", "0", "1", "2", "3", "last"]
    expected = ["b", "0", "1", "2", "3", "at a sealed version"]
    assert [m["Key"] for m in broker.topics[topic_of(repo, "shared")]] == expected
    history = [m["Action"] for m in broker.topics[TOPICS.of_repo(repo.uuid)]]
    assert history == ["newinstance", "newinstance", "commit", "newversion", "branch", "commit"]
    sends = broker.sends
    publish(repo, broker)
    assert broker.sends == sends


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_happens_while_one_looks(repo: vzarr.Repo, broker: Collector, monkeypatch: pytest.MonkeyPatch, when: str):
    """Beside the reading of the next mutation id: a version gets its last mutation and is sealed, another begins."""
    registry.create(repo.root, "kv", "keyvalue")
    version, side = repo.root.commit().newversion(), repo.root.branch("side")
    found, real = Publisher(lambda: [repo], TOPICS, broker), outbox.peek_mutation_id
    found.publish()

    def happens() -> None:
        monkeypatch.setattr(outbox, "peek_mutation_id", real)
        version["kv"].put("last", b"")
        version.commit().newversion()["kv"].put("first", b"")
        side["kv"].put("beside", b"")

    def peek(kv):
        if when == "before":
            happens()
        value = real(kv)
        if when == "after":
            happens()
        return value

    monkeypatch.setattr(outbox, "peek_mutation_id", peek)
    for _ in range(3):
        found.publish()
    assert [m["Key"] for m in broker.topics[topic_of(repo, "kv")]] == ["last", "first", "beside"]


def test_a_broker_that_comes_late_gets_the_whole_history(repo: vzarr.Repo, broker: Collector):
    kv, version = registry.create(repo.root, "kv", "keyvalue"), repo.root
    for n in range(20):
        version["kv"].put(f"{n}", b"")
        version = version.commit().newversion()
    publish(repo, broker)
    assert [m["Key"] for m in broker.topics[topic_of(repo, "kv")]] == [f"{n}" for n in range(20)]
    assert kv.info.data_uuid in topic_of(repo, "kv")


def test_renamed_and_deleted_instances_keep_their_topic(repo: vzarr.Repo, broker: Collector):
    kv = registry.create(repo.root, "kv", "keyvalue")
    topic = topic_of(repo, "kv")
    kv.put("a", b"")
    repo.rename_instance("kv", "notes")
    repo.root["notes"].put("b", b"")
    repo.delete_instance("notes")
    publish(repo, broker)
    assert [m["Key"] for m in broker.topics[topic]] == ["a", "b"]


def test_batches_are_bounded(repo: vzarr.Repo, broker: Collector, monkeypatch: pytest.MonkeyPatch):
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.put_many([(f"{n}", b"") for n in range(2500)])
    publish(repo, broker)
    assert len(broker.topics[topic_of(repo, "kv")]) == 2500
    assert broker.sends == 1 + 3
    monkeypatch.setattr(outbox, "BATCH_BYTES", 1000)
    kv.put_many([("x" * 400 + f"{n}", b"") for n in range(10)])
    publish(repo, broker)
    assert broker.sends == 1 + 3 + 5


def test_what_waits_is_counted(repo: vzarr.Repo, broker: Collector):
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.put_many([(f"{n}", b"") for n in range(30)])
    assert outbox.waiting(repo, TOPICS, 20) == {TOPICS.of_repo(repo.uuid): 2, topic_of(repo, "kv"): 20}
    publish(repo, broker)
    assert set(outbox.waiting(repo, TOPICS, 20).values()) == {0}


def test_who_was_overtaken_moves_nothing(repo: vzarr.Repo):
    kv = repo.authority.kv
    cursors.move(kv, "t", None, b"1")
    for known in (None, b"0"):
        with pytest.raises(cursors.OvertakenError):
            cursors.move(kv, "t", known, b"2")
    cursors.move(kv, "t", b"1", b"2")
    assert cursors.read(kv, ["t", "u"]) == [b"2", None]


def test_a_cursor_of_who_knows_more_keeps_its_open_versions(repo: vzarr.Repo):
    """A server that has not heard of a version yet must not take it for sealed."""
    before = repo.state
    version = repo.root.commit().newversion()
    cursor = MutationCursor(10**9, 0).complete(10**9, repo.state)
    assert (cursor.versions, cursor.open) == (2, (2,))
    assert cursor.complete(10**9 + 5, before) == MutationCursor(10**9 + 5, 2, (2,))
    version.commit()
    assert cursor.complete(10**9 + 5, repo.state).open == ()


@pytest.mark.parametrize("cursor", [EntryCursor(7), MutationCursor(10**9, 5, (3, 5)), MutationCursor(1)])
def test_cursors_come_back(cursor):
    assert type(cursor).decode(cursor.encode()) == cursor


def test_a_clone_publishes_only_what_it_did_itself(repo: vzarr.Repo, broker: Collector, tmp_path):
    registry.create(repo.root, "kv", "keyvalue").put("a", b"")
    repo.root.commit()
    vzarr.clone(repo.url, str(tmp_path / "clone"))
    with vzarr.open(str(tmp_path / "clone")) as clone:
        clone.root.newversion()["kv"].put("b", b"")
        publish(clone, broker)
        clone.root.children[0].commit()
        assert [m["Key"] for m in broker.topics[topic_of(repo, "kv")]] == ["b"]
        repo.pull(clone.url)
    publish(repo, broker)
    assert [m["Key"] for m in broker.topics[topic_of(repo, "kv")]] == ["b", "a"]
    history = [m["Action"] for m in broker.topics[TOPICS.of_repo(repo.uuid)]]
    assert history == ["newversion", "newinstance", "commit"]


# ---------------------------------------------------------------- any order of events


class KilledError(BaseException):
    """The process ends here."""


@dataclass
class Server:
    """A publisher of a process of its own, which remembers what it saw last."""

    repo: vzarr.Repo
    broker: Collector
    publisher: Publisher = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.publisher = Publisher(lambda: [self.repo], TOPICS, self.broker)


class OutboxMachine(RuleBasedStateMachine):
    """Edits, versions and two servers that publish in any order, die, and are refused."""

    versions = Bundle("versions")

    @initialize(target=versions)
    def begin(self):
        self.url = f"memory://{uuid.uuid4().hex}"
        self.repo = vzarr.create(self.url)
        self.broker = Collector()
        self.servers = [Server(vzarr.open(self.url), self.broker) for _ in range(2)]
        for name in ("one", "two", "shared"):
            registry.create(self.repo.root, name, "keyvalue", versioned=name != "shared")
        self.branches = 0
        return self.repo.uuid

    @rule(version=versions, name=st.sampled_from(["one", "two", "shared"]), count=st.integers(1, 3))
    def edit(self, version: str, name: str, count: int) -> None:
        if name == "shared" or not self.repo[version].sealed:
            self.repo[version][name].put_many([("k", b"")] * count)

    @rule(version=versions)
    def commit(self, version: str) -> None:
        if not self.repo[version].sealed:
            self.repo[version].commit()

    @rule(target=versions, version=versions)
    def child(self, version: str):
        if not self.repo[version].sealed:
            return version
        self.branches += 1
        return self.repo[version].branch(f"b{self.branches}").uuid

    @rule(target=versions, versions=st.lists(versions, min_size=2, max_size=2, unique=True))
    def join(self, versions: list[str]):
        if not all(self.repo[v].sealed for v in versions):
            return versions[0]
        return self.repo.merge(versions, "ours").uuid

    @rule(server=st.integers(0, 1))
    def publish(self, server: int) -> None:
        self.servers[server].publisher.publish()

    @rule(server=st.integers(0, 1), sends=st.integers(0, 3))
    def die(self, server: int, sends: int) -> None:
        """Be killed after so many deliveries, before the cursor is moved."""
        left = sends

        def dies() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        self.broker.dies = dies
        try:
            self.servers[server].publisher.publish()
        except KilledError:
            self.servers[server].restart()
        finally:
            self.broker.dies = lambda: None

    @rule(server=st.integers(0, 1))
    def fail(self, server: int) -> None:
        self.broker.down = True
        self.servers[server].publisher.publish()
        self.broker.down = False
        self.servers[server].restart()  # else it would wait for a while

    @rule(server=st.integers(0, 1), name=st.sampled_from(["one", "shared"]))
    def refuse(self, server: int, name: str) -> None:
        self.broker.refused = {topic_of(self.repo, name)}
        self.servers[server].publisher.publish()
        self.broker.refused = set()
        self.servers[server].restart()

    @invariant()
    def in_order(self) -> None:
        for topic, messages in getattr(self, "broker", Collector()).topics.items():
            if "-data-" in topic:
                first = list(dict.fromkeys(ids(messages)))
                assert first == sorted(first), "a mutation was overtaken by a later one"

    def teardown(self) -> None:
        for server in self.servers:
            server.publisher.publish()
        for name in ("one", "two", "shared"):
            published = list(dict.fromkeys(ids(self.broker.topics[topic_of(self.repo, name)])))
            assert published == logged(self.repo, name)
        history = self.broker.topics[TOPICS.of_repo(self.repo.uuid)]
        once = [json.loads(m) for m in dict.fromkeys(json.dumps(m, sort_keys=True) for m in history)]
        made = [m["Child"] for m in once if "Child" in m]
        assert [self.repo.uuid, *made] == [v.uuid for v in self.repo.versions()]
        assert sorted(m["UUID"] for m in once if m["Action"] == "commit") == sorted(
            v.uuid for v in self.repo.versions() if v.sealed
        )
        for repo in (self.repo, *(s.repo for s in self.servers)):
            repo.close()


def test_any_order_of_events():
    run_state_machine_as_test(OutboxMachine, settings=settings(stateful_step_count=30))


def test_a_cursor_is_one_row_per_topic(repo: vzarr.Repo, broker: Collector):
    registry.create(repo.root, "kv", "keyvalue").put("a", b"")
    publish(repo, broker)
    start = layout.row_published("")
    rows = list(repo.authority.kv.scan(start, layout.after(start)))
    assert [row[1:].decode() for row, _ in rows] == sorted([TOPICS.of_repo(repo.uuid), topic_of(repo, "kv")])
