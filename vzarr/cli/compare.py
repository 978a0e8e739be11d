"""The verbs that compare versions, and say which version wrote what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Annotated, Any

import typer
from rich.markup import escape

import vzarr
from vzarr.cli.output import AsJson, RepoUrl, columns, emit, examples, moment, short, version_json
from vzarr.geometry import Box
from vzarr.overlay.compare.diff import Diff, PathDiff

MOST_BOXES = 20


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (
            diff,
            (
                "vzarr diff /data/fly master~1 master",
                "vzarr diff /data/fly 3f8c side --stat",
                "vzarr diff /data/fly master~1 master --json",
            ),
        ),
        (blame, ("vzarr blame /data/fly segmentation/0", "vzarr blame /data/fly em/0 --version v1.0 --json")),
    ):
        app.command(epilog=examples(*lines))(verb)


def blame(
    url: RepoUrl,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Path of an array.", show_default=False)],
    version: Annotated[str, typer.Option(metavar="REF", help="Version to look at.")] = "master",
    as_json: AsJson = False,
) -> None:
    """Tell which versions wrote the chunks of an array, and how many each."""
    with closing(vzarr.open(url)) as repo:
        found = repo[version].blame(path)
        rows = [{**version_json(repo[found.versions[n].id]), "chunks": c} for n, c in found.counts().items()]
        table = columns("version", "chunks", "branch", "created", "note")
        for row in rows:
            what = short(row["uuid"]), str(row["chunks"]), row["branch"], moment(row["created"]), row["note"]
            table.add_row(*map(escape, what))
        emit(rows, table, as_json=as_json)


def diff(
    url: RepoUrl,
    a: Annotated[str, typer.Argument(metavar="A", help="First version.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="Second version.", show_default=False)],
    stat: Annotated[bool, typer.Option("--stat", help="Counts only, no boxes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: chunks, arrays, attributes, keys."""
    with closing(vzarr.open(url)) as repo:
        found = repo.diff(a, b)
        emit(found.to_json(boxes=not stat), "\n".join(_lines(found, stat)) or "no difference", as_json=as_json)


def _lines(found: Diff, stat: bool) -> Iterator[str]:
    for path in found.paths:
        yield f"{path.kind:9}{path.path or '/'}{_counts(path)}"
        if path.kind == "renamed" and path.before is not None:
            yield f"         was {path.before['path']}"
        if path.resized and path.before is not None and path.after is not None:
            yield f"         space {_space(path.before)} -> {_space(path.after)}"
        for name, (before, after) in path.attributes.items():
            yield f"         attribute {name}: {before} -> {after}"
        if path.metadata:
            yield "         other metadata"
        if path.chunks is not None and not stat:
            yield from (f"         {_corners(box)}" for box in path.chunks.boxes[:MOST_BOXES])
            if len(path.chunks.boxes) > MOST_BOXES:
                yield f"         and {len(path.chunks.boxes) - MOST_BOXES} more boxes; --json lists all"
    yield from (f"{kind:9}{key} (loose)" for key, kind in found.loose.items())
    yield from (f"keys     {name}: {count} written" for name, count in found.keys.items())


def _counts(path: PathDiff) -> str:
    if not path.chunks:
        return ""
    counts = ((n, len(getattr(path.chunks, n))) for n in ("added", "removed", "rewritten"))
    return ": chunks " + ", ".join(f"{count} {name}" for name, count in counts if count)


def _space(side: Mapping[str, Any]) -> str:
    end = [o + n for o, n in zip(side["origin"], side["shape"], strict=True)]
    return _corners((tuple(side["origin"]), tuple(end)))


def _corners(box: Box) -> str:
    return "..".join(",".join(map(str, corner)) for corner in box)
