"""What one version wrote, range by range."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vzarr.overlay.history.dag import Position
from vzarr.overlay.kv import written
from vzarr.overlay.kv.memory import MemoryKV
from vzarr.overlay.kv.versioned import VersionedKV

INSTANCE = b"i" * 16
KEYS = st.binary(max_size=2)
VALUES = st.one_of(st.none(), st.binary(max_size=2), st.just(bytes(2000)))


@given(
    st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES), KEYS, KEYS, st.one_of(st.none(), st.integers(1, 5))
)
def test_what_a_version_wrote_is_there_whatever_another_wrote_or_what_is_folded(first, second, start, end, limit):
    kv = MemoryKV()
    store, writes = VersionedKV(kv, lambda a, b: a <= b), {1: first, 2: second}
    for version, changes in writes.items():
        at = Position(1, version)
        kv.transact(lambda txn: [store.within(txn, INSTANCE, at).restore(*change) for change in changes.items()])  # noqa: B023
        for folded in range(2):
            if folded:
                store.fold(INSTANCE, at)
            for number in range(1, version + 1):
                meant = sorted((k, v) for k, v in writes[number].items() if start <= k < end)[:limit]
                found = list(written.values(kv, INSTANCE, number, start, end, limit=limit))
                assert found == [(key, value) for key, value in meant if value is not None]
                assert written.any_written(kv, INSTANCE, [(number, start, end), (3, b"", b"z")]) == [bool(meant), False]
