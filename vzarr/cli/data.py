"""The verbs that bring data in, or take them in where they are, and the one that says what kinds of data there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import vzarr
from vzarr.cli.arguments import AsJson, RepoUrl, User, examples
from vzarr.cli.output import columns, emit
from vzarr.cli.settings import default_user
from vzarr.ingest import ingest as run_ingest
from vzarr.types import registry


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    lines = (
        "vzarr ingest /data/fly grayscale slices/*.png --voxel-size 10 --unit nm",
        "vzarr ingest /data/fly segmentation labels.h5:stack --type labelmap --mapping labels.h5:transforms",
        "vzarr ingest /data/fly raw volume.npy.gz --version side --voxel-size 30,8,8",
    )
    app.command(epilog=examples(*lines))(ingest)
    lines = (
        "vzarr adopt /data/fly grayscale s3://bucket/fly.zarr --pin",
        "vzarr adopt /data/fly segmentation precomputed://https://host/layer --type labelmap",
        "vzarr adopt /data/fly raw /data/volume.n5/raw",
    )
    app.command(epilog=examples(*lines))(adopt)
    app.command(epilog=examples("vzarr types", "vzarr types --json"))(types)


def ingest(
    url: RepoUrl,
    name: Annotated[str, typer.Argument(help="Name of the new instance.", show_default=False)],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            help="Images, in natural order; or one file.h5:dataset, file.npy or Zarr array; also as .gz.",
            show_default=False,
        ),
    ],
    typename: Annotated[str, typer.Option("--type", help="uint8blk or labelmap.")] = "uint8blk",
    voxel_size: Annotated[str, typer.Option(help="Edge of a voxel: one number, or z,y,x.")] = "8",
    unit: Annotated[str, typer.Option(help="Unit of the voxel size.")] = "nm",
    mapping: Annotated[
        str | None, typer.Option(help="Supervoxel to body: pairs, as file.h5:dataset, .npy or .csv.")
    ] = None,
    version: Annotated[str, typer.Option(metavar="REF", help="Open version to write to.")] = "master",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Bring a volume into an open version, with its pyramid and, for labels, its index."""
    with closing(vzarr.open(url)) as repo, bars() as progress:
        made = run_ingest(
            repo[version],
            name,
            sources if len(sources) > 1 else sources[0],
            typename=typename,
            voxel_size=_numbers(voxel_size),
            unit=unit,
            mapping=mapping,
            user=user or default_user(),
            progress=progress,
        )
        lo, hi = made.version.bounds(f"{name}/0") or ((0, 0, 0), (0, 0, 0))
        value = {"instance": name, "type": typename, "version": made.version.uuid, "lo_zyx": lo, "hi_zyx": hi}
        emit(value, f"ingested {name} [{typename}] into {made.version.uuid}", as_json=as_json)


def adopt(
    url: RepoUrl,
    name: Annotated[str, typer.Argument(help="Name of the new instance.", show_default=False)],
    source: Annotated[
        str,
        typer.Argument(
            help="Zarr array, OME-Zarr group, N5 dataset or precomputed layer: a path, s3:// or http(s):// URL.",
            show_default=False,
        ),
    ],
    typename: Annotated[
        str | None, typer.Option("--type", help="Datatype, or 'zarr' for none, of any dtype; by default guessed.")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Record what each object is; later changes are errors.")] = False,
    hashed: Annotated[bool, typer.Option("--hash", help="Pin by SHA-256 too, which reads the whole source.")] = False,
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Make an existing volume an instance of the open root, in place: nothing is copied."""
    with closing(vzarr.open(url)) as repo:
        how = "hash" if hashed else "stamp" if pin else ""
        made = repo.adopt(name, source, pin=how, typename=typename, user=user or default_user())
        kind = made.info.typename if made is not None else "zarr"
        shape = repo.root.bounds(f"{name}/0") or ((0, 0, 0), (0, 0, 0))
        value = {"instance": name, "type": kind, "source": source, "pinned": bool(how), "lo": shape[0], "hi": shape[1]}
        emit(value, f"adopted {name} [{kind}] from {source}", as_json=as_json)


def _numbers(text: str) -> float | tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, 3):
        raise typer.BadParameter(f"one number or z,y,x, not {text!r}", param_hint="--voxel-size")
    return found[0] if len(found) == 1 else found


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on stderr, one per stage; nothing where that is no terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(escape(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def types(as_json: AsJson = False) -> None:
    """List the datatypes that are installed."""
    rows = [{"name": name, "summary": registry.get(name).summary} for name in registry.names()]
    table = columns("type", "what it is")
    for row in rows:
        table.add_row(escape(row["name"]), escape(row["summary"]))
    emit(rows, table, as_json=as_json)
