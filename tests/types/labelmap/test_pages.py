"""Pages of the mapping against a dictionary, alone and in all that labelmaps do with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vzarr.errors import FormatError
from vzarr.types.labelmap import mapping, pages, rows, verify

SUPERVOXELS = st.one_of(st.integers(1, 60), st.sampled_from([2**40, 2**63, 2**64 - 2]))
TABLES = st.lists(st.dictionaries(SUPERVOXELS, st.integers(1, 99), min_size=1, max_size=30), min_size=1, max_size=5)
ASKED = sorted({*range(62), 2**40, 2**40 + 1, 2**63, 2**64 - 2, 2**64 - 1})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of 4, from the first mapping on."""
    monkeypatch.setattr(pages, "PAGE", 4)
    monkeypatch.setattr(pages, "BULK", 1)


def _columns(table: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    ids = sorted(table)
    return np.array(ids, np.uint64), np.array([table[sv] for sv in ids], np.uint64)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=TABLES, asked=st.sets(st.sampled_from(ASKED)))
def test_pages_are_a_dictionary(make, small, tables, asked):
    seg = make(f"seg{np.random.default_rng().integers(1 << 60)}")
    model: dict[int, int] = {}
    for table in tables:
        seg.transact(lambda tx, table=table: pages.put(tx, *_columns(table)))
        model.update(table)
        assert dict(pages.entries(seg.keys)) == model
        assert pages.size(seg.keys) == len(model)
        assert pages.lookup(seg.keys, sorted(asked)) == {sv: model[sv] for sv in asked & model.keys()}
    sizes = [len(value) // 16 for _, value in seg.keys.scan(*rows.class_range(rows.PAGE))]
    assert max(sizes) <= 2 * pages.PAGE


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.dictionaries(st.integers(1, 40), st.integers(1, 40))), max_size=8))
def test_rows_and_pages_together(make, small, steps):
    seg = make(f"seg{np.random.default_rng().integers(1 << 60)}")
    model = {sv: sv for sv in range(1, 41)}
    for in_bulk, table in steps:
        if in_bulk:
            seg.transact(lambda tx, table=table: mapping.put_many(tx, *_columns(table)))
        else:
            seg.post_mappings(table.items())
        model.update(table)
        fresh = mapping.bodies_within(seg.keys, list(model))
        assert fresh == model
        assert dict(seg.mappings()) == {sv: body for sv, body in model.items() if sv != body}


def test_edits_after_a_table(seg, small):
    """Everything that looks at the mapping sees pages."""
    seg.agglomerate([[1, 50], [2, 50], [3, 50], [4, 60], [5, 60]])
    assert list(seg.keys.scan_keys(*rows.class_range(rows.PAGE)))
    assert seg.lookup(np.array([1, 4, 6], np.uint64)).tolist() == [50, 60, 6]
    cleaved = seg.cleave(50, [2]).body
    seg.renumber(70, 60)
    seg.merge(6, [70])
    assert not verify.check_index(seg)
    bodies = seg.bodies_of([1, 2, 3, 4, 5, 6]).tolist()
    assert bodies == [50, cleaved, 50, 6, 6, 6]
    seg.agglomerate([[4, 4], [1, 1]])
    assert dict(seg.mappings())[5] == 6
    assert {1, 4}.isdisjoint(dict(seg.mappings()))
    assert not verify.check_index(seg)
    seg.undo()
    assert seg.bodies_of([1, 4]).tolist() == [50, 6]
    assert not verify.check_index(seg)


def test_each_version_has_its_own(seg, small):
    seg.agglomerate([[1, 50], [2, 50]])
    root = seg.version.commit()
    later = seg.at(root.newversion())
    later.agglomerate([[2, 9], [3, 50]])
    assert seg.at(root).bodies_of([1, 2, 3]).tolist() == [50, 50, 3]
    assert later.bodies_of([1, 2, 3]).tolist() == [50, 9, 50]
    assert not verify.check_index(later)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_tables_on_two_branches(seg, small, order):
    """Pages that both sides rewrote: each side's moves are there after the merge, whichever is named first."""
    seg.agglomerate([[1, 50], [2, 50]])
    root = seg.version.commit()
    sides = [seg.at(root.newversion()), seg.at(root.branch("other"))]
    sides[0].agglomerate([[3, 60], [4, 60], [5, 60]])
    sides[0].cleave(50, [2])
    sides[1].agglomerate([[6, 90], [7, 90]])
    sides[1].agglomerate([[9, 8]])
    for side in sides:
        side.version.commit()
    merged = seg.at(seg.version.repo.merge([sides[n].version for n in order]))
    merged = merged.version["seg"]
    assert not verify.check_index(merged)
    cleaved = int(sides[0].bodies_of([2])[0])
    assert merged.bodies_of(range(1, 10)).tolist() == [50, cleaved, 60, 60, 60, 90, 90, 8, 8]


def test_an_ingested_mapping(make, volume, small):
    from vzarr.types.labelmap import writes
    from vzarr.types.labelmap.tally import tally

    seg = make("bulk")
    blocks = writes.blocks_of((-16, 0, 16), volume, seg.block_zyx)
    seg.store_blocks(blocks)
    counted = tally(blocks.items())
    table = np.array([[sv, sv // 3 + 1] for sv in range(1, 10)], np.uint64)
    seg.build_index(rows.unpack_blocks(counted.blocks), counted.labels, counted.voxels, mapping=table)
    assert not list(seg.keys.scan_keys(*rows.class_range(rows.MAPPING)))
    assert not verify.check_index(seg)
    assert seg.bodies_of(range(1, 10)).tolist() == [1, 1, 2, 2, 2, 3, 3, 3, 4]


def test_damage_is_told():
    with pytest.raises(FormatError):
        pages.decode(b"123")
    with pytest.raises(FormatError):
        pages.decode(b"")
