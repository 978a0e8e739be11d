"""The verbs that rename and delete instances, which belong to the repo and are seen from every version."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

import vzarr
from vzarr.cli.output import AsJson, RepoUrl, User, emit, examples
from vzarr.cli.settings import default_user
from vzarr.types import registry

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the instance.", show_default=False)]
Passcode = Annotated[str, typer.Option(help="The repo's passcode, if it was made with one.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (rename, ("vzarr rename /data/fly em grayscale",)),
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
