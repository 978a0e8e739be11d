"""The verbs that look after a repo: is it whole, what may be thrown away, where do the bytes go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from enum import StrEnum
from operator import attrgetter
from typing import Annotated

import typer
from rich.markup import escape

import vzarr
from vzarr.cli.arguments import AsJson, RepoUrl, examples
from vzarr.cli.output import columns, emit
from vzarr.overlay import layout
from vzarr.overlay.care.gc import GRACE_SECONDS
from vzarr.overlay.care.rebuild import rebuild_damaged
from vzarr.overlay.care.rebuildkeys import rebuild
from vzarr.overlay.care.usage import total, usage
from vzarr.overlay.care.verify import verify as look
from vzarr.overlay.history.dag import ancestry
from vzarr.overlay.history.logcheck import Finding
from vzarr.overlay.opening import open_objects
from vzarr.types import registry


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (verify, ("vzarr verify /data/fly", "vzarr verify /data/fly --version v1", "vzarr verify --labels /data/fly")),
        (du, ("vzarr du /data/fly", "vzarr du /data/fly --by instance", "vzarr du /data/fly v1.0 --by branch --json")),
        (gc, ("vzarr gc /data/fly", "vzarr gc /data/fly --delete", "vzarr gc /data/fly --grace 0 --delete")),
    ):
        app.command(epilog=examples(*lines))(verb)
    shown = examples("vzarr rebuild-keys /data/fly", "vzarr rebuild-keys s3://lab/fly --keys postgresql://db.lab/keys")
    app.command("rebuild-keys", epilog=shown)(rebuild_keys)


class Part(StrEnum):
    """What `du` adds up by."""

    version = "version"
    instance = "instance"
    branch = "branch"


def du(
    url: RepoUrl,
    ref: Annotated[str | None, typer.Argument(metavar="[REF]", help="Only this version and its ancestors.")] = None,
    by: Annotated[Part, typer.Option(help="What to add up by.")] = Part.version,
    as_json: AsJson = False,
) -> None:
    """Show where the bytes are: what each version, instance or branch stored."""
    with closing(vzarr.open(url)) as repo:
        state = repo.state
        nodes = [*state.nodes, layout.UNVERSIONED] if ref is None else sorted(
            ancestry(repo.resolve(ref), state.parents), key=lambda n: state.nodes[n].version_id
        )  # fmt: skip
        found = total(usage(repo.objects, state, nodes), attrgetter(by.value))
    table = columns("objects", "bytes", by.value)
    for name, (objects, nbytes) in found.items():
        table.add_row(str(objects), str(nbytes), escape(name or "(pages, trees, checksums)"))
    objects, nbytes = (sum(counts) for counts in zip((0, 0), *found.values(), strict=True))
    table.add_row(str(objects), str(nbytes), "together")
    rows = [{by.value: name, "objects": n, "bytes": size} for name, (n, size) in found.items()]
    emit({"objects": objects, "bytes": nbytes, "by": rows}, table, as_json=as_json)


def gc(
    url: RepoUrl,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; otherwise it is only listed.")] = False,
    grace: Annotated[float, typer.Option(metavar="HOURS", help="Leave alone what is younger.")] = GRACE_SECONDS / 3600,
    as_json: AsJson = False,
) -> None:
    """List what interrupted writes left behind, or remove it; versions are never touched."""
    with closing(vzarr.open(url)) as repo:
        found = repo.garbage(grace * 3600, delete=delete)
        table = columns("kind", "objects", "bytes", "where")
        for each in found:
            table.add_row(each.kind, str(each.objects), str(each.nbytes), escape(each.place))
        value = {"deleted": delete, "garbage": [asdict(each) for each in found]}
        emit(value, table if found else "nothing to remove", as_json=as_json)


def rebuild_keys(
    url: RepoUrl,
    keys: Annotated[
        str | None, typer.Option(metavar="URL", help="A new place for them; see `vzarr init --help`.")
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on with what is left of versions that were open.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a lost or damaged key store again from the sealed versions; nobody else may use the repo meanwhile."""
    done = rebuild(open_objects(url), keys=keys, accept_loss=accept_loss)
    text = [f"keys of {done.versions} sealed versions restored" if done.restored else "the keys are in their place"]
    text += [f"the damaged store is kept as {done.aside}"] if done.aside else []
    text += [
        f"unversioned instance {name}: its keys are as of the snapshot at {time}; what was written after that is lost"
        if time
        else f"unversioned instance {name}: there is no snapshot of its keys, and all that it had is lost"
        for name, time in done.unversioned
    ]
    if done.voxels_lost:
        text.append("voxels that unversioned instances had are lost: the mirror was made without --open")
    text += [f"open version {n}: as the mirror held it, {done.time}" for n in done.reopened]
    text += [f"open version {n}: its metadata and keys are lost; its chunks are in nodes/{n}" for n in done.lost]
    if done.lost:
        text.append("--accept-loss lets open versions go on with what is left; until then they are refused")
    text += [f"open version {n}: goes on with what is left" for n in done.accepted]
    emit(asdict(done), "\n".join(text), as_json=as_json)


def verify(
    url: RepoUrl,
    version: Annotated[
        str | None, typer.Option(metavar="REF", help="Only this version, and all that it needs.")
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Instead, hold segmentations' indices against voxels and mapping.")
    ] = False,
    instance: Annotated[str | None, typer.Option(metavar="NAME", help="With --labels: only this instance.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make again what the rest of the repo tells, then check again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check log, seals, pages and every stored object; the exit status is 1 if anything is damaged."""
    if labels and rebuild:
        raise typer.BadParameter("objects are rebuilt, indices are not: leave --labels out", param_hint="--rebuild")
    found = list(_data(url, version or "master", instance) if labels else look(open_objects(url), version))
    rebuilt: list[str] = []
    if rebuild:
        rebuilt, failed = rebuild_damaged(open_objects(url), found)
        found = [*failed, *look(open_objects(url), version)]
    damaged = sum(f.damage for f in found)
    table = columns("finding", "where", "what")
    for finding in sorted(found, key=lambda f: not f.damage):
        table.add_row(finding.name, escape(finding.key), escape(finding.message))
    value = {"damaged": damaged, "rebuilt": rebuilt, "findings": [asdict(f) for f in found]}
    emit(value, table if found else "all is well", as_json=as_json)
    if damaged:
        raise typer.Exit(1)


def _data(url: str, ref: str, instance: str | None) -> Iterator[Finding]:
    """What instances at a version say of themselves that is not so."""
    with closing(vzarr.open(url)) as repo:
        version = repo[ref]
        for name, message in registry.verify(version, instance):
            yield Finding("data-inconsistent", f"{version.uuid}/{name}", message)
