"""The instances of a repo: making, changing, renaming and deleting them; each verb is one entry of the log."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vzarr.overlay import opening, passcodes
from vzarr.overlay.history import plans
from vzarr.overlay.history.log import RepoLog, now
from vzarr.overlay.history.state import InstanceInfo, Op
from vzarr.overlay.keys.authority import Authority
from vzarr.overlay.objects.base import Objects

if TYPE_CHECKING:
    from vzarr.overlay.version import Version


class Instances:
    """The part of a repo that knows its instances, which belong to the repo and are seen from every version."""

    objects: Objects
    authority: Authority
    _log: RepoLog

    def record_instance(
        self, version: Version, name: str, typename: str, *, versioned: bool = True,
        config: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None,
        user: str = "", app: str = "",
    ) -> InstanceInfo:  # fmt: skip
        """Enter an instance in the log, unchecked and without arrays; `Version.create_instance` makes whole ones.

        It belongs to the repo, and so is seen from every version.

        Raises
        ------
        AlreadyExistsError
            If the name is taken.
        SealedError
            If the version from which it is made is sealed.
        """
        info = {
            "name": name,
            "typename": typename,
            "data_uuid": uuids.uuid4().hex,
            "version": version.uuid,
            "versioned": versioned,
            "config": dict(config or {}),
            "tags": None if tags is None else dict(tags),
            "syncs": [],
        }
        _entry, state = self._log.publish(plans.instance(version.uuid, info), user=user, app=app)
        return state.instances[name]

    def begin_instance(
        self, version: Version, original: InstanceInfo, to: str, *, user: str = "", app: str = ""
    ) -> InstanceInfo:
        """Enter an instance like another one in the log, which nobody sees before `finish_instance`."""
        data_uuid, maker = uuids.uuid4().hex, self.authority.presence.name
        plan = plans.unfinished_instance(version.uuid, original, to, data_uuid, maker, now())
        _entry, state = self._log.publish(plan, user=user, app=app)
        return state.deleted[data_uuid]

    def finish_instance(self, data_uuid: str, name: str, line: str, *, user: str = "", app: str = "") -> InstanceInfo:
        """Show an instance that is complete now, and say so in the repo's log."""
        _entry, state = self._log.publish(plans.finished_instance(data_uuid, name, line), user=user, app=app)
        return state.instances[name]

    def update_instance(
        self, name: str, *, config: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None,
        syncs: Sequence[str] | None = None, user: str = "", app: str = "",
    ) -> InstanceInfo:  # fmt: skip
        """Replace an instance's unversioned settings; those not given stay."""
        given: Op = {"config": config, "tags": tags, "syncs": None if syncs is None else list(syncs)}
        op = {"op": "instance_set", "name": name, **{k: v for k, v in given.items() if v is not None}}
        _entry, state = self._log.publish(plans.on_instance(name, op), user=user, app=app)
        return state.instances[name]

    def remove_instance(self, name: str, *, user: str = "", app: str = "") -> InstanceInfo:
        """Forget an instance of which nothing must remain, such as one whose ingestion failed; gives what it was."""
        info = plans.find_instance(self._log.refresh(), name)
        op = {"op": "instance_remove", "name": name}
        self._log.publish(plans.on_instance(name, op), user=user, app=app)
        return info

    def rename_instance(self, name: str, to: str, *, passcode: str = "", user: str = "", app: str = "") -> InstanceInfo:
        """Give an instance another name, in every version; syncs follow it, and the group of its arrays stays.

        Raises
        ------
        NotFoundError
            If there is no such instance.
        AlreadyExistsError
            If the new name is taken.
        ForbiddenError
            If the repo has another passcode.
        """
        self._check_passcode(passcode)
        _entry, state = self._log.publish(plans.rename_instance(name, to), user=user, app=app)
        return state.instances[to]

    def delete_instance(self, name: str, *, passcode: str = "", user: str = "", app: str = "") -> InstanceInfo:
        """Hide an instance in every version at once; `undelete_instance` brings it back until `garbage` collects it.

        Raises
        ------
        NotFoundError
            If there is no such instance.
        ForbiddenError
            If the repo has another passcode.
        """
        self._check_passcode(passcode)
        entry, state = self._log.publish(plans.delete_instance(name), user=user, app=app)
        return next(i for i in state.deleted.values() if (i.name, i.deleted) == (name, entry.time))

    def undelete_instance(
        self, name: str, to: str = "", *, passcode: str = "", user: str = "", app: str = ""
    ) -> InstanceInfo:
        """Show a deleted instance again.

        Parameters
        ----------
        name
            Its name, or its data id where several of one name were deleted.
        to
            Another name, where the old one was given away meanwhile.

        Raises
        ------
        NotFoundError
            If no such instance was deleted, or it was collected.
        AlreadyExistsError
            If the name is taken.
        ForbiddenError
            If the repo has another passcode.
        """
        self._check_passcode(passcode)
        data_uuid = plans.find_deleted(self._log.refresh(), name).data_uuid
        _entry, state = self._log.publish(plans.undelete_instance(data_uuid, to), user=user, app=app)
        return next(i for i in state.instances.values() if i.data_uuid == data_uuid)

    def _check_passcode(self, given: str) -> None:
        passcodes.check(opening.read_meta(self.objects), given)
