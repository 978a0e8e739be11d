"""keyvalue against a dictionary per version, batches in each form, and its mutation log."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import ConflictError, InvalidInputError, NotFoundError, SealedError
from vzarr.overlay.keys import repokeys
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.threeway.disputes import Dispute
from vzarr.types import keyvalue, mutations, registry
from vzarr.types.keyvalue import Wanted

KEYS = st.text(min_size=1, max_size=4).filter(lambda t: t.isprintable())
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=5)),
        st.tuples(st.just("delete"), KEYS, st.just(b"")),
        st.tuples(st.just("next"), st.just(""), st.just(b"")),
    ),
    max_size=15,
)


@pytest.mark.parametrize("value", [None, "text", 5, ["a"]])
def test_only_bytes_are_values(value: object):
    kv = registry.create(vzarr.create(f"memory://{uuid.uuid4().hex}").root, "kv", "keyvalue")
    with pytest.raises(InvalidInputError, match="key 'a' should be bytes"):
        kv.put_many([("b", b"1"), ("a", value)])
    assert kv.list_keys() == []


@pytest.mark.parametrize("key", [None, b"bytes", 5])
def test_only_strings_are_keys(key: object):
    kv = registry.create(vzarr.create(f"memory://{uuid.uuid4().hex}").root, "kv", "keyvalue")
    for call in (lambda: kv.put(key, b"1"), lambda: kv.get(key), lambda: kv.delete(key), lambda: kv.writer(key)):
        with pytest.raises(InvalidInputError, match="a key should be a string"):
            call()


def test_what_is_like_bytes_is_a_value():
    kv = registry.create(vzarr.create(f"memory://{uuid.uuid4().hex}").root, "kv", "keyvalue")
    large = bytes(5 << 20)
    kv.put_many(
        [("a", bytearray(b"1")), ("b", memoryview(b"22")), ("c", memoryview(large)), ("d", memoryview(b"1234")[::2])]
    )
    assert [kv.get(key) for key in "abcd"] == [b"1", b"22", large, b"13"]


def _open(version, name: str = "kv") -> keyvalue.KeyValue:
    return registry.open_instance(version, name)


@settings(max_examples=30)
@given(STEPS, KEYS, KEYS)
def test_every_version_keeps_its_own_dictionary(steps, first: str, last: str):
    repo = vzarr.create(f"memory://{uuid.uuid4().hex}")
    registry.create(repo.root, "kv", "keyvalue")
    version, model, past = repo.root, {}, []
    for what, key, value in steps:
        if what == "next":
            version.commit()
            past.append((version, dict(model)))
            version = version.newversion()
        elif what == "put":
            _open(version).put(key, value)
            model[key] = value
        else:
            _open(version).delete(key)
            model.pop(key, None)
    for at, expected in [*past, (version, model)]:
        found = _open(at)
        order = sorted(expected, key=str.encode)
        assert found.list_keys() == order
        inside = [k for k in order if first.encode() <= k.encode() <= last.encode()]
        assert found.list_keys(first, last) == inside
        assert list(found.items(first, last)) == [(k, expected[k]) for k in inside]
        assert {k: found.get(k) for k in expected} == expected
    repo.close()


def test_an_empty_value_is_a_value(repo):
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.put("empty", b"")
    assert kv.get("empty") == b""
    assert list(kv.items("a", "z")) == [("empty", b"")]
    kv.delete("empty")
    with pytest.raises(NotFoundError, match='Key "empty" not found'):
        kv.get("empty")


def test_a_sealed_version_takes_no_writes_but_an_unversioned_instance_does(repo):
    kv = registry.create(repo.root, "kv", "keyvalue")
    flat = registry.create(repo.root, "flat", "keyvalue", versioned=False)
    repo.root.commit()
    with pytest.raises(SealedError):
        kv.put("a", b"1")
    with pytest.raises(SealedError):
        kv.delete("a")
    flat.put("a", b"1")
    child = repo.root.newversion()
    assert _open(child, "flat").get("a") == b"1"
    _open(child, "flat").put("a", b"2")
    assert _open(repo.root, "flat").get("a") == b"2"


def test_wrong_keys_change_nothing(repo):
    kv = registry.create(repo.root, "kv", "keyvalue")
    for bad in ("", "\ud800"):
        with pytest.raises(InvalidInputError):
            kv.put_many([("good", b"1"), (bad, b"2")])
    assert kv.list_keys() == []


def test_select_keeps_the_order_and_cuts_ranges(repo):
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.put_many([("a", b"0123456789"), ("b", b"bb")])
    found = list(kv.select([Wanted("b"), Wanted("none"), Wanted("a", 2, 4), Wanted("gone", 0, 1)]))
    assert [(k, None if v is None else bytes(v)) for k, v in found] == [
        ("b", b"bb"),
        ("none", None),
        ("a", b"234"),
        ("gone", None),
    ]
    for first, last in ((5, 2), (0, 10), (-1, 3)):
        with pytest.raises(InvalidInputError):
            kv.select([Wanted("a", first, last)])


def test_a_batch_takes_few_reads_of_small_values_and_small_reads_of_large_ones(repo, monkeypatch: pytest.MonkeyPatch):
    kv = registry.create(repo.root, "kv", "keyvalue")
    pairs = [(f"{n:04}", b"%d" % n) for n in range(1000)]
    kv.put_many(pairs)
    reads: list[int] = []

    def count(name: str) -> None:
        read = getattr(MemoryKV, name)
        monkeypatch.setattr(MemoryKV, name, lambda self, *given, **how: reads.append(1) or read(self, *given, **how))

    for name in ("get", "get_many", "fetch"):
        count(name)
    assert list(kv.select(Wanted(key) for key, _ in pairs)) == pairs
    assert len(reads) <= 20
    reads.clear()
    assert list(kv.select(Wanted(key, 0, 0) for key, _ in pairs)) == [(key, value[:1]) for key, value in pairs]
    assert len(reads) <= 40
    monkeypatch.setattr(keyvalue, "_BATCH_BYTES", 20)
    reads.clear()
    assert list(kv.select(Wanted(key) for key, _ in pairs[500:])) == pairs[500:]
    assert len(reads) > 50


@pytest.mark.parametrize(
    "body",
    [{}, "a", [1], [{}], [{"key": "a", "byte_start": 1}], [{"key": "a", "byte_start": "1", "byte_end": 2}]],
)
def test_other_lists_of_keys_are_refused(body: object):
    with pytest.raises(InvalidInputError):
        keyvalue.wanted_from_json(body)


def test_the_mutation_log_is_kept_by_version(repo):
    kv = registry.create(repo.root, "kv", "keyvalue")
    kv.put("a", b"one", user="me", app="test")
    kv.delete("a")
    repo.root.commit()
    child = repo.root.newversion()
    _open(child).put("b", b"22")

    def said(records) -> list[tuple[str, str, str]]:
        found = [json.loads(r) for r in records]
        assert all(r["Timestamp"] for r in found)
        return [(r["Action"], r["Key"], r["UUID"]) for r in found]

    root_log = [("postkv", "a", repo.root.uuid), ("delete", "a", repo.root.uuid)]
    child_log = [("postkv", "b", child.uuid)]
    assert said(mutations.read(kv)) == root_log
    assert said(mutations.read(_open(child))) == child_log
    assert said(mutations.read_range(_open(child), repo.root, child)) == child_log + root_log
    first = json.loads(next(mutations.read(kv)))
    assert (first["User"], first["App"], first["Bytes"]) == ("me", "test", 3)
    assert said(mutations.read_range(_open(child), child, repo.root)) == root_log, "as with DVID, it ends at the root"
    assert json.loads(b"".join(mutations.json_list(iter([])))) == []


def test_a_range_of_mutations_does_not_lead_into_another_repo(repo):
    kv = registry.create(repo.root, "kv", "keyvalue")
    with vzarr.create(f"memory://{uuid.uuid4().hex}") as other:
        for first, last in ((repo.root, other.root), (other.root, repo.root)):
            with pytest.raises(InvalidInputError, match=f"{other.root.uuid} is of another repo"):
                mutations.read_range(kv, first, last)


# -- merges


@pytest.fixture
def forked(repo: vzarr.Repo) -> list[vzarr.Version]:
    """Two sealed branches that disagree about ``both`` and ``gone``, and about nothing else."""
    registry.create(repo.root, "kv", "keyvalue")
    kv = _open(repo.root)
    for key in ("same", "both", "gone", "left", "right", "dropped"):
        kv.put(key, b"base")
    repo.root.commit()
    left, right = repo.root.newversion(), repo.root.branch("right")
    for version, name in ((left, "left"), (right, "right")):
        side = _open(version)
        for key in (name, "both", "new" if name == "left" else "newer"):
            side.put(key, name.encode())
    _open(left).delete("gone")
    _open(right).put("gone", b"right")
    _open(left).delete("dropped")
    return [left.commit(), right.commit()]


def _all(version: vzarr.Version) -> dict[str, bytes]:
    return dict(_open(version).items("a", "z"))


def test_keys_in_conflict_are_named_before_anything_is_written(forked: list[vzarr.Version]):
    repo = forked[0].repo
    before = dict(repo.objects.walk())
    with pytest.raises(ConflictError, match="kv: key 'both', kv: key 'gone'") as caught:
        repo.merge(forked)
    assert caught.value.conflicts == [("kv", "both"), ("kv", "gone")]
    assert dict(repo.objects.walk()) == before


@pytest.mark.parametrize(
    ("strategy", "both", "gone"),
    [("ours", b"left", None), ("theirs", b"right", b"right"), ("asked", b"leftright", None)],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_strategy_decides_about_keys(
    forked: list[vzarr.Version],
    strategy: str,
    both: bytes,
    gone: bytes | None,
    finished: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    """`finished` is False where whoever merged was killed after the log had the new version."""
    repo = forked[0].repo

    def asked(dispute: Dispute) -> object:
        assert dispute.base is not None
        assert (dispute.path, dispute.box, dispute.base.value) == ("kv", None, b"base")
        return b"".join(s.value for s in dispute.sides) if dispute.conflict.key == "both" else dispute.sides[0]

    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr(repokeys.RepoKeys, "finish", lambda *_args: None)
        merged = repo.merge(forked, asked if strategy == "asked" else strategy)
    expected = {"same": b"base", "left": b"left", "right": b"right", "new": b"left", "newer": b"right", "both": both}
    expected |= {} if gone is None else {"gone": gone}
    assert _all(merged) == expected
    _open(merged).put("both", b"later")
    with vzarr.open(repo.url) as elsewhere:
        assert _all(elsewhere[merged.uuid]) == {**expected, "both": b"later"}
        elsewhere[merged.uuid].commit()
        assert _all(elsewhere[merged.uuid].newversion()) == {**expected, "both": b"later"}
    assert forked[0].repo.merge([merged, forked[0].branch("more").commit()])


def test_keys_kept_in_conflict_raise_by_name_and_are_absent_as_dvid_has_it(forked: list[vzarr.Version]):
    merged = _open(forked[0].repo.merge(forked, keep_conflicts=True))
    for read in (lambda: merged.get("both"), merged.list_keys, lambda: list(merged.items("a", "z"))):
        with pytest.raises(ConflictError, match="key 'both'") as caught:
            read()
        assert caught.value.conflicts == [("kv", "both")]
    assert merged.get("gone") == b"right"
    lenient = replace(merged, lenient=True)
    assert "both" not in lenient.list_keys()
    assert list(lenient.select([keyvalue.Wanted("both"), keyvalue.Wanted("same")])) == [
        ("both", None),
        ("same", b"base"),
    ]
    with pytest.raises(NotFoundError):
        lenient.get("both")
    merged.put("both", b"now")
    assert merged.get("both") == lenient.get("both") == b"now"


def test_conflicts_of_keys_go_on_until_somebody_decides(forked: list[vzarr.Version]):
    repo = forked[0].repo
    kept = repo.merge(forked, keep_conflicts=True).commit()
    other = forked[0].branch("other")
    _open(other).put("same", b"other")
    heads = [kept, other.commit()]
    assert repo.merge_conflicts(heads) == [("kv", "both")]
    with pytest.raises(ConflictError):
        _open(repo.merge(heads, "ours")).get("both")
    assert _open(repo.merge(heads, lambda _d: b"mine")).get("both") == b"mine"
    decided = repo.merge(forked, "theirs").commit()
    assert _open(repo.merge([kept, decided])).get("both") == b"right"
