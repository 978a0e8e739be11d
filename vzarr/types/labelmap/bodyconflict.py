"""What merged versions disagree about in a segmentation: bodies that hang together."""

from __future__ import annotations

from typing import NamedTuple


class BodyConflict(NamedTuple):
    """Supervoxels that are in different bodies on the sides of a merge, and are decided about together.

    Parameters
    ----------
    instance
        Name of the labelmap.
    body
        Body of the first of them before.
    supervoxel
        The first of them.
    bodies
        Its bodies, side by side; 0 where it was cut up.
    changed
        Places of the sides that disagree.
    others
        The others, ascending.
    """

    instance: str
    body: int
    supervoxel: int
    bodies: tuple[int, ...]
    changed: tuple[int, ...]
    others: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from other conflicts of the labelmap."""
        return str(self.supervoxel)

    @property
    def held(self) -> tuple[int, ...]:
        """The body on each side."""
        return self.bodies

    def __str__(self) -> str:
        sides = " and ".join(f"body {b}" if b else "pieces" for b in self.bodies)
        more = f", and {len(self.others)} more with it" if self.others else ""
        return f"{self.instance}: supervoxel {self.supervoxel} of body {self.body} went to {sides}{more}"
