"""Joining versions with an order of preference: where they disagree about a key, the first one named wins.

DVID's own rule for this is unsound (it can lose keys that the winner has), so this one is different: a key that no two
versions changed is what a plain merge makes of it, and only one in conflict takes the value of the first version that
has one.
"""

from __future__ import annotations

from collections.abc import Sequence

from vzarr.errors import UnsupportedError
from vzarr.overlay.threeway.disputes import Dispute, Held, KeyConflict
from vzarr.overlay.version import Version
from vzarr.types.voxels import array_path


def merge_preferring(
    versions: Sequence[Version], names: Sequence[str], note: str = "", *, user: str = "", app: str = ""
) -> Version:
    """Make an open version that joins sealed ones, and decide the conflicts in some instances' keys.

    Parameters
    ----------
    versions
        Two or more of one repo, the preferred first.
    names
        Instances to decide about; those of others stay conflicts, which raise when they are read.

    Raises
    ------
    NotFoundError
        If there is no instance of a name.
    UnsupportedError
        If an instance holds voxels, whose indexes must agree with them.
    ConflictError
        If chunks of some array were changed differently, and then nothing is made; or if a version has undecided
        keys of its own.
    SealedError
        If a version is open.
    """
    infos = [versions[0].instance_info(name) for name in names]
    for info in infos:
        if any(version.has_array(array_path(info.path)) for version in versions):
            raise UnsupportedError(f'cannot decide about "{info.name}" key by key: it holds voxels')

    def prefer(dispute: Dispute) -> Held | None:
        if isinstance(dispute.conflict, KeyConflict) and dispute.conflict.instance in names:
            return next((dispute.sides[i] for i in dispute.changed if dispute.sides[i].value is not None), None)
        return None

    return versions[0].repo.merge(
        versions, prefer, note, keep_conflicts=lambda c: isinstance(c, KeyConflict), user=user, app=app
    )
