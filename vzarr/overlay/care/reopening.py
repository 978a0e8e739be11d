"""Open versions made again from what a mirror holds of them: their objects, their metadata rows, their keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vzarr.errors import FormatError
from vzarr.overlay import layout
from vzarr.overlay.history.dag import Position
from vzarr.overlay.history.state import State
from vzarr.overlay.keys.unversioned import POSITION
from vzarr.overlay.kv.base import Transaction
from vzarr.overlay.kv.sidecar import Sidecar
from vzarr.overlay.kv.versioned import InstanceTxn
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.objects.sharing import share
from vzarr.overlay.transfer import moment
from vzarr.overlay.transfer.moment import Held, Moment
from vzarr.overlay.transfer.taking import own_objects


@dataclass(frozen=True)
class Reopening:
    """What a mirror holds of versions that its log still calls open.

    Parameters
    ----------
    objects
        The mirror.
    state
        What its log says.
    moment
        What it holds.
    nodes
        Versions that come back; ``unversioned`` among them.
    held
        Its objects, by name.
    """

    objects: Objects
    state: State
    moment: Moment
    nodes: tuple[str, ...]
    held: dict[str, Held]

    @classmethod
    def of(cls, objects: Objects, state: State) -> Reopening | None:
        """What can come back; None if nothing is held, or somebody went on with the versions since."""
        found = moment.read(objects)
        if found is None:
            return None
        opened = [n for n in found.nodes if n == layout.UNVERSIONED or (n in state.nodes and not state.nodes[n].sealed)]
        made = cls(objects, state, found, tuple(opened), moment.listed(objects, found))
        return made if made._is_untouched() else None

    def _is_untouched(self) -> bool:
        """Whether nothing lies in the versions' folders but what was put there from here."""
        for node in self.nodes:
            for key, size, _stamp in own_objects(self.objects, node):
                held = self.held.get(key)
                if held is None or held.size != size or self.objects.get(key) != moment.load(self.objects, held.digest):
                    return False
        return True

    def place(self) -> None:
        """Put the versions' objects where they belong; may be done again.

        Raises
        ------
        StorageError, FormatError
            If one is missing or damaged.
        """
        folders = tuple(f"{layout.node(node)}/" for node in self.nodes)
        wanted = [(key, held) for key, held in self.held.items() if key.startswith(folders)]

        def put(item: tuple[str, Held]) -> None:
            key, held = item
            if self.objects.size(key) != held.size:  # what is there was compared
                self.objects.put(key, moment.load(self.objects, held.digest))

        share(put, wanted, max(4, self.objects.concurrency))

    def restore(self, txn: Transaction) -> None:
        """Write the versions' rows and keys."""
        names = {name.rpartition("/")[0] for name in self.held if name.endswith("/zarr.json")}
        for node in self.nodes:
            for key, value in self._sidecar(f"{moment.ROWS}/{node}"):
                txn.put(layout.node_rows(node) + key, value or b"")
            for name in names:
                kind, _, rest = name.partition("/")
                of, _, instance = rest.rpartition("/")
                if kind == moment.KEYS and of == node and layout.HEX_ID.fullmatch(instance):
                    keys = InstanceTxn(txn, bytes.fromhex(instance), self._position(node), lambda a, b: a == b)
                    for key, value in self._sidecar(name):
                        keys.restore(key, value)

    def _position(self, node: str) -> Position:
        return POSITION if node == layout.UNVERSIONED else self.state.position(node)

    def _sidecar(self, name: str) -> Iterator[tuple[bytes, bytes | None]]:
        def get(part: str) -> bytes | None:
            held = self.held.get(f"{name}/{part}")
            return None if held is None else moment.load(self.objects, held.digest)

        try:
            yield from Sidecar(get)
        except FormatError as e:
            raise FormatError(f"what the mirror holds as {name} is damaged: {e}") from e

    def forget(self) -> None:
        """Remove what was held, once the keys are there: versions go on from here."""
        self.objects.delete(layout.moment())
        self.objects.delete_tree(layout.moment().rpartition("/")[0])
