"""Layers of sealed keys against a dict per version: any history, read through few layers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.overlay.kv.test_sidecar import encode
from vzarr.errors import ConflictError, FormatError
from vzarr.overlay.kv.sealed import Layer, SealedKeys, Stack, folded, folds, from_bytes, to_bytes

KEYS = st.sampled_from([b"", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff"])
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(max_size=3))


class Folders:
    """Sidecars as commits write them: the changes, or several layers folded into one."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    def get(self, node: str, name: str) -> bytes | None:
        return self.objects.get((node, name))

    def seal(self, node: str, changes: dict[bytes, bytes | None], below: tuple[Layer, ...]) -> tuple[Layer, ...]:
        self._write(node, "own", sorted(changes.items()))
        layers = (Layer(node, "own", len(changes)), *below)
        count = folds([layer.size for layer in layers])
        if count < 2:
            return layers
        top = [SealedKeys(Stack((layer,)), self.get).sidecars[0] for layer in layers[:count]]
        rows = list(folded(top, keep_deleted=count < len(layers)))
        self._write(node, "folded", rows)
        return (Layer(node, "folded", len(rows)), *layers[count:])

    def _write(self, node: str, folder: str, rows: list[tuple[bytes, bytes | None]]) -> None:
        self.objects.update({(node, f"{folder}/{name}"): data for name, data in encode(rows).items()})


@given(st.lists(CHANGES, min_size=1, max_size=8), KEYS, KEYS | st.none(), st.integers(0, 5) | st.none())
def test_every_version_of_a_history_reads_as_its_model(
    history: list[dict[bytes, bytes | None]], start: bytes, end: bytes | None, limit: int | None
):
    folders, layers, model = Folders(), (), {}
    for number, changes in enumerate(history):
        layers = folders.seal(f"n{number}", changes, layers)
        model = {k: v for k, v in {**model, **changes}.items() if v is not None}
        keys = SealedKeys(Stack(layers), folders.get)
        assert list(keys.scan()) == sorted(model.items())
        asked = [b"", b"a", b"a\0", b"zz", b"\xff"]
        assert keys.get_many(asked) == [model.get(k) for k in asked]
        wanted = [(k, v) for k, v in sorted(model.items()) if start <= k and (end is None or k < end)]
        assert list(keys.scan(start, end, limit=limit)) == wanted[:limit]
        assert list(keys.scan_keys(start, end, limit=limit, reverse=True)) == [k for k, _ in wanted[::-1][:limit]]


def test_a_thousand_versions_have_few_layers_and_little_is_written_twice():
    counts: list[int] = []
    written = 0
    for number in range(1000):
        counts.insert(0, 1 + number % 7)
        taken = folds(counts)
        if taken > 1:
            counts[:taken] = [sum(counts[:taken])]
            written += counts[0]
        assert len(counts) <= 3 * math.log(sum(counts), 4) + 3
    assert written <= sum(counts) * math.log(sum(counts), 4)


def test_small_changes_leave_a_large_layer_alone():
    assert folds([5, 10**6]) == 1
    assert folds([5, 4, 7, 6, 10**6]) == 4
    assert folds([]) == 0


def test_most_commits_fold_nothing():
    counts: list[int] = []
    took = [0] * 256
    for number in range(256):
        counts.insert(0, 100)
        took[number] = folds(counts)
        counts[: took[number]] = [sum(counts[: took[number]])]
    assert [number for number in range(32) if took[number] > 1] == [3, 7, 11, 15, 19, 23, 27, 31]
    assert counts == [25600]


def test_layers_are_written_down():
    layers = {"b": Stack((Layer("n1", "own", 3), Layer("n0", "folded", 9)), (b"k\xff",)), "a": Stack()}
    assert from_bytes(to_bytes(layers)) == layers
    for damaged in (b"", b"[]", b'{"a": [1]}', b'{"a": {"layers": [["n"]], "conflicts": []}}'):
        with pytest.raises(FormatError):
            from_bytes(damaged)


def test_conflicts_are_not_gone_through_for_each_key():
    class Listed(tuple):
        def __contains__(self, key: object) -> bool:
            raise AssertionError("a list was searched")

    folders = Folders()
    layers = folders.seal("n", {b"a": b"1", b"b": b"2"}, ())
    keys = SealedKeys(Stack(layers, Listed([b"b"])), folders.get)
    assert (keys.get(b"a"), list(keys.without_conflicts().scan())) == (b"1", [(b"a", b"1")])
    with pytest.raises(ConflictError):
        keys.get(b"b")


def test_a_lost_layer_is_damage():
    keys = SealedKeys(Stack((Layer("n", "own", 1),)), lambda _node, _name: None)
    with pytest.raises(FormatError):
        keys.get(b"a")
