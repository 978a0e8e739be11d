"""A real broker: what arrives there, and that nothing is lost when it, or a server of ours, is killed."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

import vzarr
from tests.kafka import servers
from tests.kafka.servers import KafkaServer
from tests.kafka.test_outbox import logged
from tests.postgres import database
from tests.serving import TOKEN, kill, post, start, stop
from vzarr.kafka.broker import KafkaBroker, RefusedError, UnreachableError
from vzarr.kafka.topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]
KILLS = 6
LOST = (OSError, HTTPException)
"""What a client sees of a server that was killed, before its answer or in the middle of it."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    if servers.lacking():
        pytest.skip(f"no Kafka: {servers.lacking()}")
    server = KafkaServer(tmp_path_factory.mktemp("kafka") / "broker")
    server.start()
    yield server
    server.kill()


def consume(address: str, topic: str) -> list[bytes]:
    """Everything that a topic holds, in the order of its only partition in use."""

    async def read() -> list[bytes]:
        import aiokafka

        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=address, fetch_max_bytes=1 << 24)
        await consumer.start()
        try:
            await consumer._client._wait_on_metadata(topic)
            places = [aiokafka.TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
            ends = await consumer.end_offsets(places)
            assert not any(end for place, end in ends.items() if place.partition)
            consumer.assign(places[:1])
            await consumer.seek_to_beginning()
            found: list[bytes] = []
            while len(found) < ends[places[0]]:
                found += [r.value for r in (await consumer.getmany(timeout_ms=1000)).get(places[0], ())]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


# ---------------------------------------------------------------- the client


def test_messages_arrive_in_order(kafka: KafkaServer):
    broker = KafkaBroker([kafka.address])
    sent = [b"%d" % n + b" " * (n % 500) for n in range(20_000)]
    broker.send("in-order", sent[:1])
    broker.send("in-order", sent[1:])
    broker.send("in-order", [])
    broker.close()
    assert consume(kafka.address, "in-order") == sent


def test_the_largest_message_is_taken_and_a_larger_one_is_refused(kafka: KafkaServer):
    broker = KafkaBroker([kafka.address])
    broker.send("large", [b"a", b"x" * 980_000, b"b"])
    with pytest.raises(RefusedError, match="large"):
        broker.send("large", [b"x" * 1_200_000])
    broker.send("large", [b"c"])
    broker.close()
    assert list(map(len, consume(kafka.address, "large"))) == [1, 980_000, 1, 1]


def test_a_broker_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    broker = KafkaBroker([f"127.0.0.1:{servers.free_port()}"])
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
        broker.send("any", [b"a"])
    broker.close()


def test_who_waits_for_a_broker_is_let_go(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        broker = KafkaBroker([f"127.0.0.1:{silent.getsockname()[1]}"])
        ends: list[Exception] = []

        def send() -> None:
            try:
                broker.send("any", [b"a"])
            except UnreachableError as error:
                ends.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(0.5)
        began = time.monotonic()
        broker.close()
        thread.join(5)
        assert time.monotonic() - began < 5
        assert len(ends) == 1
        with pytest.raises(UnreachableError):
            broker.send("any", [b"a"])


def test_a_topic_that_is_not_made(tmp_path: Path, kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vzarr.kafka.broker.SECONDS", 2.0)
    strict = KafkaServer(tmp_path / "strict", create=False)
    strict.start()
    broker = KafkaBroker([strict.address])
    try:
        with pytest.raises(RefusedError, match="unknown"):
            broker.send("unknown", [b"a"])
    finally:
        broker.close()
        strict.kill()


# ---------------------------------------------------------------- servers


def get(url: str) -> Any:
    with urlopen(url, timeout=60) as answer:
        return json.loads(answer.read() or b"{}")


def prepare(url: str) -> str:
    """A repo with keys and labels; its root."""
    root = post(f"{url}/api/repos?admintoken={TOKEN}", {"alias": "kafka"})["root"]
    seg = {"typename": "labelmap", "dataname": "seg", "BlockSize": "16,16,16", "MaxDownresLevel": "0"}
    for settings in (seg, {"typename": "keyvalue", "dataname": "kv"}):
        post(f"{url}/api/repo/{root}/instance", settings)
    voxels = np.repeat(np.arange(1, 17, dtype="<u8"), 256).tobytes()
    post(f"{url}/api/node/{root}/seg/raw/0_1_2/16_16_16/0_0_0", voxels)
    return root


def settle(url: str) -> None:
    """Wait until everything is published."""
    end = time.monotonic() + 120
    while True:
        said = get(f"{url}/api/server/kafka")
        if not any(t["waiting"] for r in said["repos"].values() for t in r["topics"].values()):
            return
        assert time.monotonic() < end, said
        time.sleep(0.2)


@dataclass
class Editor:
    """Merges and cleaves, and writes keys, through servers that may go away."""

    urls: list[str]
    root: str
    edits: int = 0
    enough: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        while not self.enough.is_set():
            url = f"{random.choice(self.urls)}/api/node/{self.root}"
            try:
                post(f"{url}/kv/key/{self.edits}?u=ann", b"x")
                body = post(f"{url}/seg/merge?u=ann", [1, 2])
                assert body["MutationID"]
                # What was cleaved has a number of its own; a renumbering gives it the old one back.
                cleaved = post(f"{url}/seg/cleave/1?u=ann", [2])["CleavedLabel"]
                post(f"{url}/seg/renumber?u=ann", [2, cleaved])
                self.edits += 1
            except LOST:
                time.sleep(0.05)
                self.repair()

    def repair(self) -> None:
        """Bring the bodies back to where the next round begins, wherever the last one was cut off."""
        for url in self.urls:
            try:
                base = f"{url}/api/node/{self.root}/seg"
                with urlopen(Request(f"{base}/mapping", b"[1, 2]", method="GET"), timeout=60) as answer:
                    one, two = json.loads(answer.read())
                if two == one:
                    two = post(f"{base}/cleave/1", [2])["CleavedLabel"]
                if two != 2:
                    post(f"{base}/renumber", [2, two])
                return
            except LOST:
                continue


def check(kafka: KafkaServer, place: str, root: str, prefix: str = "") -> None:
    """Hold topics against the logs: everything, in order; twice only what was sent when somebody was killed."""
    topics = Topics(prefix)
    with vzarr.open(place) as repo:
        for name, times in (("kv", 1), ("seg", 2)):
            info = repo.state.instances[name]
            found = [json.loads(m) for m in consume(kafka.address, topics.of_instance(root, info.data_uuid))]
            numbers = list(dict.fromkeys(m["MutationID"] for m in found))
            wanted = logged(repo, name)
            if name == "seg":
                wanted = wanted[1:]  # posted voxels are not announced
            assert numbers == wanted
            assert len({(m["MutationID"], m["Action"]) for m in found}) == times * len(wanted)
            assert all(len(m["Timestamp"][:23]) == 23 and m["UUID"] == root for m in found)
        history = [json.loads(m)["Action"] for m in consume(kafka.address, topics.of_repo(root))]
        assert list(dict.fromkeys(history)) == ["newinstance"]


def test_a_server_publishes_what_clients_do(tmp_path: Path, kafka: KafkaServer):
    server = start(tmp_path, "--kafka", kafka.address, "--kafka-prefix", "first-")
    try:
        root = prepare(server.url)
        said = get(f"{server.url}/api/server/info")
        assert (said["Kafka Servers"], said["Kafka Topic Prefix"]) == (kafka.address, "first-")
        editor = Editor([server.url], root)
        thread = threading.Thread(target=editor.work)
        thread.start()
        time.sleep(3)
        editor.enough.set()
        thread.join()
        settle(server.url)
        asked = [json.loads(m) for m in consume(kafka.address, said["Kafka Activity Topic"])]
        assert {a["status"] for a in asked} == {200}
        assert len(asked) >= 4 * editor.edits
    finally:
        assert stop(server) == 0
    check(kafka, str(tmp_path / root), root, "first-")


def test_nothing_is_lost_while_the_broker_is_away(tmp_path: Path):
    if servers.lacking():
        pytest.skip(f"no Kafka: {servers.lacking()}")
    kafka = KafkaServer(tmp_path / "kafka")
    server = start(tmp_path / "repos", "--kafka", kafka.address)  # the broker is not there yet
    try:
        root = prepare(server.url)
        editor = Editor([server.url], root)
        thread = threading.Thread(target=editor.work)
        thread.start()
        for away in (2, 5):
            time.sleep(away)
            kafka.start()
            time.sleep(3)
            kafka.kill()
        before = editor.edits
        time.sleep(3)
        assert editor.edits > before, "edits wait for the broker"
        editor.enough.set()
        thread.join()
        waiting = get(f"{server.url}/api/server/kafka")["repos"][root]["topics"]
        assert any(t["waiting"] for t in waiting.values())
        kafka.start()
        settle(server.url)
    finally:
        stop(server)
    check(kafka, str(tmp_path / "repos" / root), root)
    kafka.kill()


@pytest.mark.crash
def test_a_server_that_is_killed_goes_on_where_it_was(tmp_path: Path, kafka: KafkaServer):
    options, chance = ("--kafka", kafka.address, "--kafka-prefix", "killed-"), random.Random(3)
    server = start(tmp_path, *options, patience=120)
    root = prepare(server.url)
    editor = Editor([server.url], root)
    thread = threading.Thread(target=editor.work)
    thread.start()
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.5, 3))
            kill(server)
            server = start(tmp_path, *options, patience=120)
            editor.urls[:] = [server.url]
        time.sleep(1)
        editor.enough.set()
        thread.join()
        settle(server.url)
    finally:
        editor.enough.set()
        kill(server)
    assert editor.edits > KILLS
    check(kafka, str(tmp_path / root), root, "killed-")


@pytest.mark.crash
@pytest.mark.postgres
def test_of_two_servers_the_other_takes_over(tmp_path: Path, kafka: KafkaServer, postgres_server: str):
    chance = random.Random(4)
    with database(postgres_server) as keys:
        options = ("--keys", keys, "--kafka", kafka.address, "--kafka-prefix", "two-")
        both = [start(tmp_path, *options, patience=120) for _ in range(2)]
        root = prepare(both[0].url)
        editor = Editor([s.url for s in both], root)
        thread = threading.Thread(target=editor.work)
        thread.start()
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.5, 3))
                dies = chance.randrange(2)
                kill(both[dies])
                time.sleep(1)
                both[dies] = start(tmp_path, *options, patience=120)
                editor.urls[:] = [s.url for s in both]
            editor.enough.set()
            thread.join()
            settle(both[0].url)
        finally:
            editor.enough.set()
            for server in both:
                kill(server)
        assert editor.edits > KILLS
        check(kafka, str(tmp_path / root), root, "two-")
