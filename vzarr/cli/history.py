"""The verbs that make, change and show versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from operator import itemgetter
from typing import Annotated, Any

import typer
import zarr
from rich.markup import escape
from rich.table import Table

import vzarr
from vzarr.cli.arguments import AsJson, Note, Ref, RepoUrl, User, examples
from vzarr.cli.output import columns, conflict_json, emit, moment, short, state_word, version_json
from vzarr.cli.settings import default_user
from vzarr.errors import ConflictError, InvalidInputError
from vzarr.overlay.history.graph import draw
from vzarr.overlay.history.state import InstanceInfo
from vzarr.overlay.repo import Repo
from vzarr.overlay.threeway.disputes import FAIL, OURS, THEIRS
from vzarr.overlay.version import Version

DURABILITY = "What an acknowledged change outlasts: the end of any process, or power loss too (slower)."


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the program."""
    for verb, lines in (
        (
            init,
            (
                "vzarr init /data/fly",
                "vzarr init /data/fly --alias fly --description 'antennal lobe'",
                "vzarr init s3://lab/fly --keys sqlite:////data/keys.sqlite",
                "vzarr init /data/fly --durability fsync",
            ),
        ),
        (
            log,
            (
                "vzarr log /data/fly",
                "vzarr log /data/fly side --json",
                "vzarr log /data/fly --graph",
                "vzarr log /data/fly --entries",
            ),
        ),
        (show, ("vzarr show /data/fly", "vzarr show /data/fly 3f8c --json")),
        (commit, ("vzarr commit /data/fly -m 'first round of proofreading'",)),
        (newversion, ("vzarr newversion /data/fly", "vzarr newversion /data/fly side -m 'second round'")),
        (branch, ("vzarr branch /data/fly side", "vzarr branch /data/fly trial 3f8c -m 'what if'")),
        (tag, ("vzarr tag /data/fly v1.0", "vzarr tag /data/fly paper 3f8c")),
        (
            merge,
            (
                "vzarr merge /data/fly master side -m 'both rounds'",
                "vzarr merge /data/fly master side --strategy theirs",
                "vzarr merge /data/fly master side --dry-run --json",
            ),
        ),
    ):
        app.command(epilog=examples(*lines))(verb)


@contextmanager
def _version(url: str, ref: str) -> Iterator[Version]:
    with closing(vzarr.open(url)) as repo:
        yield repo[ref]


def init(
    url: RepoUrl,
    alias: Annotated[str, typer.Option(help="Short name of the repo.")] = "",
    description: Annotated[str, typer.Option(help="What the repo holds.")] = "",
    root: Annotated[str | None, typer.Option(metavar="ID", help="Id of the root; random by default.")] = None,
    keys: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the keys of open versions lie; by default in the repo.")
    ] = None,
    passcode: Annotated[str, typer.Option(help="What must be known to rename or delete its instances.")] = "",
    durability: Annotated[str, typer.Option(metavar="process|fsync", help=DURABILITY)] = "process",
    as_json: AsJson = False,
) -> None:
    """Create an empty repo with one open version, the root."""
    about: dict[str, Any] = {
        "alias": alias,
        "description": description,
        "root": root,
        "keys": keys,
        "passcode": passcode,
    }
    with closing(vzarr.create(url, durability=durability, **about)) as repo:
        emit({"url": repo.url, "root": repo.uuid}, f"created {repo.url}, root {repo.uuid}", as_json=as_json)


