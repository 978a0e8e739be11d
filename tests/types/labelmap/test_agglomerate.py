"""Tables of many supervoxels, against a dictionary; the index is held against voxels and mapping each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vzarr.errors import ConflictError, InvalidInputError, SealedError
from vzarr.types.labelmap import agglomerate, verify


def _state(seg) -> tuple:
    return list(seg.keys.scan())


def _bodies(seg) -> dict[int, int]:
    svs = range(1, 10)
    return dict(zip(svs, seg.bodies_of(list(svs)).tolist(), strict=True))


def test_one_edit_moves_many(seg):
    before = seg.size(3)
    found = seg.agglomerate([[1, 1], [2, 1], [3, 100], [4, 100], [5, 6]], user="ann")
    assert (found.supervoxels, found.bodies) == (4, 3)
    assert _bodies(seg) == {1: 1, 2: 1, 3: 100, 4: 100, 5: 6, 6: 6, 7: 7, 8: 8, 9: 9}
    assert not verify.check_index(seg)
    assert seg.max_label == 100
    assert seg.bodies_of([100]).tolist() == [0]  # a body's number that no voxel holds
    assert seg.header(100).user == "ann"
    (record,) = [r for r in seg.changes() if r["Action"] == "agglomerate-complete"]
    assert (record["Supervoxels"], record["Bodies"], record["MutationID"]) == (4, 3, found.mutation_id)
    assert seg.history(100) == [record]
    assert before < seg.size(100)


def test_a_table_that_is_so_already_changes_no_body(seg):
    bodies = _bodies(seg)
    assert seg.agglomerate([[sv, sv] for sv in range(1, 10)]).supervoxels == 0
    assert _bodies(seg) == bodies
    assert not verify.check_index(seg)


def test_edges_join_whole_bodies_under_the_smallest_number(seg):
    seg.merge(9, [4])
    seg.agglomerate([[4, 7], [7, 8], [2, 3]], edges=True)
    assert _bodies(seg) == {1: 1, 2: 2, 3: 2, 4: 7, 5: 5, 6: 6, 7: 7, 8: 7, 9: 7}
    assert not verify.check_index(seg)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1, 2], [77, 2], [78, 2]], "names 2 supervoxels that there are not: 77, 78"),
        ([[1, 2], [1, 3]], "supervoxel 1 belongs to body 2 and to body 3"),
        ([[1, 0]], "background"),
        ([[0, 1]], "background"),
        ([[1.5, 2.0]], "holds integers, this holds float64"),
        (np.array([[1, 2**64 - 1]], np.uint64), "18446744073709551615 is none"),
        ([[1, 2, 3]], "2 columns"),
        ([[2**64 - 1, 2]], "there are not: 18446744073709551615"),
    ],
)
def test_bad_tables_change_nothing(seg, table, message: str):
    before = _state(seg)
    with pytest.raises(InvalidInputError, match=message):
        seg.agglomerate(table)
    assert _state(seg) == before


def test_what_was_cut_up_is_no_supervoxel(seg):
    runs = seg.body(5).runs()[:1]
    seg.split_supervoxel(5, runs)
    with pytest.raises(InvalidInputError, match="there are not: 5"):
        seg.agglomerate([[5, 1]])
    with pytest.raises(InvalidInputError, match="there are not: 5"):
        seg.agglomerate([[5, 1]], edges=True)


def test_edits_meanwhile_are_seen(seg, monkeypatch: pytest.MonkeyPatch):
    """Somebody edits each time the table was looked up: it is looked up again, at last within the transaction."""
    looked_up, original = [], agglomerate._plan

    def plan(keys, table, edges):
        found = original(keys, table, edges)
        if len(looked_up) < agglomerate._ATTEMPTS:
            seg.merge(6 + len(looked_up), [1 + len(looked_up)])
        looked_up.append(keys)
        return found

    monkeypatch.setattr(agglomerate, "_plan", plan)
    seg.agglomerate([[1, 4], [9, 4]])
    assert len(looked_up) == agglomerate._ATTEMPTS + 1
    assert _bodies(seg) == {1: 4, 2: 7, 3: 8, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 4}
    assert not verify.check_index(seg)


def test_a_failure_in_the_middle_leaves_nothing(seg, monkeypatch: pytest.MonkeyPatch):
    before, peek = _state(seg), seg.labelling
    monkeypatch.setattr(agglomerate, "_change_headers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        seg.agglomerate([[1, 2], [3, 2000]])
    assert _state(seg) == before
    assert seg.labelling == peek
    assert seg.lookup(np.array([1, 3], np.uint64)).tolist() == [1, 3]


def test_a_sealed_version_stays(seg):
    seg.version.commit()
    with pytest.raises(SealedError):
        seg.agglomerate([[1, 2]])


def test_undo(seg):
    before = {b: seg.size(b) for b in range(1, 10)}
    seg.merge(9, [8])
    seg.agglomerate([[1, 2], [8, 2], [3, 50], [4, 50]])
    seg.undo()
    assert not verify.check_index(seg)
    seg.undo()
    assert {b: seg.size(b) for b in range(1, 10)} == before
    assert not verify.check_index(seg)


def test_undo_is_refused_when_something_was_built_on_it(seg):
    number = seg.agglomerate([[1, 2], [3, 50]]).mutation_id
    seg.renumber(1, 9)
    before = _state(seg)
    with pytest.raises(ConflictError, match="another body has the number 1"):
        seg.undo(number)
    assert _state(seg) == before


TABLES = st.dictionaries(st.integers(1, 9), st.sampled_from([*range(1, 13), 2**63]), max_size=9)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TABLES, min_size=1, max_size=4))
def test_against_a_dictionary(seg, given_tables):
    model = dict(zip(range(1, 10), seg.lookup(np.arange(1, 10, dtype=np.uint64)).tolist(), strict=True))
    for table in given_tables:
        seg.agglomerate(np.array(list(table.items()), np.uint64).reshape(-1, 2))
        model.update(table)
        assert dict(zip(model, seg.lookup(np.array(list(model), np.uint64)).tolist(), strict=True)) == model
        assert not verify.check_index(seg)
        assert {body for body, _ in seg.list_bodies()} == set(model.values())
