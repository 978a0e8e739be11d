"""The verb ``doctor``: what is installed, and whether this machine can work with a repo."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import Annotated

import typer
from rich.markup import escape

from vzarr.cli.arguments import AsJson, examples
from vzarr.cli.output import columns, emit
from vzarr.overlay.care.doctor import Level, Remark, examine
from vzarr.overlay.opening import open_objects

CORE = ("vzarr", "zarr", "numcodecs", "fsspec", "s3fs", "numpy", "fastapi", "uvicorn", "xarray")


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the program."""
    app.command(epilog=examples("vzarr doctor", "vzarr doctor /data/fly", "vzarr doctor s3://lab/fly --json"))(doctor)


def doctor(
    url: Annotated[str | None, typer.Argument(metavar="[REPO]", help="Folder or URL of a repo to try.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at the installation, and try what a repo needs; the exit status is 1 if something will not work."""
    remarks = [*_installed(), *(examine(open_objects(url)) if url is not None else ())]
    table = columns("", "topic", "what")
    for remark in remarks:
        table.add_row(remark.level.value, remark.topic, escape(remark.message))
    emit([asdict(remark) for remark in remarks], table, as_json=as_json)
    if any(remark.level is Level.problem for remark in remarks):
        raise typer.Exit(1)


def _installed() -> Iterator[Remark]:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in CORE)
    yield Remark("installation", Level.ok, f"Python {platform.python_version()} on {platform.system()}: {versions}")
    wanted = metadata.metadata("vzarr").get_all("Provides-Extra") or ()
    there = [extra for extra in sorted(wanted) if _has(extra)]
    yield Remark("extras", Level.ok, f"complete: {', '.join(there) or 'none'}; others: pip install 'vzarr[NAME]'")


def _has(extra: str) -> bool:
    marker = f'extra == "{extra}"'
    lines = [line for line in metadata.requires("vzarr") or () if marker in line.replace("'", '"')]
    names = [line.split(";")[0] for line in lines]
    return all(_version(name) for name in names)


def _version(requirement: str) -> str | None:
    name = requirement
    for mark in "<>=!~[ ":
        name = name.split(mark)[0]
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
