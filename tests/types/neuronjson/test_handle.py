"""neuronjson by Python: merges, documents, tables, refusals that change nothing, writers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

import vzarr
from vzarr.errors import ConflictError, InvalidInputError, NotFoundError, SealedError
from vzarr.types import registry
from vzarr.types.neuronjson import rows
from vzarr.types.neuronjson.handle import NeuronJson


def _open(version: vzarr.Version) -> NeuronJson:
    return registry.open_instance(version, "neurons")


def _put(version: vzarr.Version, body: int, **fields) -> None:
    _open(version).put(body, {"bodyid": body, **fields}, user="u")


def _ids(version: vzarr.Version, query: object) -> list[int]:
    return [record["bodyid"] for record in _open(version).query(query)]


def _split(repo: vzarr.Repo) -> tuple[vzarr.Version, vzarr.Version]:
    """Two open children of the root, sealed here."""
    repo.root.commit()
    return repo.root.newversion(), repo.root.branch("right")


def _merge(repo: vzarr.Repo, *sides: vzarr.Version, **how) -> vzarr.Version:
    for side in sides:
        if not side.sealed:
            side.commit()
    return repo.merge([side.uuid for side in sides], **how)


def _indexed(version: vzarr.Version, body: int) -> set[bytes]:
    """Index rows that lead to a body."""
    keys = _open(version).keys.without_conflicts()
    return {row for row in keys.scan_keys(rows.INDEX, b"y") if rows.body_of(row) == body}


def test_bodies_may_be_numbers_of_numpy(repo, neurons):
    body = np.uint64(2**63 + 9)
    neurons.put(body, {"bodyid": body, "type": "a"}, user="u")
    assert neurons.get(body) == neurons.get(int(body))
    assert neurons.get(body)["bodyid"] == 2**63 + 9
    assert [b for b, _ in neurons.select(np.array([body, 3], np.uint64))] == [int(body)]
    assert neurons.bodies(body, body) == [int(body)]
    assert neurons.get(neurons.to_frame().index[0])["type"] == "a"
    neurons.delete(body)
    assert neurons.bodies() == []


@pytest.mark.parametrize("body", ["5", 5.0, True, None, np.float64(5), np.bool_(True)])
def test_what_is_no_integer_is_no_body(repo, neurons, body):
    neurons.put(5, {"bodyid": 5}, user="u")
    for call in (
        lambda: neurons.get(body),
        lambda: neurons.put(body, {"bodyid": 5}, user="u"),
        lambda: neurons.delete(body),
        lambda: neurons.bodies(body),
        lambda: list(neurons.select([body])),
    ):
        with pytest.raises(InvalidInputError, match="a body id should be an integer"):
            call()
    with pytest.raises(InvalidInputError, match="'bodyid' is"):
        neurons.put(1, {"bodyid": body}, user="u")


@pytest.mark.parametrize("body", [-1, 1 << 64])
def test_what_has_no_64_bits_is_no_end_of_a_range(repo, neurons, body: int):
    for call in (
        lambda: neurons.bodies(body),
        lambda: list(neurons.items(0, body)),
        lambda: list(neurons.select([body])),
    ):
        with pytest.raises(InvalidInputError, match=f"18446744073709551615, not {body}"):
            call()
    assert list(neurons.query({"bodyid": [body, float("inf"), 1.5]})) == []


def test_records_are_found_by_what_is_read_whatever_was_handed_in(repo, neurons):
    day = datetime(2026, 11, 28, tzinfo=UTC)
    neurons.put(1, {"bodyid": 1, "tags": ("a", "b"), "seen": day}, user="u")
    record = neurons.get(1)
    assert (record["tags"], record["seen"]) == (["a", "b"], "2026-11-28T00:00:00+00:00")
    for query in ({"tags": "b"}, {"seen": record["seen"]}, {"seen": "re/^2026"}):
        assert list(neurons.query(query)) == [record]
    neurons.put(1, {"bodyid": 1, "tags": ["a", "b"]}, user="other")
    assert neurons.get(1)["tags_user"] == "u"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("nan")], {"a": [{"b": float("-inf")}]}])
def test_numbers_that_json_does_not_have_are_refused(repo, neurons, value):
    with pytest.raises(InvalidInputError, match=r"which has no number .* field 'x'"):
        neurons.put(1, {"bodyid": 1, "x": value}, user="u")
    assert neurons.bodies() == []


def test_merged_records_are_found_by_what_either_side_said(repo, neurons):
    for body in (1, 2, 3, 4):
        _put(repo.root, body, type="base", status="old")
    left, right = _split(repo)
    _put(left, 1, type="left")
    _open(left).delete(2)
    _put(right, 3, type="right")
    _put(right, 5, type="new")
    child = _merge(repo, left, right)
    assert _open(child).bodies() == [1, 3, 4, 5]
    assert [_ids(child, {"type": t}) for t in ("base", "left", "right", "new")] == [[4], [1], [3], [5]]
    assert _ids(child, {"status": "old"}) == [1, 3, 4]
    assert _ids(child, {"type": "re/e"}) == [1, 4, 5]


@pytest.mark.parametrize(("strategy", "type_"), [("ours", "left"), ("theirs", "right")])
def test_a_decided_conflict_is_found_by_what_won_and_stays_so(repo, neurons, strategy: str, type_: str):
    _put(repo.root, 1, type="base", status="old")
    left, right = _split(repo)
    _put(left, 1, type="left")
    _put(right, 1, type="right")
    # Somebody else takes the record away, starting from the side that will win.
    winner = left if strategy == "ours" else right
    winner.commit()
    other = winner.branch("other")
    _open(other).delete(1)
    child = _merge(repo, left, right, strategy=strategy)
    assert _open(child).get(1)["type"] == type_
    for query in ({"type": type_}, {"status": "old"}, {"type": "re/t$"}, {"bodyid": 1}):
        assert _ids(child, query) == [1]
    assert _ids(child, {"type": "base"}) == []
    again = _merge(repo, child, other, strategy="ours")
    assert _ids(again, {"type": type_}) == _open(again).bodies() == [1]


def test_a_record_in_conflict_is_named_until_it_is_replaced(repo, neurons):
    _put(repo.root, 1, type="base", both="same")
    _put(repo.root, 2, type="base")
    left, right = _split(repo)
    _put(left, 1, type="left")
    _put(right, 1, type="right")
    child = _merge(repo, left, right, keep_conflicts=True)
    for ask in (
        lambda: _open(child).get(1),
        lambda: list(_open(child).items()),
        lambda: _ids(child, {"type": "left"}),
        lambda: _ids(child, {"both": "same"}),
        lambda: _ids(child, {"type": "exists/0"}),
        lambda: _open(child).bodies(),
        lambda: _put(child, 1, type="more"),
    ):
        with pytest.raises(ConflictError, match="neurons: key '1' was changed differently in merged versions"):
            ask()
    assert _ids(child, {"type": "base"}) == [2]
    lenient = NeuronJson(child, _open(child).info, _open(child).datatype, lenient=True)
    assert (lenient.bodies(), list(lenient.query({"both": "same"}))) == ([2], [])
    _open(child).put(1, {"bodyid": 1, "type": "decided"}, user="u", replace=True)
    assert _ids(child, {"type": "decided"}) == [1]
    assert _ids(child, {"both": "same"}) == _ids(child, {"type": "left"}) == []
    _open(child).delete(1)
    assert _open(child).bodies() == [2]


def test_a_conflict_is_resolved_by_a_deletion(repo, neurons):
    _put(repo.root, 1, type="base")
    left, right = _split(repo)
    _put(left, 1, type="left")
    _put(right, 1, type="left")
    child = _merge(repo, left, right, keep_conflicts=True)
    _open(child).delete(1)
    assert (_open(child).bodies(), _ids(child, {"type": "left"})) == ([], [])


def test_schemas_are_merged_and_named_as_records_are(repo, neurons):
    left, right = _split(repo)
    _open(left).put_document("schema", b'"left"')
    _open(right).put_document("schema", b'"right"')
    _open(right).put_document("schema_batch", b"1")
    left.commit()
    right.commit()
    with pytest.raises(ConflictError) as caught:
        repo.merge([left.uuid, right.uuid])
    assert [str(c) for c in caught.value.conflicts] == ["neurons: key 'schema'"]
    child = repo.merge([left.uuid, right.uuid], strategy="theirs")
    assert [_open(child).document(name) for name in ("schema", "schema_batch")] == [b'"right"', b"1"]
    with pytest.raises(NotFoundError):
        _open(left).document("schema_batch")
    with pytest.raises(NotFoundError, match="there are json_schema"):
        _open(left).document("other")


def test_a_record_leaves_no_index_rows_behind(repo, neurons):
    _put(repo.root, 1, type="a", tags=["x", "y"])
    _put(repo.root, 1, type="b", tags=["y"], n=1)
    assert len(_indexed(repo.root, 1)) == 3
    _put(repo.root, 1, n=None)
    assert len(_indexed(repo.root, 1)) == 2
    repo.root.commit()
    child = repo.root.newversion()
    _open(child).delete(1)
    assert (_indexed(child, 1), len(_indexed(repo.root, 1))) == (set(), 2)


def test_one_wrong_record_refuses_all(repo, neurons):
    _put(repo.root, 1, type="a")
    neurons.put_document("json_schema", b'{"properties": {"n": {"type": "integer"}}}')
    before = dict(neurons.keys.scan())
    good = (2, {"bodyid": 2, "n": 1})
    for bad in ((3, {"bodyid": 4}), (3, {"bodyid": 3, "n": "x"}), (0, {"bodyid": 0}), (1 << 64, {"bodyid": 1 << 64})):
        with pytest.raises(InvalidInputError):
            neurons.put_many([good, bad], user="u")
    with pytest.raises(InvalidInputError, match="without a valid user"):
        neurons.put_many([good], user="")
    assert dict(neurons.keys.scan()) == before


def test_sealed_versions_take_no_writes_but_unversioned_instances_do(repo, neurons):
    flat = registry.create(repo.root, "flat", "neuronjson", versioned=False)
    repo.root.commit()
    for write in (
        lambda: neurons.put(1, {"bodyid": 1}, user="u"),
        lambda: neurons.delete(1),
        lambda: neurons.put_document("schema", b"1"),
        lambda: neurons.delete_document("schema"),
    ):
        with pytest.raises(SealedError):
            write()
    flat.put(1, {"bodyid": 1, "type": "a"}, user="u")
    child = registry.open_instance(repo.root.newversion(), "flat")
    assert [r["bodyid"] for r in child.query({"type": "a"})] == [1]


def test_times_of_fields_are_the_latest(repo, neurons):
    for body, time in ((1, "2020-01-01T00:00:00Z"), (2, "2021-01-01T02:00:00+05:00"), (3, "2020-12-31T22:00:00Z")):
        _put(repo.root, body, type="a", type_time=time, odd_time=5, text_time="no time")
    assert neurons.field_times() == {"type": "2020-12-31T22:00:00Z"}


def test_records_and_changes_as_tables(repo, neurons):
    big = (1 << 64) - 1
    _put(repo.root, big, type="a", n=big)
    neurons.put(3, {"bodyid": 3, "tags": ["x"]}, user="ann", app="tool")
    neurons.delete(3, user="bob")
    neurons.put(2, {"bodyid": 2, "tags": ["x"]}, user="ann")
    found = neurons.to_frame()
    assert found.index.name == "bodyid"
    assert found.index.tolist() == [2, big]
    assert list(found.columns) == ["n", "tags", "type"]
    assert found["n"].tolist() == [None, big]
    assert found["tags"].tolist() == [["x"], None]
    assert list(neurons.to_frame(fields=["type"], show="user").columns) == ["type", "type_user"]
    changes = neurons.to_frame("mutations")
    assert changes["action"].tolist() == ["postneuronjson", "postneuronjson", "delete", "postneuronjson"]
    assert changes["user"].tolist() == ["u", "ann", "bob", "ann"]
    with pytest.raises(InvalidInputError, match="records and of mutations"):
        neurons.to_frame("bodies")
    assert len(registry.create(repo.root, "none", "neuronjson").to_frame()) == 0


def test_writers_at_once_lose_nothing(tmp_path):
    with vzarr.create(str(tmp_path / "repo")) as repo:
        neurons = registry.create(repo.root, "neurons", "neuronjson")

        def write(field: int) -> None:
            for body in range(1, 6):
                neurons.put(body, {"bodyid": body, f"f{field}": field}, user="u")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(8)))
        for field in range(8):
            assert _ids(repo.root, {f"f{field}": field}) == [1, 2, 3, 4, 5]
        assert all(len(_indexed(repo.root, body)) == 8 for body in range(1, 6))


def test_a_record_that_one_side_took_away_is_found_by_what_the_other_left_as_it_was(repo, neurons):
    _put(repo.root, 1, type="base", status="old")
    left, right = _split(repo)
    _open(left).delete(1)
    _put(right, 1, status="new")
    child = _merge(repo, left, right, keep_conflicts=True)
    assert _open(child).bodies() == [1]
    assert _ids(child, {"type": "base"}) == _ids(child, {"status": "new"}) == [1]
    assert _ids(child, {"status": "old"}) == []
