"""The verbs that move versions between repos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from vzarr.cli.arguments import AsJson, RepoUrl, examples
from vzarr.cli.output import bar, emit
from vzarr.config import Settings
from vzarr.errors import InvalidInputError
from vzarr.overlay.extract.across import at_hand, delivered
from vzarr.overlay.extract.content import load_region
from vzarr.overlay.extract.flat import flatten
from vzarr.overlay.extract.limited import limit
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer import mirror as mirroring
from vzarr.overlay.transfer import region, verbs
from vzarr.overlay.transfer.places import Place, open_place
from vzarr.overlay.transfer.served import is_served

Remote = Annotated[str, typer.Argument(metavar="REMOTE", help="Folder or URL of the other repo.", show_default=False)]
Branches = Annotated[
    list[str] | None, typer.Option("--branch", "-b", metavar="NAME", help="Only this branch; may be repeated.")
]

Token = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", help="Admin token of a server that is written to or mirrored; or VZARR_ADMIN_TOKEN."),
]
FromToken = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", help="With --mirror: admin token of SOURCE, if it is a server and has another."),
]

Unversioned = Annotated[
    bool, typer.Option("--unversioned", help="Let the sender's unversioned data replace the receiver's, too.")
]

Keys = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the new repo keeps keys; see `vzarr init --help`.")
]
Durability = Annotated[
    str | None, typer.Option(metavar="process|fsync", help="What the new repo outlasts; see `vzarr init --help`.")
]
Depth = Annotated[
    int | None, typer.Option(metavar="N", help="Only chunks that the newest N versions of each branch need.")
]
Instances = Annotated[str | None, typer.Option(metavar="A,B", help="Only chunks of these instances.")]
Roi = Annotated[
    str | None,
    typer.Option(metavar="NAME[,REF]", help="Only chunks of volumes that touch this ROI, as it is at a version."),
]

_CLONING = (
    "vzarr clone /data/fly /backup/fly",
    "vzarr clone https://lab.example.org/7f3a /data/fly --branch master",
    "vzarr clone s3://lab/fly /data/fly --depth 1 --instances seg",
    "vzarr clone s3://lab/fly https://lab.example.org --roi hotknife,v1.0",
    "vzarr clone /data/fly /data/published --versions v1.0,v1.1,v2.0",
    "vzarr clone /data/fly /backup/fly --mirror --open",
    "vzarr clone https://lab.example.org/7f3a s3://backup/fly --mirror --open --token TOKEN",
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (clone, _CLONING),
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
    from_token: FromToken = None,
    keys: Keys = None,
    durability: Durability = None,
    depth: Depth = None,
    instances: Instances = None,
    roi: Roi = None,
    flat: Annotated[
        str | None,
        typer.Option("--flatten", metavar="REF", help="A new repo whose root is what this version holds."),
    ] = None,
    versions: Annotated[
        str | None, typer.Option(metavar="A,B", help="A new repo of these versions alone, under their own ids.")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="A read-only backup, log and all; again, to bring it up to date.")
    ] = False,
    opened: Annotated[
        bool, typer.Option("--open", help="With --mirror: open versions too, as they are at one moment.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a repo with all sealed versions of another; on an object store without --keys it is read-only."""
    names = None if instances is None else tuple(instances.split(","))
    limits = Limits(depth, names, None if roi is None else region.parse(roi))
    if sum((bool(flat), bool(versions), mirror)) > 1 or (branch and (flat or versions or mirror)):
        raise InvalidInputError("--flatten, --versions and --mirror take no branches, nor each other")
    if (mirror and (limits or keys)) or (versions and limits) or (flat and depth is not None):
        raise InvalidInputError("--mirror and --versions take no limits, and --flatten only --instances and --roi")
    if durability and (mirror or flat or versions):
        raise InvalidInputError(
            "--durability goes with a plain clone: a mirror lasts as its original, and the others as usual"
        )
    if opened and not mirror:
        raise InvalidInputError("--open goes with --mirror: a clone begins with what is sealed")
    if flat or versions:
        _extract(remote, url, token, flat, versions, limits, keys, as_json)
        return
    with _ends(remote, url, token, from_token, mirror=mirror) as (source, target), bar() as told:
        if mirror:
            done = mirroring.mirror(source, target, opened=opened, progress=told)
        else:
            how: dict[str, Any] = {"branches": branch, "keys": keys, "limits": limits, "durability": durability}
            done = verbs.clone(source, target, **how, progress=told)
    _say(done, f"{'mirrored' if mirror else 'cloned'} into {url}", as_json)


