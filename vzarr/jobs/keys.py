"""A repo's keys moved to another store, as a job (DVID: ``dvid repo UUID migrate`` moves instances between stores)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vzarr.errors import InvalidInputError
from vzarr.jobs.arguments import Arguments
from vzarr.jobs.records import Records
from vzarr.jobs.runner import Order, Telling
from vzarr.overlay import opening
from vzarr.overlay.care.migratekeys import migrate
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.repo import Repo


def migrate_keys(repo: Repo, given: Mapping[str, Any]) -> Order:
    """Move a repo's keys to another store; nobody can write meanwhile.

    Parameters
    ----------
    given
        ``keys``, the URL of the new place, or ``embedded`` for the repo itself; ``drop``, whether the old keys are
        removed at once.

    Raises
    ------
    InvalidInputError
        If that cannot be done.
    """
    arguments = Arguments(given, ("keys", "drop"))
    keys, drop = opening.check_keys(repo.objects, arguments.text("keys")), arguments.flag("drop")
    if keys == opening.keys_named(opening.read_meta(repo.objects))[0]:
        raise InvalidInputError(f"the keys are there already: {keys}")

    def work(told: Telling) -> dict[str, Any]:
        others = [job.id for job in told.records.all() if job.active and job.id != told.number]
        if others:
            raise InvalidInputError(f"other jobs of this repo run: wait for {', '.join(others)}")

        def switched(new: Authority) -> None:
            # From here on it is this row that counts, and the process goes by another name among the new keys.
            told.records = Records(new.kv, new.presence)
            told.records.update(told.number, process=new.presence.name)

        done = migrate(repo.objects, keys, drop=drop, progress=told, switched=switched)
        told.records = Records.of(told.keep(Repo.open(repo.url)))
        return asdict(done)

    return Order("migrate-keys", arguments.shown(), work, "batches of keys")
