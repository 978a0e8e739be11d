"""The verb that moves a repo's keys to another store."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vzarr.cli.arguments import AsJson, RepoUrl, examples
from vzarr.cli.output import bar, emit
from vzarr.overlay.care.migratekeys import migrate
from vzarr.overlay.opening import open_objects


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the program."""
    shown = examples(
        "vzarr migrate-keys /data/fly postgresql://db.lab/keys", "vzarr migrate-keys /data/fly embedded --drop"
    )
    app.command("migrate-keys", epilog=shown)(migrate_keys)


def migrate_keys(
    url: RepoUrl,
    keys: Annotated[
        str,
        typer.Argument(
            metavar="KEYS", help="sqlite:///PATH, postgresql://…, or embedded: in the repo.", show_default=False
        ),
    ],
    drop: Annotated[bool, typer.Option("--drop", help="Remove the old keys at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move a repo's keys to another store; reading goes on meanwhile, and writing is refused."""
    with bar("batches of keys") as told:
        done = migrate(open_objects(url), keys, drop=drop, progress=told)
    text = f"{done.rows} rows moved to {done.url}"
    left = "" if drop else f"; the old keys are still at {done.left}, and count no more"
    emit(asdict(done), text + left, as_json=as_json)