def _extract(
    remote: str, url: str, token: str | None, ref: str | None, refs: str | None, limits: Limits, keys: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    token = token or Settings.from_environment().admin_token
    wanted = [ref] if ref is not None else (refs or "").split(",")
    needed = replace(limits, depth=1) if ref is not None else limits
    with bar() as told, at_hand(remote, wanted, needed, told) as source:
        if ref is not None:
            version = source[ref]
            within = load_region(version, limits.roi)
            flat = partial(flatten, version, instances=limits.instances, within=within, progress=told)
            root = delivered(url, token, keys, lambda place, its: flat(place, keys=its), told)
            value: dict[str, Any] = {"root": root}
            text = f"version {version.uuid} is the root {root} of {url}"
        else:
            some = partial(limit, source, wanted, progress=told)
            nodes = delivered(url, token, keys, lambda place, its: some(place, keys=its), told)
            value = {"versions": nodes}
            text = f"{url} has {len(nodes)} versions and the root {nodes[0]}"
    emit(value, text, as_json=as_json)


def push(
    url: RepoUrl, remote: Remote, branch: Branches = None, unversioned: Unversioned = False, token: Token = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give another repo the sealed versions that it misses."""
    with _ends(url, remote, token) as (source, target), bar() as told:
        done = verbs.push(source, target, branches=branch, unversioned=unversioned, progress=told)
    _say(done, f"pushed to {remote}", as_json)


def pull(
    url: RepoUrl, remote: Remote, branch: Branches = None, unversioned: Unversioned = False, token: Token = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Get the sealed versions that another repo has; refused where a branch grew on both sides."""
    with _ends(remote, url, token) as (source, target), bar() as told:
        done = verbs.push(source, target, branches=branch, unversioned=unversioned, progress=told, pulling=True)
    _say(done, f"pulled from {remote}", as_json)


def fetch(
    url: RepoUrl,
    remote: Remote,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="What grew on both sides arrives as NAME-BRANCH.")],
    branch: Branches = None,
    unversioned: Unversioned = False,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Get what another repo has beside one's own versions, ready to be merged."""
    with _ends(remote, url, token) as (source, target), bar() as told:
        done = verbs.fetch(source, target, name, branches=branch, unversioned=unversioned, progress=told)
    _say(done, f"fetched from {remote}", as_json)


@contextmanager
def _ends(
    source: str, target: str, token: str | None, from_token: str | None = None, *, mirror: bool = False
) -> Iterator[tuple[Place, Place]]:
    """Both ends of a transfer.

    The token is that of the server which is written to.  Who is only read from may be a stranger, and is told none but
    one that was given for no other server.
    """
    known = token or Settings.from_environment().admin_token
    if not from_token:
        from_token = known if mirror else token if not is_served(target) else None
    with open_place(source, from_token or "") as here, open_place(target, known) as there:
        yield here, there


def _say(done: verbs.Transferred, what: str, as_json: bool) -> None:
    moved = f"{what}: {len(done.versions)} versions, {done.nbytes} bytes"
    text = moved if done.versions or done.nbytes else "nothing was missing"
    if done.kept:
        text += f"\nleft alone, since both have data of their own: {', '.join(done.kept)} (--unversioned replaces them)"
    value = {"versions": list(done.versions), "bytes": done.nbytes, "kept": list(done.kept)}
    emit(value, text, as_json=as_json)
