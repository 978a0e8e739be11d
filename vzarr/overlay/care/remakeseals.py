"""A lost seal, list of checksums or list of key layers, worked out from the folder and the parents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from vzarr.overlay import layout
from vzarr.overlay.kv.sealed import Layer, Stack, folds
from vzarr.overlay.kv.sidecar import Sidecar
from vzarr.overlay.objects.base import Objects
from vzarr.overlay.sealing import seal

Sums = Mapping[str, str]
"""SHA-256 of each object that a version stored, by key."""
MUTATIONS = 1 << 16
"""So many mutation ids are tried on either side of those that are known."""


def list_sums(objects: Objects, node: str) -> bytes:
    """The list of checksums of all that is in a version's folder now."""
    folder, beside = layout.node(node), {layout.seal(node), layout.left_out(node)}
    apart = tuple(f"{folder}/{name}/" for name in ("sums", "journal"))
    keys = [key for key, _size in objects.walk(folder) if key not in beside and not key.startswith(apart)]
    return seal.sum_lines(node, sorted(keys), seal.digests(objects, sorted(keys)))


def find_record(
    objects: Objects, node: str, sums: bytes, digest: str, bases: Sequence[seal.Record], parents: tuple[str, ...],
    near: Sequence[seal.Record],
) -> bytes | None:  # fmt: skip
    """The bytes of a version's seal, or None where nothing tells them.

    Parameters
    ----------
    sums
        The version's list of checksums.
    digest
        SHA-256 of the seal, as the log has it.
    bases
        Records that it may have built on: of a merge its base, else its parent's; none of a root.
    parents
        Ids of the parents.
    near
        Records of versions before and after it, which bound the mutation id that it states.
    """
    own = {key: hashed for key, _size, hashed in seal.read_sums(sums)}
    names = {n.split("/")[1] for n in own if n.startswith("keys/") and n.count("/") == 2 and "~" not in n}
    keys = {name: _count(objects, node, name) for name in names}
    lacking = seal.Record((), ("", ""), ("", ""))
    for base in bases or [lacking]:
        tree = (node, own["tree.json"]) if "tree.json" in own else base.tree
        table = (node, own["owners/table.json"]) if "owners/table.json" in own else base.table
        layers = (node, own["keys/layers.json"]) if "keys/layers.json" in own else base.layers
        pages = base.pages if base.table[0] in (node, layout.of_base(node)) else 0
        for mutations in _mutations(near):
            data = seal.Record(parents, tree, table, seal.sha256(sums), keys, pages, layers, mutations).to_bytes()
            if seal.sha256(data) == digest:
                return data
    return None


def _count(objects: Objects, node: str, name: str) -> int:
    return sum(1 for _ in Sidecar(lambda part: objects.get(f"{layout.keys(node, name)}/{part}")))


def _mutations(near: Sequence[seal.Record]) -> Iterator[int]:
    known = dict.fromkeys([*(r.mutations for r in near), 0])
    yield from known
    around = chain.from_iterable((k + step, k - step) for step in range(1, MUTATIONS) for k in known)
    yield from (number for number in around if number > 0)


def layers_of(objects: Objects, node: str, keys: Mapping[str, int], below: Mapping[str, Stack]) -> dict[str, Stack]:
    """What a version without conflicts of keys says of its layers, by those of its parent and its own sidecars."""
    stacks = dict(below)
    joined = {n.removesuffix("~joined") for n in objects.list_dir(f"{layout.node(node)}/keys")[0] if "~joined" in n}
    for instance in sorted({*keys, *joined}):
        name = f"{instance}~joined" if instance in joined else instance
        top = Layer(node, name, _count(objects, node, name) if instance in joined else keys[instance])
        old = stacks.get(instance, Stack())
        layers = (top, *old.layers)
        if (taken := folds([layer.size for layer in layers])) > 1:
            name = f"{instance}~folded"
            layers = (Layer(node, name, _count(objects, node, name)), *layers[taken:])
        stacks[instance] = Stack(layers, old.conflicts)
    return stacks
