"""The verbs that rename, copy and delete instances."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

import vzarr
from vzarr.cli.arguments import AsJson, RepoUrl, User, examples
from vzarr.cli.output import bar, emit
from vzarr.cli.settings import default_user
from vzarr.overlay.extract.content import load_region
from vzarr.overlay.extract.duplicate import duplicate
from vzarr.overlay.transfer import region
from vzarr.types import registry
from vzarr.types.settings import check_name

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the instance.", show_default=False)]
Passcode = Annotated[str, typer.Option(help="The repo's passcode, if it was made with one.")]


Ref = Annotated[str, typer.Option("--version", metavar="REF", help="What it holds at this version, sealed.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (rename, ("vzarr rename /data/fly em grayscale",)),
        (copy, ("vzarr copy /data/fly seg seg-trial", "vzarr copy /data/fly em em-v1 --version v1.0 --roi hotknife")),
        (delete, ("vzarr delete /data/fly bad-segmentation",)),
        (undelete, ("vzarr undelete /data/fly segmentation", "vzarr undelete /data/fly segmentation --as old")),
    ):
        app.command(epilog=examples(*lines))(verb)


def rename(
    url: RepoUrl,
    name: Name,
    to: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.", show_default=False)],
    passcode: Passcode = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Give an instance another name, in every version."""
    with closing(vzarr.open(url)) as repo:
        info = registry.rename(repo, name, to, passcode=passcode, user=user or default_user())
    emit({"name": info.name, "data_uuid": info.data_uuid}, f"renamed {name} to {to}", as_json=as_json)


def copy(
    url: RepoUrl,
    name: Name,
    to: Annotated[str, typer.Argument(metavar="NEW", help="Name of the copy.", show_default=False)],
    ref: Ref = "master@sealed",
    into: Annotated[str, typer.Option(metavar="REF", help="The open version that gets it.")] = "master",
    roi: Annotated[
        str | None, typer.Option(metavar="NAME[,REF]", help="Only chunks of volumes that touch this ROI.")
    ] = None,
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Copy what an instance holds at a sealed version into an open one, as a new instance."""
    with closing(vzarr.open(url)) as repo, bar("chunks") as told:
        source, target = repo[ref], repo[into]
        within = load_region(source, None if roi is None else region.parse(roi))
        who = user or default_user()
        made = duplicate(source, name, target, check_name(to), within=within, progress=told, user=who)
    value = {"name": to, "data_uuid": made.data_uuid, "from": source.uuid, "into": target.uuid}
    emit(value, f"copied {name} at {source.uuid} to {to} in {target.uuid}", as_json=as_json)


def delete(url: RepoUrl, name: Name, passcode: Passcode = "", user: User = "", as_json: AsJson = False) -> None:
    """Hide an instance in every version, until `vzarr undelete` brings it back or `vzarr gc --delete` collects it."""
    with closing(vzarr.open(url)) as repo:
        info = repo.delete_instance(name, passcode=passcode, user=user or default_user())
    text = f"deleted {name} (data id {info.data_uuid})"
    emit({"name": name, "data_uuid": info.data_uuid, "deleted": info.deleted}, text, as_json=as_json)


def undelete(
    url: RepoUrl,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the instance, or its data id.", show_default=False)
    ],
    to: Annotated[str, typer.Option("--as", metavar="NEW", help="Another name for it.")] = "",
    passcode: Passcode = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Show a deleted instance again; what it held is as it was."""
    with closing(vzarr.open(url)) as repo:
        info = registry.undelete(repo, name, to, passcode=passcode, user=user or default_user())
    emit({"name": info.name, "data_uuid": info.data_uuid}, f"{info.name} is back", as_json=as_json)
