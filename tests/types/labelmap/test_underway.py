"""What is left of a writer that was killed is finished by the next one, whatever it had got done."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from vzarr.overlay import layout
from vzarr.types import mutations
from vzarr.types.labelmap import rows, underway, verify
from vzarr.types.labelmap.cuts import Cut, Split
from vzarr.types.labelmap.edits import Author
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.intents import Intent
from vzarr.types.labelmap.rows import pack_blocks
from vzarr.types.labelmap.runs import runs_of_mask
from vzarr.types.labelmap.tally import tally

LO, HI = (-16, 0, 16), (16, 32, 64)


def blocks_to_write(seg: LabelMap) -> dict[tuple[int, ...], np.ndarray]:
    """Four blocks, one of them new; all of one new label and an old one."""
    coords = [(-1, 0, 1), (-1, 1, 1), (0, 0, 1), (5, 0, 0)]
    patch = np.full((16, 16, 16), 77, np.uint64)
    patch[::2] = 3
    return dict.fromkeys(coords, patch)


def leave(seg: LabelMap, intent: Intent) -> None:
    """Leave an intent as a writer does that is killed then."""
    seg.transact(lambda tx: tx.put(rows.INTENT, intent.encode()))


def foreign(seg: LabelMap, coords: list[tuple[int, ...]], split: Split | None = None, age: float = 1e6) -> Intent:
    """Intent of another process that began some time ago."""
    before = tally(seg.version.read_chunks("seg/0", coords))
    begun = Intent.begin(pack_blocks(np.array(coords)), before, True, split, "another")
    return replace(begun, expires=begun.expires - age)


def keep_lease(seg: LabelMap, seconds: float) -> None:
    """Have a lease of another process, for so long."""
    lease = f"{time.time() + seconds:.3f} another 00".encode()
    seg.version.repo.authority.kv.transact(lambda txn: txn.put(layout.row_lease(seg.version.uuid, "theirs"), lease))


@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_a_write_that_was_killed_is_indexed_as_far_as_it_came(seg: LabelMap, done: int):
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks)))
    seg.version.write_chunks("seg/0", dict(list(blocks.items())[:done]))
    assert verify.check_index(seg)
    assert underway.recover(seg)
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_the_next_writer_finishes_first(seg: LabelMap):
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks)))
    seg.version.write_chunks("seg/0", dict(list(blocks.items())[:2]))
    seg.write((64, 0, 0), np.full((16, 16, 16), 5, np.uint64))
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_an_edit_of_bodies_finishes_first_too(seg: LabelMap):
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks)))
    seg.version.write_chunks("seg/0", blocks)
    seg.merge(1, [77])
    assert not verify.check_index(seg)


def test_a_commit_finishes_first_too(seg: LabelMap):
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks)))
    seg.version.write_chunks("seg/0", blocks)
    seg.version.commit()
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_a_commit_finishes_what_a_writer_that_lives_on_has_left(seg: LabelMap):
    """Its request failed, say because its database was away, and it has no lease: nobody writes once it is closed."""
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks), age=0))
    seg.version.write_chunks("seg/0", blocks)
    seg.version.commit()
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_a_commit_that_was_cut_off_is_made_again_though_something_is_to_be_finished(seg: LabelMap):
    blocks, version = blocks_to_write(seg), seg.version
    leave(seg, foreign(seg, list(blocks)))
    version.write_chunks("seg/0", blocks)
    version.repo.authority.begin_close(version.uuid)
    version.commit()
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_a_living_writer_of_another_process_is_waited_for(seg: LabelMap):
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks), age=0))
    keep_lease(seg, -1)  # as it seems to this machine's clock
    assert not underway.recover(seg)
    started = threading.Event()

    def write() -> None:
        started.set()
        seg.write((64, 0, 0), np.full((16, 16, 16), 5, np.uint64))

    thread = threading.Thread(target=write)
    thread.start()
    started.wait()
    time.sleep(0.2)
    assert thread.is_alive()
    leave(seg, foreign(seg, list(blocks)))  # it is given up
    thread.join(20)
    assert not thread.is_alive()
    assert not verify.check_index(seg)


def test_who_has_given_up_its_lease_is_not_waited_for(seg: LabelMap):
    """It failed, and could not even finish what it had begun, but lives on."""
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks), age=0))
    seg.version.write_chunks("seg/0", blocks)
    assert underway.recover(seg)
    assert not verify.check_index(seg)


def test_what_another_has_finished_meanwhile_is_not_written_again(seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    """Somebody may have written something new since then."""
    blocks, written, is_left, put = blocks_to_write(seg), [], Intent.is_left, underway.put_chunks
    leave(seg, foreign(seg, list(blocks)))
    seg.version.write_chunks("seg/0", blocks)

    def while_another_finishes(intent: Intent, *given: Any) -> bool:
        monkeypatch.setattr(Intent, "is_left", is_left)
        assert underway._finish_abandoned(seg)
        return is_left(intent, *given)

    monkeypatch.setattr(Intent, "is_left", while_another_finishes)
    monkeypatch.setattr(underway, "put_chunks", lambda *given: written.append(put(*given)))
    assert not underway.recover(seg)
    assert len(written) == 1
    assert not verify.check_index(seg)


@pytest.mark.parametrize(("left", "is_waited_for"), [(20.0, True), (-1.0, False)])
def test_a_slow_writer_is_waited_for_as_long_as_it_keeps_up_its_lease(seg: LabelMap, left: float, is_waited_for: bool):
    """What it puts last would replace what was written after others took its work over."""
    blocks = blocks_to_write(seg)
    leave(seg, foreign(seg, list(blocks)))
    keep_lease(seg, left)
    assert underway.recover(seg) is not is_waited_for
    assert (seg.keys.get(rows.INTENT) is not None) is is_waited_for


def test_what_an_earlier_release_left_is_finished_too(seg: LabelMap):
    blocks = blocks_to_write(seg)
    now = foreign(seg, list(blocks)).encode()
    at = 4 + int.from_bytes(now[:4], "little")
    said = {key: value for key, value in orjson.loads(now[4:at]).items() if key != "author"}
    head = orjson.dumps(said)
    old = len(head).to_bytes(4, "little") + head + now[at:]
    seg.transact(lambda tx: tx.put(rows.INTENT, old))
    seg.version.write_chunks("seg/0", blocks)
    assert underway.recover(seg)
    assert seg.keys.get(rows.INTENT) is None
    assert not verify.check_index(seg)


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_split_that_was_killed_is_carried_out(seg: LabelMap, done: int):
    dense = seg.read(LO, HI, supervoxels=True)
    seg.merge(2, [4])
    part = (dense == 4) & (np.arange(dense.shape[0]) < 16)[:, None, None]
    split = Split((Cut(4, 501, 502),), runs_of_mask(part, LO), 0, Author("ann", ""))
    coords = [tuple(c) for c in rows.unpack_blocks(seg.find(4, supervoxel=True).blocks[0]).tolist()]
    stored = dict(seg.version.read_chunks("seg/0", coords))
    leave(seg, foreign(seg, coords, split))
    rewritten = split.rewrite({c: b for c, b in stored.items() if b is not None}, (16, 16, 16))
    seg.version.write_chunks("seg/0", dict(list(rewritten.items())[:done]))
    assert underway.recover(seg)
    expected = np.where(part, 501, np.where(dense == 4, 502, dense)).astype(np.uint64)
    np.testing.assert_array_equal(seg.read(LO, HI, supervoxels=True), expected)
    assert seg.bodies_of([4, 501, 502]).tolist() == [0, 2, 2]
    assert seg.header(2).user == "ann"
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_writers_in_threads_leave_an_exact_index(seg: LabelMap):
    def write(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(5):
            z, x = rng.integers(-1, 2, 2).tolist()
            labels = rng.integers(0, 6, (16, 16, 16)).astype(np.uint64)
            seg.write((16 * z, 0, 16 * x), labels)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not verify.check_index(seg)
    assert not verify.check_scales(seg)


def test_who_finishes_a_write_names_its_author(seg: LabelMap):
    blocks = blocks_to_write(seg)
    leave(seg, replace(foreign(seg, list(blocks)), author=Author("ann", "tests")))
    assert underway.recover(seg)
    record = orjson.loads(list(mutations.read(seg))[-1])
    assert (record["Action"], record["User"], record["App"]) == ("post-voxels", "ann", "tests")
