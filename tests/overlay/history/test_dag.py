"""The graph algorithms against their definitions, on random graphs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vzarr.overlay.history import dag

DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("c", "b"), "f": ("d", "e")}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Versions 0, 1, ..., each with parents among those before it."""
    graph: dict[str, tuple[str, ...]] = {"0": ()}
    for n in range(1, draw(st.integers(1, 12))):
        above = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=3, unique=True))
        graph[str(n)] = tuple(map(str, above))
    return graph


def reachable(node: str, graph: dict[str, tuple[str, ...]]) -> set[str]:
    return {node}.union(*(reachable(p, graph) for p in graph[node]))


def test_ancestry_names_near_generations_first_and_each_once():
    assert dag.ancestry("f", DIAMOND.__getitem__) == ["f", "d", "e", "b", "c", "a"]
    assert dag.ancestry("a", DIAMOND.__getitem__) == ["a"]
    assert list(dag.first_parents("f", DIAMOND.__getitem__)) == ["f", "d", "b", "a"]


def test_a_criss_cross_has_two_bases():
    assert dag.merge_bases(["d", "e"], DIAMOND.__getitem__) == ["b", "c"]
    assert dag.merge_bases(["b", "c"], DIAMOND.__getitem__) == ["a"]
    assert dag.independent(["a", "d", "b", "d", "e"], DIAMOND.__getitem__) == ["d", "e"]


@given(graphs(), st.data())
def test_against_the_definitions(graph: dict[str, tuple[str, ...]], data: st.DataObject):
    parents = graph.__getitem__
    heads = data.draw(st.lists(st.sampled_from(sorted(graph)), min_size=1, max_size=3))
    above = {n: reachable(n, graph) for n in graph}
    for head in heads:
        found = dag.ancestry(head, parents)
        assert (found[0], len(found), set(found)) == (head, len(above[head]), above[head])
        assert dag.ancestors(head, parents) == above[head] - {head}
        for other in graph:
            assert dag.is_ancestor(other, head, parents) == (other in above[head])
    common = set.intersection(*(above[h] for h in heads))
    nearest = {n for n in common if not any(n in above[m] for m in common - {n})}
    assert set(dag.merge_bases(heads, parents)) == nearest
    alone = {h for h in heads if not any(h in above[o] for o in heads if o != h)}
    assert dag.independent(heads, parents) == [h for h in dict.fromkeys(heads) if h in alone]
