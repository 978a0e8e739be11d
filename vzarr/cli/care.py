"""The verbs that look after a repo: is it whole, what may be thrown away, where do the bytes go."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from vzarr.cli.output import AsJson, RepoUrl, columns, emit, examples
from vzarr.overlay.opening import open_objects
from vzarr.overlay.verify import verify as look


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (verify, ("vzarr verify /data/fly", "vzarr verify /data/fly --version v1.0", "vzarr verify /data/fly --json")),
    ):
        app.command(epilog=examples(*lines))(verb)


def verify(
    url: RepoUrl,
    version: Annotated[
        str | None, typer.Option(metavar="REF", help="Only this version, and all that it needs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check log, seals, pages and every stored object; the exit status is 1 if anything is damaged."""
    found = list(look(open_objects(url), version))
    damaged = sum(f.damage for f in found)
    table = columns("finding", "where", "what")
    for finding in sorted(found, key=lambda f: not f.damage):
        table.add_row(finding.name, escape(finding.key), escape(finding.message))
    value = {"damaged": damaged, "findings": [asdict(f) for f in found]}
    emit(value, table if found else "all is well", as_json=as_json)
    if damaged:
        raise typer.Exit(1)
