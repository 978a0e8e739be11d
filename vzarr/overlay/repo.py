"""A repo: one version DAG and its instances; the thin stateful shell over log, objects, key authority and views."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from vzarr.errors import FormatError
from vzarr.overlay import datatypes, joining, layout, opening
from vzarr.overlay.care import collect, gc, rebuildkeys
from vzarr.overlay.compare.diff import Diff, diff_views
from vzarr.overlay.hierarchy import arrays
from vzarr.overlay.history import plans, refs
from vzarr.overlay.history.log import RepoLog
from vzarr.overlay.history.state import MASTER, Entry, Op, State
from vzarr.overlay.instances import Instances
from vzarr.overlay.keys.repokeys import RepoKeys
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal
from vzarr.overlay.threeway.disputes import FAIL, OURS, Judge, Strategy
from vzarr.overlay.transfer import remotes
from vzarr.overlay.version import Outside, Version
from vzarr.overlay.views import outside
from vzarr.overlay.views.base import Storage, View
from vzarr.overlay.views.commit import seal_version
from vzarr.overlay.views.shelf import Shelf


class Repo(Instances):
    """One repo, open.

    Use `vzarr.create` and `vzarr.open`.

    Parameters
    ----------
    objects
        Where the repo lives.
    """

    def __init__(self, objects: Objects) -> None:
        meta = opening.read_meta(objects)
        self._stripe = int(meta.get("stripe", 0))
        self.first_stripe = int(next(iter(meta.get("earlier", [])), self._stripe))
        """What `stripe` was at first: none of the repo's mutation ids is of a lower one."""
        self.authority, objects = opening.reach_authority(objects, meta)
        self.objects, self.url = objects, objects.url
        self._log = RepoLog(objects)
        state = self._log.open()
        if not state.nodes:
            self.authority.close()
            raise FormatError(f"{objects.url} was never finished; create it again")
        self._storage = Storage.of(objects, state.root)
        self._shelf = Shelf(self._storage, self.authority, self._log)
        # No part knows the repo: a handle that is dropped is gone at once, and not when cycles are looked for.
        self.keys = RepoKeys(objects, self.authority, self._log.refresh, self._shelf.record)
        self._merges = joining.Merges(self.keys, self.authority, self._shelf, self._log.refresh)

    @classmethod
    def create(
        cls, url: str, *, alias: str = "", description: str = "", root: str | None = None, keys: str | None = None,
        passcode: str = "", durability: str = opening.PROCESS, user: str = "", app: str = "",
    ) -> Repo:  # fmt: skip
        """Make a repo with an open, empty root version.

        Parameters
        ----------
        url
            A local path, or a ``file://``, ``memory://`` or object store's URL, such as ``s3://bucket/folder``.
        alias, description
            For people.
        root
            Id of the root version; random by default.
        keys
            URL of the key authority, ``sqlite:///PATH``; by default in the repo, which an object store cannot do.
        passcode
            What must be known to rename or delete its instances; "" for nothing.
        durability
            What is acknowledged outlasts ``"process"`` the end of any process, ``"fsync"`` power loss too, at the price
            of waiting for the disk with each change.

        Raises
        ------
        AlreadyExistsError
            If there is a repo already; of several racing callers one succeeds.
        InvalidInputError, AuthorityUnavailableError
            If `keys` is missing or unfit, or cannot be reached; or if there is no such durability.
        """
        objects = opening.open_objects(url)
        opening.create(objects, alias, description, root, user, app, keys, passcode, durability)
        return cls(objects)

    @classmethod
    def open(cls, url: str) -> Repo:
        """Open a repo.

        Raises
        ------
        NotFoundError
            If there is none.
        FormatError
            If it is damaged, or made by a newer release.
        """
        return cls(opening.open_objects(url))

    def close(self) -> None:
        """Give up leases and let go of the key authority."""
        self.authority.close()

    def __enter__(self) -> Repo:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- looking

    @property
    def state(self) -> State:
        """All that the log says now."""
        return self._log.refresh()

    @property
    def known(self) -> State:
        """All that the log said when it was asked last."""
        return self._log.known

    @property
    def moved(self) -> bool:
        """Whether the keys that this handle has open have moved elsewhere, as far as it knows; open the repo again."""
        return self.authority.number in self.known.moved

    @property
    def stripe(self) -> int:
        """Which of the repo's clones this is, 0 for the first; each gives labels of its own range.

        It is looked up each time, for a clone takes another number where one that it meets has the same.
        """
        return self._stripe and int(opening.read_meta(self.objects)["stripe"])

    @property
    def uuid(self) -> str:
        """Id of the root version, which names the repo."""
        return self._storage.root

    @property
    def root(self) -> Version:
        """The root version."""
        return Version(self, self.uuid)

    @property
    def outside(self) -> Outside:
        """What belongs to no version: where unversioned instances are."""
        return Outside(self, self.uuid)

    def __getitem__(self, ref: str) -> Version:
        """The version that a branch, tag, id, unique prefix or ``prefix:branch~2`` names.

        Raises
        ------
        AuthorityUnavailableError
            If it is open and the repo's keys cannot be reached from here.
        """
        state = self.state
        node = refs.resolve(state, ref)
        opening.check_reachable(self.authority, state, ref, node)
        return Version(self, node)

    def resolve(self, ref: str) -> str:
        """Id of the version that `ref` names (see `refs`)."""
        return refs.resolve(self.state, ref)

    def versions(self) -> list[Version]:
        """Every version, oldest first."""
        return [Version(self, n) for n in self.state.nodes]

    def branches(self) -> list[str]:
        """Names of all branches."""
        return self.state.branches()

    def branch_versions(self, branch: str) -> list[str]:
        """Ids from a branch's leaf to the root; empty for an unknown branch."""
        return self.state.branch_versions(branch)

    def log(self) -> list[Entry]:
        """Every entry of the repo log, oldest first."""
        return list(self._log.entries())

    def entries(self, start: int) -> Iterator[Entry]:
        """Entries of the repo log from a number on, read one after the other."""
        return self._log.entries(start)

    def view(self, node: str) -> View:
        """What a version looks like now (for the overlay's own use)."""
        return self._shelf.view(node)

    def diff(self, a: Version | str, b: Version | str) -> Diff:
        """What differs between two versions (or refs); an open one counts with what it holds now."""
        first, second = (v.uuid if isinstance(v, Version) else self.resolve(v) for v in (a, b))
        return diff_views(self.view(first), self.view(second), self.keys.written(first, second))

    # -- changing history

    def commit(
        self, node: str, note: str | None = None, *, user: str = "", app: str = "", log: Sequence[str] = (),
        later: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:  # fmt: skip
        """Seal a version (see `Version.commit`); `later` takes what nobody needs who does not look at a child."""
        plans.check_open(self.state, node)
        self.authority.writer(node).finish()  # or who commits now would wait until this lease is seen to be idle
        # A second committer must not touch the folder after the first has sealed it, so it waits and then looks again.
        with self.authority.locks.alone(layout.node(node)) as hold:
            state = self.state
            info = plans.check_open(state, node)
            if not self.authority.is_closing(node):  # by a committer that was cut off: only `last_write` writes then
                self._settle(node)
            self.authority.begin_close(node)
            # Again, for a writer that ended between the two; before, so that what cannot be settled closes nothing.
            with self.authority.writer(node).last_write():
                self._settle(node)
            view, base = self._shelf.fresh(node), self._shelf.base(node)
            data = seal_version(view, base, info.parents, self.keys.sealing(info), hold)
            if any(not info.versioned for info in state.instances.values()):
                outside.keep(self.objects, self.authority)
            self._log.publish(plans.seal(node, seal.sha256(data), note, log), user=user, app=app)
            is_left = self.keys.close(node, fold=later is None)
        self._shelf.forget(node)
        if later is not None and is_left:
            later(partial(self.keys.catch_up, node))

    def _settle(self, node: str) -> None:
        self.keys.finish(node)
        datatypes.known().settle(Version(self, node))

    def add_node(
        self, parents: Sequence[str], branch: str | None, note: str = "", *, uuid: str | None = None,
        user: str = "", app: str = "",
    ) -> Version:  # fmt: skip
        """Make a child of one sealed version: on its own branch (`branch` None), or the first of a new one."""
        child = refs.check_uuid(uuid) if uuid else uuids.uuid4().hex
        if branch is not None:
            refs.check_branch(branch)

        self._log.publish(plans.child(child, parents, branch, note), user=user, app=app)
        return Version(self, child)

    def add_tag(self, node: str, tag: str, *, user: str = "", app: str = "") -> Version:
        """Make a sealed, empty child whose id is the tag (see `Version.tag`)."""
        refs.check_node_id(tag)
        plans.check_tag(self.state, node, tag)
        parent = self._shelf.record(node)
        # The seal stands at a name that others may want too: who writes it must be the one who publishes it.
        with self.authority.locks.alone(layout.node(tag)):
            plans.check_free(self.state, tag)
            sums = seal.write_sums(self.objects, tag)
            data = seal.Record((node,), parent.tree, parent.table, sums, layers=parent.layers).to_bytes()
            self.objects.put(layout.seal(tag), data)
            self._log.publish(plans.tag(tag, node, seal.sha256(data)), user=user, app=app)
        return Version(self, tag)

    def merge(
        self, versions: Sequence[Version | str], strategy: Strategy = FAIL, note: str = "", *,
        keep_conflicts: bool | Callable[[Any], bool] = False, user: str = "", app: str = "",
    ) -> Version:  # fmt: skip
        """Make an open version on the default branch that joins several sealed ones.

        Parameters
        ----------
        versions, note
            Two or more, as versions or refs; note of the new version.
        strategy
            What happens to conflicts: ``"fail"`` refuses to merge; ``"ours"`` and ``"theirs"`` take the version
            named first or last of those that disagree; a function is asked about each (see `disputes.Resolver`).
        keep_conflicts
            Whether (or which of) undecided conflicts are recorded: they raise when read, until they are written.

        Raises
        ------
        ConflictError
            If nobody decides about a conflict; its ``conflicts`` lists each path with its voxel box, each key, and
            what the datatypes name, such as bodies.  Nothing is written then.
        """
        prepared = self._merging(versions, judge := Judge(strategy, keep_conflicts))
        self._merges.write(prepared, judge)
        self._log.publish(plans.child(prepared.child, prepared.parents, MASTER, note), user=user, app=app)
        self.keys.finish(prepared.child)
        merged = Version(self, prepared.child)
        datatypes.known().join(merged)
        return merged

    def carry(self, op: Op) -> Version:
        """Make an open version as another repo knows it; of several parents the first is right in every conflict.

        Parameters
        ----------
        op
            An operation ``node`` of the log; its parents are sealed here.
        """
        node, parents = op["id"], op["parents"]
        if len(parents) > 1:
            prepared = self._merges.prepare(parents, judge := Judge(OURS), lambda n: Version(self, n), node)
            self._merges.write(prepared, judge)
        self._log.publish(plans.carried(op))
        made = Version(self, node)
        if len(parents) > 1:
            self.keys.finish(node)
            datatypes.known().join(made)
        return made

    def merge_conflicts(self, versions: Sequence[Version | str]) -> list[Any]:
        """What stands against merging some versions, as `merge` would raise it; writes nothing."""
        self._merging(versions, judge := Judge())
        return list(judge.open)

    def _merging(self, versions: Sequence[Version | str], judge: Judge) -> joining.Merge:
        parents = [v.uuid if isinstance(v, Version) else self.resolve(v) for v in versions]
        return self._merges.prepare(parents, judge, lambda node: Version(self, node))

    def annotate(self, node: str, op: Op, *, user: str = "", app: str = "") -> None:
        """Publish one operation on an open version."""
        self._log.publish(plans.on_open(node, op), user=user, app=app)

    def set_info(
        self, alias: str | None = None, description: str | None = None, *, user: str = "", app: str = ""
    ) -> None:
        """Replace the repo's alias, its description, or both."""
        given = {"alias": alias, "description": description}
        op = {"op": "info", **{k: v for k, v in given.items() if v is not None}}
        self._log.publish(lambda _state: (op,), user=user, app=app)

    def add_log(self, lines: Sequence[str], *, user: str = "", app: str = "") -> None:
        """Append lines to the repo's own log."""
        self._log.publish(lambda _state: ({"op": "repo_log", "lines": list(lines)},), user=user, app=app)

    push = remotes.push
    pull = remotes.pull
    fetch = remotes.fetch
    rebuild_keys = rebuildkeys.rebuild_keys

    def garbage(self, grace: float = gc.GRACE_SECONDS, *, delete: bool = False) -> list[gc.Garbage]:
        """What interrupted writes left behind, and what deleted instances keep outside of sealed versions.

        Parameters
        ----------
        grace
            Seconds for which nothing may have happened to it (see `gc.find`).
        delete
            Remove it: the instances cannot be undeleted then.

        Raises
        ------
        NotFoundError
            If an instance is undeleted meanwhile: it stays.
        """
        state = self.state
        found, gone = gc.find(self.objects, self.authority, state, grace), []
        if state.deleted:
            gone = collect.find(self.authority, state, self.view, grace)
        if delete:
            gc.remove(self.objects, self.authority, found)
            for each in gone:
                self.collect_instance(each.place)
        return [*found, *gone]

    def collect_instance(self, data_uuid: str) -> None:
        """Remove what a deleted instance keeps outside of sealed versions, so that it cannot come back."""
        _entry, state = self._log.publish(plans.collect_instance(data_uuid))
        collect.remove(state.deleted[data_uuid], self.authority, state, self.view)

    # -- instances (more of them in `instances`)

    def adopt(self, name: str, url: str, *, pin: bool | str = False, typename: str | None = None, **who: str) -> Any:
        """Make an existing volume an instance of the open root, in place (see `vzarr.types.adoption.adopt`)."""
        return datatypes.known().adopt(self.root, name, url, pin=pin, typename=typename, **who)

    # -- parts

    @staticmethod
    def reopen_version(url: str, node: str) -> Version:
        """Version of a repo by URL, for pickles."""
        return Version(Repo.open(url), node)

    @staticmethod
    def reopen_outside(url: str) -> Outside:
        """What belongs to no version of a repo by URL, for pickles."""
        return Repo.open(url).outside

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Repo) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        state = self.state
        return f"<vzarr.Repo {state.alias or self.uuid} at {self.url}: {len(state.nodes)} versions>"

    def _repr_html_(self) -> str:
        return arrays.repo_html(self.state)
