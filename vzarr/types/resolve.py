"""Joining versions with an order of preference: where they disagree about an instance, the first one named wins.

DVID's own rule for this is unsound (it can lose keys that the winner has), so this one is different: what no two
versions changed is what a plain merge makes of it.  Only a key in conflict takes the value of the first version that
has one, and only blocks and bodies in conflict are as the first version has them that changed them.
"""

from __future__ import annotations

from collections.abc import Sequence

from vzarr.overlay.threeway.disputes import Conflict, Dispute, Held, KeyConflict
from vzarr.overlay.version import Version


def merge_preferring(
    versions: Sequence[Version], names: Sequence[str], note: str = "", *, user: str = "", app: str = ""
) -> Version:
    """Make an open version that joins sealed ones, and decide the conflicts in some instances.

    Parameters
    ----------
    versions
        Two or more of one repo, the preferred first.
    names
        Instances to decide about; keys of others stay conflicts, which raise when they are read.

    Raises
    ------
    NotFoundError
        If there is no instance of a name.
    ConflictError
        If chunks, bodies or arrays of something else were changed differently, and then nothing is made; or if a
        version has undecided keys of its own.
    SealedError
        If a version is open.
    """
    folders = tuple(f"{versions[0].instance_info(name).path}/" for name in names)

    def prefer(dispute: Dispute) -> Held | None:
        conflict, changed = dispute.conflict, [dispute.sides[place] for place in dispute.changed]
        if isinstance(conflict, Conflict):
            return changed[0] if f"{conflict.path}/".startswith(folders) else None
        if conflict.instance not in names:
            return None
        if isinstance(conflict, KeyConflict):
            return next((side for side in changed if side.value is not None), None)
        return changed[0]

    return versions[0].repo.merge(
        versions, prefer, note, keep_conflicts=lambda c: isinstance(c, KeyConflict), user=user, app=app
    )
