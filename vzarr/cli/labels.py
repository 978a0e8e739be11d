"""The verbs for segmentations at scale: making an index of voxels that are there, and applying agglomerations."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

import vzarr
from vzarr.cli.arguments import AsJson, RepoUrl, User, examples
from vzarr.cli.data import bars
from vzarr.cli.output import emit
from vzarr.cli.settings import default_user
from vzarr.errors import InvalidInputError
from vzarr.ingest.index import index_volume
from vzarr.ingest.mapping import read_mapping
from vzarr.overlay.repo import Repo
from vzarr.types.labelmap.handle import LabelMap

Version = Annotated[str, typer.Argument(metavar="VERSION", help="Branch, uuid or unique prefix; open.")]
Name = Annotated[str, typer.Argument(metavar="INSTANCE", help="Name of the labelmap.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    app.command(
        epilog=examples("vzarr index /data/fly master seg", "vzarr index /data/fly master seg --dask processes")
    )(index)
    lines = (
        "vzarr agglomerate /data/fly master segmentation table.csv",
        "vzarr agglomerate /data/fly master segmentation table.parquet --columns sv,root",
        "vzarr agglomerate /data/fly master segmentation edges.npy --edges",
    )
    app.command(epilog=examples(*lines))(agglomerate)


def index(
    url: RepoUrl,
    version: Version,
    instance: Name,
    dask: Annotated[
        str | None,
        typer.Option(help="Count by dask: threads, processes, synchronous or distributed.", show_default="no dask"),
    ] = None,
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Make the label index of a segmentation that was adopted or written by other means; may be run again."""
    with closing(vzarr.open(url)) as repo, bars() as progress:
        found = index_volume(
            _labelmap(repo, version, instance), scheduler=dask, progress=progress, user=user or default_user()
        )
    said = f"indexed {found.supervoxels} supervoxels in {found.bodies} bodies"
    emit(found._asdict(), f"{said}; {found.changed} rows changed", as_json=as_json)


def agglomerate(
    url: RepoUrl,
    version: Version,
    instance: Name,
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="Supervoxel and body: .csv, .parquet, .npy, .npz or file.h5:dataset.",
            show_default=False,
        ),
    ],
    edges: Annotated[bool, typer.Option("--edges", help="Rows are two supervoxels whose bodies become one.")] = False,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="Names of the two columns, where columns have names.")
    ] = None,
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Move the supervoxels of a table to their bodies, all of them as one edit."""
    names = columns.split(",") if columns else None
    if names is not None and len(names) != 2:
        raise typer.BadParameter(f"two names, not {columns!r}", param_hint="--columns")
    with closing(vzarr.open(url)) as repo:
        handle = _labelmap(repo, version, instance)
        rows = read_mapping(table, columns=names, edges=edges)
        found = handle.agglomerate(rows, edges=edges, user=user or default_user())
    emit(found._asdict(), f"moved {found.supervoxels} supervoxels to {found.bodies} bodies", as_json=as_json)


def _labelmap(repo: Repo, version: str, name: str) -> LabelMap:
    handle = repo[version][name]
    if not isinstance(handle, LabelMap):
        raise InvalidInputError(f"{name} is of type {handle.info.typename}, not labelmap")
    return handle