def log(
    url: RepoUrl,
    ref: Annotated[str | None, typer.Argument(metavar="[REF]", help="Only this version and its ancestors.")] = None,
    entries: Annotated[bool, typer.Option("--entries", help="The log itself: who changed what, when.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="Draw who came from whom.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the versions, newest first, or the entries of the repo's log."""
    with closing(vzarr.open(url)) as repo:
        if entries:
            emit(*_entries(repo, None if ref is None else repo.resolve(ref)), as_json=as_json)
            return
        versions = repo.versions() if ref is None else _ancestry(repo, repo.resolve(ref))
        newest_first = sorted(versions, key=lambda version: -version.info.version_id)
        rows = [version_json(version) for version in newest_first]
        if graph:
            emit(rows, "\n".join(_drawing(repo, {row["uuid"]: row for row in rows})), as_json=as_json)
            return
        table = columns("version", "branch", "state", "parents", "created", "note")
        for row in rows:
            parents = " ".join(map(short, row["parents"]))
            state, created = state_word(row["sealed"]), moment(row["created"])
            table.add_row(*map(escape, (short(row["uuid"]), row["branch"], state, parents, created, row["note"])))
        emit(rows, table, as_json=as_json)


def _drawing(repo: Repo, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    for strokes, node in draw(list(rows), repo.state.parents):
        if node is None:
            yield strokes
        else:
            row = rows[node]
            where = f"({row['branch']}, {state_word(row['sealed'])})"
            yield f"{strokes}  {short(node)} {moment(row['created'])} {where} {row['note']}".rstrip()


def _ancestry(repo: Repo, node: str) -> list[Version]:
    state, found, waiting = repo.state, set(), [node]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting.extend(state.parents(at))
    return [repo[each] for each in found]


def _entries(repo: Repo, node: str | None) -> tuple[list[dict[str, Any]], Table]:
    """Entries of the log; of one version those about it and its ancestors, or about what was made in them."""
    mine = None if node is None else {version.uuid for version in _ancestry(repo, node)}
    rows, table = [], columns("entry", "time", "user", "what")
    for entry in repo.log():
        if mine is not None and not any(mine & {op.get("id"), op.get("root"), op.get("version")} for op in entry.ops):
            continue
        rows.append({**asdict(entry), "ops": list(entry.ops)})
        what = "; ".join(map(_in_words, entry.ops))
        table.add_row(str(entry.number), moment(entry.time), escape(entry.user), escape(what))
    return rows, table


def _in_words(op: dict[str, Any]) -> str:
    subject = op.get("name") or op.get("id") or op.get("root") or ""
    return f"{op['op']} {short(subject)}".strip()


def show(url: RepoUrl, ref: Ref = "master", as_json: AsJson = False) -> None:
    """Show one version: where it stands, its instances and its arrays."""
    with _version(url, ref) as version:
        instances = [
            {
                "name": info.name,
                "type": info.typename,
                "versioned": info.versioned,
                "created_in": info.version,
            }
            for info in _instances(version)
        ]
        arrays = [
            {
                "path": path,
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "chunks": list(array.chunks),
            }
            for path, array in sorted(_arrays(version), key=itemgetter(0))
        ]
        value = {**version_json(version), "instances": instances, "arrays": arrays}
        emit(value, _page(value), as_json=as_json)


def _instances(version: Version) -> Iterator[InstanceInfo]:
    seen_from_here = {ancestor.uuid for ancestor in _ancestry(version.repo, version.uuid)}
    for info in version.repo.state.instances.values():
        if not info.versioned or info.version in seen_from_here:
            yield info


def _arrays(version: Version) -> Iterator[tuple[str, zarr.Array[Any]]]:
    for path, member in version.zarr.members(max_depth=None):
        if isinstance(member, zarr.Array):
            yield path, member


def _page(value: dict[str, Any]) -> str:
    lines = [
        f"version  {value['uuid']} ({state_word(value['sealed'])})",
        f"branch   {value['branch']}",
        f"parents  {' '.join(value['parents']) or 'none: this is the root'}",
        f"created  {value['created']}",
        f"note     {value['note']}",
    ]
    lines += [f"instance {i['name']} [{i['type']}]" for i in value["instances"]]
    lines += [f"array    {a['path']} {a['dtype']} {'x'.join(map(str, a['shape']))}" for a in value["arrays"]]
    return "\n".join(line.rstrip() for line in lines)


def commit(url: RepoUrl, ref: Ref = "master", note: Note = "", user: User = "", as_json: AsJson = False) -> None:
    """Seal a version: from then on it never changes."""
    with _version(url, ref) as version:
        version.commit(note or None, user=user or default_user())
        _report(version, "committed", as_json=as_json)


def newversion(url: RepoUrl, ref: Ref = "master", note: Note = "", user: User = "", as_json: AsJson = False) -> None:
    """Open a new version on top of a sealed one, on the same branch."""
    with _version(url, ref) as version:
        _report(version.newversion(note, user=user or default_user()), "opened", as_json=as_json)


def branch(
    url: RepoUrl,
    name: Annotated[str, typer.Argument(help="Name of the new branch.", show_default=False)],
    ref: Ref = "master",
    note: Note = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Open a new version on top of a sealed one, on a branch of its own."""
    with _version(url, ref) as version:
        _report(version.branch(name, note, user=user or default_user()), "opened", as_json=as_json)


def tag(
    url: RepoUrl,
    name: Annotated[str, typer.Argument(help="Name of the tag.", show_default=False)],
    ref: Ref = "master",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Give a sealed version a name for ever."""
    with _version(url, ref) as version:
        _report(version.tag(name, user=user or default_user()), "tagged", as_json=as_json)


def merge(
    url: RepoUrl,
    refs: Annotated[list[str], typer.Argument(metavar="REF REF...", help="The versions to merge.", show_default=False)],
    strategy: Annotated[
        str, typer.Option(help="What to do about conflicts: fail, or take ours (named first) or theirs (named last).")
    ] = FAIL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the conflicts and write nothing.")] = False,
    note: Note = "",
    user: User = "",
    as_json: AsJson = False,
) -> None:
    """Merge sealed versions into a new one; conflicts that nobody decides are listed, and then nothing is written."""
    if strategy not in (FAIL, OURS, THEIRS):
        raise InvalidInputError(f"--strategy is {FAIL}, {OURS} or {THEIRS}, not {strategy!r}")
    with closing(vzarr.open(url)) as repo:
        versions = [repo[ref] for ref in refs]
        if not dry_run:
            try:
                merged = repo.merge(versions, strategy, note, user=user or default_user())
            except ConflictError as error:
                _list_conflicts(error.conflicts, as_json=as_json)
                raise ConflictError(f"{error}; --strategy ours or theirs decides", error.conflicts) from error
            _report(merged, "merged into", as_json=as_json)
            return
        conflicts = repo.merge_conflicts(versions)
        _list_conflicts(conflicts, as_json=as_json)
    if conflicts:
        raise typer.Exit(1)


def _list_conflicts(conflicts: Sequence[Any], *, as_json: bool) -> None:
    rows = [conflict_json(conflict) for conflict in conflicts]
    emit({"conflicts": rows}, "\n".join(map(str, conflicts)) or "no conflicts", as_json=as_json)


def _report(version: Version, done: str, *, as_json: bool) -> None:
    row = version_json(version)
    text = f"{done} {row['uuid']} on {row['branch']} ({state_word(row['sealed'])})"
    emit(row, text, as_json=as_json)
