"""What questions cost, by counting the rows that are read, and questions to histories and to folders alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import vzarr
from vzarr.overlay import layout
from vzarr.overlay.kv.base import Item, Range, Reader
from vzarr.overlay.kv.versioned import InstanceKeys
from vzarr.types import registry
from vzarr.types.neuronjson import search
from vzarr.types.neuronjson.handle import NeuronJson
from vzarr.types.neuronjson.queries import Query

ANSWERS = 5


@dataclass
class Counted:
    """A view of a key store that counts the rows that it gives."""

    view: Reader
    rows: int = 0

    def get(self, key: bytes) -> bytes | None:
        self.rows += 1
        return self.view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.rows += len(keys)
        return self.view.get_many(keys)

    def scan(self, start: bytes, end: bytes | None = None, **options) -> Iterator[Item]:
        for item in self.view.scan(start, end, **options):
            self.rows += 1
            yield item

    def scan_many(self, ranges: Sequence[Range], **options) -> list[list[Item]]:
        found = self.view.scan_many(ranges, **options)
        self.rows += sum(map(len, found))
        return found


@pytest.fixture(scope="module", params=[200, 2000])
def large(request, tmp_path_factory) -> Iterator[NeuronJson]:
    """Many records, of which a few are special; rewritten in some versions."""
    with vzarr.create(str(tmp_path_factory.mktemp("large") / "repo")) as repo:
        neurons = registry.create(repo.root, "neurons", "neuronjson")
        posts = []
        for body in range(1, request.param + 1):
            special = body <= ANSWERS
            record = {"bodyid": body, "type": f"t{body % 4}", "kind": "special" if special else f"plain{body}"}
            posts.append((body, {**record, "few": [body]} if special else record))
        neurons.put_many(posts, user="u")
        version = repo.root
        for n in range(3):
            version.commit()
            version = version.newversion()
            neurons = registry.open_instance(version, "neurons")
            neurons.put_many([(body, {"bodyid": body, "round": n}) for body in range(1, ANSWERS + 1)], user="u")
        yield neurons


def _cost(neurons: NeuronJson, query: object) -> tuple[list[int], int]:
    """Bodies that a query finds, and how many rows are read for it."""
    keys = neurons.version.repo.keys
    with neurons.version.repo.authority.kv.snapshot() as view:
        counted = Counted(view)
        position = neurons.version.repo.state.position(neurons.version.uuid)
        seen: InstanceKeys = keys.versioned.at(bytes.fromhex(neurons.info.data_uuid), position, view=counted)
        found = [body for (body, _), _ in search.find(seen, Query.parse(query))]
    return found, counted.rows


@pytest.mark.parametrize(
    "query",
    [
        {"kind": "special"},
        {"few": "exists/1"},
        {"few": [1, 2, 3, 4, 5]},
        {"kind": "re/^special$"},
        {"kind": "re/^spec"},
        {"kind": "special", "type": ["t0", "t1", "t2", "t3"]},
        {"type": "exists/1", "few": "re/x", "kind": ["special"]},
        {"round": 2},
        [{"kind": "special"}, {"bodyid": 1}],
        {"bodyid": [1, 2, 3, 4, 5, 10**9]},
    ],
)
def test_a_question_costs_what_it_finds(large: NeuronJson, query: object):
    found, rows = _cost(large, query)
    wanted = [] if query == {"type": "exists/1", "few": "re/x", "kind": ["special"]} else [1, 2, 3, 4, 5]
    assert found == wanted
    # The same bound whatever the number of records: index rows and records in five histories of four versions.
    assert rows <= 350


def test_texts_that_repeat_are_passed_over(large: NeuronJson):
    found, rows = _cost(large, {"type": "re/9"})
    assert found == []
    assert rows <= 4 * 100


def test_what_no_index_leads_to_is_looked_for_in_every_record(large: NeuronJson):
    found, rows = _cost(large, {"few": "exists/0"})
    assert found == [b for b in large.bodies() if b > ANSWERS]
    assert rows >= len(found)


def test_an_old_version_is_asked_by_its_own_index(large: NeuronJson):
    root = large.at(large.version.repo.root)
    assert [r["bodyid"] for r in root.query({"round": "exists/1"})] == []
    assert [r["bodyid"] for r in root.query({"kind": "special"})] == [1, 2, 3, 4, 5]


def test_folders_alone_answer_as_the_keys_do(tmp_path: Path):
    place = tmp_path / "repo"
    with vzarr.create(str(place)) as repo:
        neurons = registry.create(repo.root, "neurons", "neuronjson")
        for body in range(1, 20):
            neurons.put(body, {"bodyid": body, "type": f"t{body % 3}"}, user="u")
        neurons.delete(4)
        repo.root.commit()
        child = repo.root.newversion()
        registry.open_instance(child, "neurons").put(1, {"bodyid": 1, "type": "t2"}, user="u")
        child.commit()
        queries = [{"type": "t1"}, {"type": "re/[02]$"}, {"type": "exists/1"}, {"bodyid": [3, 1]}, {"type_user": "u"}]
        asked = {
            v.uuid: [list(registry.open_instance(v, "neurons").query(q)) for q in queries] for v in (repo.root, child)
        }
        counts = registry.open_instance(child, "neurons").field_counts()
    (place / layout.database()).unlink()
    with vzarr.open(str(place)) as repo:
        for uuid, answers in asked.items():
            alone = registry.open_instance(repo[uuid], "neurons")
            assert [list(alone.query(q)) for q in queries] == answers
        assert registry.open_instance(repo[child.uuid], "neurons").field_counts() == counts
