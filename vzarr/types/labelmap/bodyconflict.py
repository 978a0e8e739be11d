"""What merged versions disagree about in a segmentation: the body of a supervoxel."""

from __future__ import annotations

from typing import NamedTuple


class BodyConflict(NamedTuple):
    """A supervoxel that is in different bodies on the sides of a merge.

    Parameters
    ----------
    instance
        Name of the labelmap.
    body
        Body of the supervoxel before.
    supervoxel
        The supervoxel.
    bodies
        Its bodies, side by side; 0 where it was cut up.
    changed
        Places of the sides that disagree.
    """

    instance: str
    body: int
    supervoxel: int
    bodies: tuple[int, ...]
    changed: tuple[int, ...]

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
        return f"{self.instance}: supervoxel {self.supervoxel} of body {self.body} went to {sides}"
