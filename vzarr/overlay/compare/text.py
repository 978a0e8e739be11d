"""A difference as lines of text, for a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vzarr.geometry import Box

if TYPE_CHECKING:
    from vzarr.overlay.compare.diff import Diff, PathDiff

MOST_BOXES = 20
MOST_KEYS = 5
_INDENT = " " * 9


def lines(found: Diff, *, boxes: bool = True) -> Iterator[str]:
    """What differs, a line each; ``no difference`` where nothing does.

    Parameters
    ----------
    boxes
        Whether to list the boxes (voxels, zyx, upper corner exclusive) of chunks that differ, the first `MOST_BOXES` of
        an array.
    """
    if not found:
        yield "no difference"
    for path in found.paths:
        yield from _of_path(path, boxes)
    yield from (f"{kind:9}{key} (loose)" for key, kind in found.loose.items())
    yield from (f"keys     {name}: {count} written{_named(found, name)}" for name, count in found.keys.items())


def _named(found: Diff, instance: str) -> str:
    names = found.key_names.get(instance, ())
    more = len(names) - MOST_KEYS
    return f", among them {', '.join(names[:MOST_KEYS])}{f' and {more} more' if more > 0 else ''}" if names else ""


def _of_path(path: PathDiff, boxes: bool) -> Iterator[str]:
    yield f"{path.kind:9}{path.path or '/'}{_counts(path)}"
    if path.kind == "renamed" and path.before is not None:
        yield f"{_INDENT}was {path.before['path']}"
    if path.resized and path.before is not None and path.after is not None:
        yield f"{_INDENT}space {_space(path.before)} -> {_space(path.after)}"
    for name, (before, after) in path.attributes.items():
        yield f"{_INDENT}attribute {name}: {before} -> {after}"
    if path.metadata:
        yield f"{_INDENT}other metadata"
    if path.chunks is not None and boxes:
        yield from (f"{_INDENT}{_corners(box)}" for box in path.chunks.boxes[:MOST_BOXES])
        if len(path.chunks.boxes) > MOST_BOXES:
            yield f"{_INDENT}and {len(path.chunks.boxes) - MOST_BOXES} more boxes"


def _counts(path: PathDiff) -> str:
    if not path.chunks:
        return ""
    counts = ((n, len(getattr(path.chunks, n))) for n in ("added", "removed", "rewritten"))
    return ": chunks " + ", ".join(f"{count} {name}" for name, count in counts if count)


def _space(side: Mapping[str, Any]) -> str:
    end = [o + n for o, n in zip(side["origin"], side["shape"], strict=True)]
    return _corners((tuple(side["origin"]), tuple(end)))


def _corners(box: Box) -> str:
    return "..".join(",".join(map(str, corner)) for corner in box) if box[0] else "the only voxel"
