"""The verbs that hand a version to tools that know nothing of vzarr."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

import vzarr
from vzarr.cli.arguments import AsJson, RepoUrl, examples
from vzarr.cli.output import emit
from vzarr.overlay.export import references, standalone
from vzarr.overlay.export.shown.export import flatten_n5
from vzarr.overlay.namedstore import naming_of


class Layout(StrEnum):
    """Formats that a version can be written in."""

    zarr = "zarr"
    n5 = "n5"


Which = Annotated[str, typer.Argument(metavar="REF", help="Branch, tag, uuid or unique prefix.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    lines = (
        "vzarr flatten /data/fly v1.0 /data/fly-v1.0.zarr",
        "vzarr flatten /data/fly master /tmp/fly.zarr --copy",
        "vzarr flatten /data/fly v1.0 /data/fly-v1.0.n5 --format n5",
    )
    app.command(epilog=examples(*lines))(flatten)

    app.command(
        epilog=examples("vzarr export-refs /data/fly v1.0 fly.json", "vzarr export-refs /data/fly v1.0 fly.parq")
    )(export_refs)


def flatten(
    url: RepoUrl,
    ref: Which,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Folder to make.", show_default=False)],
    copy: Annotated[bool, typer.Option("--copy", help="Copy every file instead of hard-linking.")] = False,
    layout: Annotated[Layout, typer.Option("--format", help="What to write.")] = Layout.zarr,
    as_json: AsJson = False,
) -> None:
    """Write a version as a plain Zarr (or N5) folder that needs neither vzarr nor the repo."""
    with closing(vzarr.open(url)) as repo:
        version = repo[ref]
        if layout is Layout.n5:
            done = flatten_n5(version.store, target)
        else:
            done = standalone.flatten(version.view, target, copy=copy, naming=naming_of(version, repo.known))
        value = {"version": version.uuid, "target": target, **asdict(done)}
        emit(value, f"wrote {target}: {done.keys} keys, {done.linked} of them hard-linked", as_json=as_json)


def export_refs(
    url: RepoUrl,
    ref: Which,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File to write, *.json, or folder, *.parq.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Write a version as references (kerchunk), so that fsspec alone reads it in place."""
    with closing(vzarr.open(url)) as repo:
        version = repo[ref]
        keys = references.export_references(version.view, file, naming=naming_of(version, repo.known))
        emit({"version": version.uuid, "file": file, "keys": keys}, f"wrote {file}: {keys} keys", as_json=as_json)
