"""The version graph as text: one column for each line of history, newest version first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vzarr.overlay.history.dag import Parents


def draw(newest_first: Sequence[str], parents: Parents) -> Iterator[tuple[str, str | None]]:
    """Lines of a drawing: the strokes, and the version that stands at the star (None for strokes alone).

    Parameters
    ----------
    newest_first
        Ids; each one before its parents.  Parents that are not among them are left out.
    parents
        Gives a version's parents.
    """
    shown = set(newest_first)
    lanes: list[str] = []  # the version that each column leads down to
    for node in newest_first:
        if node not in lanes:
            lanes.append(node)
        at = lanes.index(node)
        while lanes.count(node) > 1:
            last = len(lanes) - 1 - lanes[::-1].index(node)
            yield "| " * at + "|" + "_|" * (last - at - 1) + "/" + " /" * (len(lanes) - last - 1), None
            del lanes[last]
        yield " ".join("*" if i == at else "|" for i in range(len(lanes))), node
        above = [p for p in dict.fromkeys(parents(node)) if p in shown]
        lanes[at : at + 1] = above[:1]
        for other in above[1:]:
            yield "| " * at + "|\\" + " \\" * (len(lanes) - at - 1), None
            lanes.insert(at + 1, other)
