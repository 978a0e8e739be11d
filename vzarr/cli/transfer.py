"""The verbs that move versions between repos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vzarr.cli.output import AsJson, RepoUrl, emit, examples
from vzarr.config import Settings
from vzarr.overlay.transfer import verbs
from vzarr.overlay.transfer.copying import Progress as Told
from vzarr.overlay.transfer.places import Place, open_place

Remote = Annotated[str, typer.Argument(metavar="REMOTE", help="Folder or URL of the other repo.", show_default=False)]
Branches = Annotated[
    list[str] | None, typer.Option("--branch", "-b", metavar="NAME", help="Only this branch; may be repeated.")
]

Token = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", help="Admin token of a server that is written to; or VZARR_ADMIN_TOKEN."),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (clone, ("vzarr clone /data/fly /backup/fly", "vzarr clone s3://lab/fly /data/fly --branch master")),
        (push, ("vzarr push /data/fly s3://lab/fly", "vzarr push /data/fly https://lab.example.org")),
        (pull, ("vzarr pull /data/fly s3://lab/fly", "vzarr pull /data/fly http://lab2:8000 -b tracing")),
        (fetch, ("vzarr fetch /data/fly /mnt/lab2/fly --as lab2", "vzarr merge /data/fly master lab2-master")),
    ):
        app.command(epilog=examples(*lines))(verb)


def clone(
    remote: Annotated[str, typer.Argument(metavar="SOURCE", help="Folder or URL of a repo.", show_default=False)],
    url: Annotated[str, typer.Argument(metavar="REPO", help="Folder or URL of the new one.", show_default=False)],
    branch: Branches = None,
    token: Token = None,
    keys: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the new repo keeps keys; see `vzarr init --help`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a repo with all sealed versions of another; on an object store without --keys it is read-only."""
    with _place(remote, token) as source, _place(url, token) as target, _bar() as told:
        done = verbs.clone(source, target, branches=branch, keys=keys, progress=told)
    _say(done, f"cloned into {url}", as_json)


def push(url: RepoUrl, remote: Remote, branch: Branches = None, token: Token = None, as_json: AsJson = False) -> None:
    """Give another repo the sealed versions that it misses."""
    with _place(url, token) as source, _place(remote, token) as target, _bar() as told:
        done = verbs.push(source, target, branches=branch, progress=told)
    _say(done, f"pushed to {remote}", as_json)


def pull(url: RepoUrl, remote: Remote, branch: Branches = None, token: Token = None, as_json: AsJson = False) -> None:
    """Get the sealed versions that another repo has; refused where a branch grew on both sides."""
    with _place(remote, token) as source, _place(url, token) as target, _bar() as told:
        done = verbs.push(source, target, branches=branch, progress=told)
    _say(done, f"pulled from {remote}", as_json)


def fetch(
    url: RepoUrl,
    remote: Remote,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="What grew on both sides arrives as NAME-BRANCH.")],
    branch: Branches = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Get what another repo has beside one's own versions, ready to be merged."""
    with _place(remote, token) as source, _place(url, token) as target, _bar() as told:
        done = verbs.fetch(source, target, name, branches=branch, progress=told)
    _say(done, f"fetched from {remote}", as_json)


def _place(url: str, token: str | None) -> Place:
    return open_place(url, token or Settings.from_environment().admin_token)


@contextmanager
def _bar() -> Iterator[Told]:
    """A bar on a terminal's stderr."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("objects", total=None)
        yield lambda count, _size: progress.update(task, total=count, advance=1)


def _say(done: verbs.Transferred, what: str, as_json: bool) -> None:
    text = f"{what}: {len(done.versions)} versions, {done.nbytes} bytes" if done.versions else "nothing was missing"
    emit({"versions": list(done.versions), "bytes": done.nbytes}, text, as_json=as_json)
