"""What is being written: a row that says which blocks change and what they held, until the index follows.

Voxels and index can't change at one stroke, so an edit that writes voxels first leaves an *intent*: the
blocks and the counts of what they held.  Whoever finds one whose writer is gone finishes it: he puts in place
the blocks that wait aside, or carries out the split, and brings the index from the old counts to what the
blocks hold then.  While it lies there it also keeps other processes from writing voxels of the same
instance at the same version.

The row ``w`` is a JSON object with its size in front (uint32), then three arrays: the blocks as packed
uint64, then the old counts as three arrays of 8-byte numbers (block, label, voxels); all little-endian.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import orjson

from vzarr.overlay.keys.locks import Presence
from vzarr.types.labelmap.cuts import Join, Split, recut_from_json
from vzarr.types.labelmap.edits import NOBODY, Author
from vzarr.types.labelmap.rows import Labels
from vzarr.types.labelmap.tally import Tally

SECONDS = 60.0
"""How long other processes wait for a writer that they cannot tell to be dead, and that does not keep up its lease."""

_SIZE = struct.Struct("<I")


@dataclass(frozen=True)
class Intent:
    """An edit of voxels that has begun.

    Parameters
    ----------
    blocks
        Packed block coordinates of scale 0 that are written.
    before
        What they held.
    downres
        Whether the coarser scales follow.
    owner, expires
        Which process writes (its `vzarr.overlay.keys.locks.Presence`), and until when others leave it alone even if its
        lease seems to have run out (seconds since 1970).
    split
        The split that makes the blocks change, or the undoing of one; None for a plain write.
    aside
        Where a plain write's blocks wait until they are put in place together.
    author
        Who writes.
    indexed
        Whether the index follows.
    """

    blocks: Labels
    before: Tally
    downres: bool
    owner: str
    expires: float
    split: Split | Join | None = None
    aside: str = ""
    author: Author = NOBODY
    indexed: bool = True

    @classmethod
    def begin(
        cls,
        blocks: Labels,
        before: Tally,
        downres: bool,
        split: Split | Join | None,
        owner: str,
        aside: str = "",
        author: Author = NOBODY,
        indexed: bool = True,
    ) -> Intent:
        """An intent of the process `owner`, from now on."""
        return cls(blocks, before, downres, owner, time.time() + SECONDS, split, aside, author, indexed)

    def taken_over(self, owner: str) -> Intent:
        """The same intent, of the process that finishes it."""
        return replace(self, owner=owner, expires=time.time() + SECONDS)

    def is_left(self, here: Presence, has_lease: Callable[[str], bool], is_writing: Callable[[str], bool]) -> bool:
        """Whether nobody is at it any more; for who holds this process's own lock for writing voxels.

        Parameters
        ----------
        here
            This process.
        has_lease
            Whether a process, by its name, has not given up the right to write to the version: who fails, and can't
            finish what he began, lives on without.
        is_writing
            Whether a process, by its name, may still write voxels of the version: however long it takes, nobody else
            may begin then, since what it puts last would replace what they wrote.
        """
        if self.owner == here.name or not has_lease(self.owner) or here.is_gone(self.owner):
            return True
        return self.expires < time.time() and not is_writing(self.owner)

    def encode(self) -> bytes:
        """As the module says."""
        author = [self.author.user, self.author.app]
        who = {"owner": self.owner, "expires": self.expires, "author": author}
        split = self.split.to_json() if self.split else None
        follows = {"downres": self.downres, "indexed": self.indexed}
        what = {**follows, "blocks": self.blocks.size, "split": split, "aside": self.aside}
        said = orjson.dumps({**who, **what})
        columns = (self.blocks, self.before.blocks, self.before.labels, self.before.voxels)
        packed = [c.astype(f"<{c.dtype.kind}8").tobytes() for c in columns]
        return _SIZE.pack(len(said)) + said + b"".join(packed)

    @classmethod
    def decode(cls, value: bytes) -> Intent:
        """Inverse of `encode`."""
        (size,) = _SIZE.unpack_from(value)
        at = _SIZE.size + size
        head = orjson.loads(value[_SIZE.size : at])
        blocks = np.frombuffer(value, "<u8", head["blocks"], at)
        columns = np.frombuffer(value, "<u8", -1, at + blocks.nbytes).reshape(3, -1)
        before = Tally(columns[0], columns[1], columns[2].astype(np.int64))
        split = recut_from_json(head["split"]) if head["split"] else None
        # Earlier releases noted neither.
        author, indexed = Author(*head.get("author", ())), head.get("indexed", True)
        who = head["owner"], head["expires"]
        return cls(blocks, before, head["downres"], *who, split, head["aside"], author, indexed)
