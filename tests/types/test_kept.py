"""What is kept is bounded in bytes, and the longest unused goes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vzarr.types import kept
from vzarr.types.kept import Cache


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900)), max_size=60))
def test_the_cache_never_holds_more_than_its_limit_and_forgets_the_longest_unused(puts: list[tuple[int, int]]):
    cache, model = Cache(limit=3000), dict[int, int]()
    for key, size in puts:
        model.pop(key, None)
        model[key] = size
        while sum(n + kept._OVERHEAD for n in model.values()) > 3000:
            del model[next(iter(model))]
        cache.put(key, size, size)
        assert cache.nbytes == sum(n + kept._OVERHEAD for n in model.values()) <= cache.limit
    assert {key: cache.get(key) for key in range(10)} == {key: model.get(key) for key in range(10)}
