"""A split that was decided, or one that is taken back: what it means for voxels and for the index.

It travels in the intent of the write (`vzarr.types.labelmap.intents`), so that whoever finishes it does the
same; done twice, it changes nothing the second time.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vzarr.geometry import Coord
from vzarr.types import mutations
from vzarr.types.labelmap import index, mapping, rows
from vzarr.types.labelmap.deeds import Deed
from vzarr.types.labelmap.edits import Author, Edit
from vzarr.types.labelmap.relabel import contains
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.runs import Runs, runs_by_block, runs_to_mask
from vzarr.types.labelmap.sparsevol import decode_spans, encode_rles, encode_spans

if TYPE_CHECKING:
    from vzarr.overlay.kv.versioned import InstanceKeys

_CUT = struct.Struct("<2Q")


class Cut(NamedTuple):
    """A supervoxel and what becomes of it: the part under the runs, and the rest."""

    supervoxel: int
    split: int
    remain: int


@dataclass(frozen=True)
class Split:
    """What is to be done.

    Parameters
    ----------
    cuts
        The supervoxels.
    runs
        Where; voxels of other supervoxels under them stay as they are.
    new_body
        Body that the split parts go to; 0 leaves them in the body of their supervoxel.
    author
        Who.
    """

    cuts: tuple[Cut, ...]
    runs: Runs
    new_body: int
    author: Author

    def to_json(self) -> dict[str, Any]:
        """As JSON, the runs as base64 of their spans."""
        return {
            "cuts": [list(c) for c in self.cuts],
            "runs": base64.b64encode(encode_spans(self.runs)).decode(),
            "new_body": self.new_body,
            "author": [self.author.user, self.author.app],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Split:
        """Inverse of `to_json`."""
        return cls(
            tuple(Cut(*c) for c in value["cuts"]),
            decode_spans(base64.b64decode(value["runs"])),
            value["new_body"],
            Author(*value["author"]),
        )

    def is_crossed_by(self, edit: Edit) -> bool:
        """Whether an edit, at its end, takes from what is being split; a body may become part of another as a whole."""
        whole = edit.deed is not None and edit.deed.action in ("merge", "renumber")
        return bool(self.new_body) and not whole and _changes(edit, {c.supervoxel for c in self.cuts})

    # ------------------------------------------------------------ voxels

    def rewrite(self, blocks: Mapping[Coord, Labels], shape: Coord) -> dict[Coord, Labels]:
        """Blocks with the supervoxels cut; also from a state where some of it was done."""
        under = dict(runs_by_block(self.runs, shape))
        return {coord: self._rewritten(coord, block, under.get(_triple(coord))) for coord, block in blocks.items()}

    def _rewritten(self, coord: Coord, block: Labels, runs: Runs | None) -> Labels:
        lo = tuple(c * n for c, n in zip(coord, block.shape, strict=True))
        hi = tuple(a + n for a, n in zip(lo, block.shape, strict=True))
        mask = np.zeros(block.shape, np.bool_) if runs is None else runs_to_mask(runs, (lo, hi))
        out = block.copy()
        for cut in self.cuts:
            whole = contains(block, np.unique(np.array(cut, np.uint64)))
            out[whole & mask] = cut.split
            out[whole & ~mask] = cut.remain
        return out

    # ------------------------------------------------------------ index

    def map_parts(self, edit: Edit) -> None:
        """Map the parts, before the index follows the voxels."""
        bodies = mapping.bodies_within(edit.tx, [c.supervoxel for c in self.cuts])
        for cut in self.cuts:
            body = bodies[cut.supervoxel]
            edit.map_to(self.new_body or body, [cut.split])
            edit.map_to(body, [cut.remain])

    def finish(self, edit: Edit) -> None:
        """Retire what was cut, and note the split in headers, history and log; after the index has followed."""
        parts = mapping.bodies_within(edit.tx, [n for c in self.cuts for n in (c.split, c.remain)])
        for cut in self.cuts:
            edit.retire(cut.supervoxel)
            key = history_prefix(edit.instance.version.uuid) + rows.number(edit.number)
            edit.tx.put(key + rows.number(cut.supervoxel), _CUT.pack(cut.remain, cut.split))
        for body in set(parts.values()):
            edit.put_header(body, edit.header(body).voxels)
        counts = index.read_parts(edit.tx, parts)
        edit.deed = self._deed(parts[self.cuts[0].remain], counts)
        runs = mutations.Writer.attach(edit.tx, bytes(encode_rles(self.runs)))
        edit.log(self._record(parts, counts, runs), moves_only=False)

    def _deed(self, body: int, counts: Mapping[int, rows.Counts]) -> Deed:
        moved = ((body, self.new_body, tuple(c.split for c in self.cuts)),) if self.new_body else ()
        empty = tuple(c.remain for c in self.cuts if c.remain not in counts)
        return Deed(moves=moved, cuts=self.cuts, body=body, empty=empty)

    def _record(self, parts: Mapping[int, int], counts: Mapping[int, rows.Counts], runs: str) -> dict[str, Any]:
        if self.new_body:
            svs = {str(c.supervoxel): {"Split": c.split, "Remain": c.remain} for c in self.cuts}
            which = {"Target": parts[self.cuts[0].remain], "NewLabel": self.new_body}
            return {"Action": "split-complete", **which, "Split": runs, "SVSplits": svs}
        (cut,) = self.cuts
        return {
            "Action": "split-supervoxel-complete",
            "Supervoxel": cut.supervoxel,
            "Body": parts[cut.remain],
            "SplitSupervoxel": cut.split,
            "RemainSupervoxel": cut.remain,
            "Split": runs,
            "SplitSize": counts[cut.split].total if cut.split in counts else 0,
            "RemainSize": counts[cut.remain].total if cut.remain in counts else 0,
        }


@dataclass(frozen=True)
class Join:
    """The inverse of a split: the parts of supervoxels become these supervoxels again.

    Parameters
    ----------
    cuts
        What is to be taken back.
    new_body
        Body that the split made; 0 when the parts stayed in their body.
    undone
        Mutation id of the split.
    author
        Who takes it back.
    """

    cuts: tuple[Cut, ...]
    new_body: int
    undone: int
    author: Author

    def to_json(self) -> dict[str, Any]:
        """As JSON; ``undone`` tells it from a `Split`."""
        return {
            "cuts": [list(c) for c in self.cuts],
            "new_body": self.new_body,
            "undone": self.undone,
            "author": [self.author.user, self.author.app],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Join:
        """Inverse of `to_json`."""
        cuts = tuple(Cut(*c) for c in value["cuts"])
        return cls(cuts, value["new_body"], value["undone"], Author(*value["author"]))

    def is_crossed_by(self, edit: Edit) -> bool:
        """Whether an edit, at its end, changes the bodies that the parts are in."""
        return _changes(edit, {part for c in self.cuts for part in (c.split, c.remain)})

    def rewrite(self, blocks: Mapping[Coord, Labels], shape: Coord) -> dict[Coord, Labels]:
        """Blocks with the parts joined; also from a state where some of it was done."""
        del shape  # unlike a split, this needs no place: the parts have ids that nothing else has
        return {coord: self._rewritten(block) for coord, block in blocks.items()}

    def _rewritten(self, block: Labels) -> Labels:
        out = block.copy()
        for cut in self.cuts:
            out[contains(block, np.unique(np.array((cut.split, cut.remain), np.uint64)))] = cut.supervoxel
        return out

    def map_parts(self, edit: Edit) -> None:
        """Map the supervoxels to where their rest is, before the index follows the voxels."""
        bodies = mapping.bodies_within(edit.tx, [c.remain for c in self.cuts])
        for cut in self.cuts:
            edit.map_to(bodies[cut.remain], [cut.supervoxel])

    def finish(self, edit: Edit) -> None:
        """Retire the parts, forget the cuts, and note who did it; after the index has followed."""
        bodies = mapping.bodies_within(edit.tx, [c.supervoxel for c in self.cuts])
        for cut in self.cuts:
            edit.retire(cut.split)
            edit.retire(cut.remain)
            edit.tx.delete(history_prefix(edit.instance.version.uuid) + rows.number(self.undone) + rows.number(cut[0]))
        for body in set(bodies.values()):
            edit.put_header(body, edit.header(body).voxels)
        edit.deed = Deed(undoes=self.undone)
        edit.log({"Action": "undo-complete", "Undone": self.undone}, moves_only=False)


def _changes(edit: Edit, supervoxels: set[int]) -> bool:
    """Whether an edit, at its end, has changed some supervoxels' bodies."""
    bodies = edit.bodies()
    if bodies is None or edit.forget or supervoxels & edit.moved.keys():
        return True
    return bool(bodies & set(mapping.bodies_within(edit.tx, [*supervoxels]).values()))


def recut_from_json(value: Mapping[str, Any]) -> Split | Join:
    """A `Split` or a `Join` from what its `to_json` gave."""
    return Join.from_json(value) if "undone" in value else Split.from_json(value)


def history_prefix(uuid: str) -> bytes:
    """Start of the keys of the cuts made at a version: the mutation id and the supervoxel follow."""
    return rows.SPLIT + uuid.encode() + b"\0"


def read_history(keys: InstanceKeys) -> Iterator[tuple[str, int, Cut]]:
    """Cuts made at a version and its ancestors: version, mutation id, cut; those of a version in order."""
    for key, value in keys.scan(*rows.class_range(rows.SPLIT)):
        yield decode_row(key, value)


def decode_row(key: bytes, value: bytes) -> tuple[str, int, Cut]:
    """Version, mutation id and cut of one row."""
    uuid, numbers = key[1:-17].decode(), key[-16:]
    remain, split = _CUT.unpack(value)
    mutation, supervoxel = (int.from_bytes(n, "big") for n in (numbers[:8], numbers[8:]))
    return uuid, mutation, Cut(supervoxel, split, remain)


def _triple(coord: Coord) -> tuple[int, int, int]:
    z, y, x = coord
    return z, y, x
