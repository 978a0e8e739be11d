"""Components of graphs, against a slow and simple way to find them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vzarr.types.labelmap import tables

NODES = st.sampled_from([1, 2, 3, 5, 8, 13, 2**63, 2**64 - 2])


@given(st.lists(st.tuples(NODES, NODES), max_size=12))
def test_components(edges):
    groups: list[set[int]] = []
    for edge in edges:
        touched = [g for g in groups if g & set(edge)]
        groups = [g for g in groups if not g & set(edge)] + [set(edge).union(*touched)]
    nodes, roots = tables.components(np.array(edges, np.uint64).reshape(-1, 2))
    assert dict(zip(nodes.tolist(), roots.tolist(), strict=True)) == {n: min(g) for g in groups for n in g}


def test_a_long_chain():
    """Small numbers travel far: from one end of a chain to the other."""
    chain = np.random.default_rng(1).permutation(2000).astype(np.uint64)
    _, roots = tables.components(np.stack([chain[:-1], chain[1:]], 1))
    assert not roots.any()
