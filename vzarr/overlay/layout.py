"""Every path and key name on disk, in one file (see docs/format.md).

Object keys are relative to the repo.  Row keys are those of the key authority.
"""

from __future__ import annotations

import hashlib
import re

FORMAT = 1
REPO = "vzarr.json"
LATEST = "log/latest"
KEYS = "keys"
"""Folder of a repo's own keys; locked by who changes what ``vzarr.json`` says of keys and of who gives which labels."""
CHECKPOINT_EVERY = 128
HINT_EVERY = 4
MARKER = hashlib.sha256(b"vzarr deletion marker").digest()
"""What stands at a chunk's key when the chunk was deleted: 32 fixed bytes."""

STRIPES = 1 << 13
"""How many clones of a repo there may be; each gives labels of 2^40 of its own."""
STRIPE_LABELS = 1 << 40
STRIPE_HOLDERS = "stripes"
"""Folder of what is known of who has which of these ranges."""
UNVERSIONED = "unversioned"
"""In place of a version's id: what belongs to no version.  No root and no tag is called so."""
PENDING = b"L"
"""Prefix of the rows of `row_pending`; alone, the row that says which rows the keys are made of."""
ARRIVED, UNFOLDED = b"", b"fold"
"""What `row_pending` says: a version's keys are in its folder alone, or are in the store and not folded."""

HEX_ID = re.compile(r"[0-9a-f]{32}")
NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SNAPSHOT = re.compile(r"[0-9a-f]{32}~[0-9a-f]{16}")
"""Name of a snapshot of an instance's keys outside of versions."""


def stripe_holder(number: int) -> str:
    """Key of the id of the clone that has range `number`."""
    return f"{STRIPE_HOLDERS}/{number}"


def log_entry(number: int) -> str:
    """Key of log entry `number`."""
    return f"log/{number:020d}.json"


def checkpoint(number: int) -> str:
    """Key of the checkpoint that includes entry `number`."""
    return f"log/checkpoint-{number:020d}.table"


def checkpoint_json(number: int) -> str:
    """Key of the same as earlier releases wrote it."""
    return f"log/checkpoint-{number:020d}.json"


def node(uuid: str) -> str:
    """Folder of a node."""
    return f"nodes/{uuid}"


def zarr(uuid: str) -> str:
    """Folder of a node's Zarr hierarchy."""
    return f"nodes/{uuid}/zarr"


def seal(uuid: str) -> str:
    """Key of a node's seal."""
    return f"nodes/{uuid}/seal.json"


def base(uuid: str) -> str:
    """Key of what a merge made for a node to build on; like a seal, but without checksums of objects."""
    return f"nodes/{uuid}/base.json"


def of_base(uuid: str) -> str:
    """In place of a node's id for the tree and the owner table of its `base`: its commit writes others."""
    return f"{uuid}/base"


def decided(uuid: str) -> str:
    """Key of what was decided about conflicts of keys and of datatypes when a node was made by a merge."""
    return f"nodes/{uuid}/decided.json"


def tree(uuid: str) -> str:
    """Key of the metadata tree that a node wrote."""
    return f"nodes/{uuid}/tree.json"


def owner_table(uuid: str) -> str:
    """Key of the owner table that a node wrote: per array its directory blocks."""
    return f"nodes/{uuid}/owners/table.json"


def owner_pages(uuid: str) -> str:
    """Key of a node's packed owner pages and directory blocks."""
    return f"nodes/{uuid}/owners/pages"


def masks(uuid: str) -> str:
    """Key of which whole parts of arrays a node deleted at once."""
    return f"nodes/{uuid}/owners/masks.json"


def sums(uuid: str) -> str:
    """Key of the checksums of the objects that a node stored."""
    return f"nodes/{uuid}/sums/sha256"


def left_out(uuid: str) -> str:
    """Key of which objects of a node a partial clone does not have."""
    return f"nodes/{uuid}/left-out"


def pins(uuid: str, digest: str) -> str:
    """Key of what the objects of an adopted source were, by the hash of its bytes."""
    return f"nodes/{uuid}/pins/{digest}"


def loose(uuid: str, key: str) -> str:
    """Key of a loose object: one that is no chunk and no metadata of a known array."""
    return f"nodes/{uuid}/loose/{hashlib.sha256(key.encode()).hexdigest()}"


def keys(uuid: str, instance: str) -> str:
    """Folder of an instance's sealed key changes."""
    return f"nodes/{uuid}/keys/{instance}"


def key_layers(uuid: str) -> str:
    """Which sidecars the keys of a sealed version consist of."""
    return f"nodes/{uuid}/keys/layers.json"


def unversioned() -> str:
    """Which snapshots of keys outside of versions count."""
    return f"nodes/{UNVERSIONED}/keys/latest.json"


def snapshot_sums(name: str) -> str:
    """Key of the checksums of a snapshot's objects."""
    return f"nodes/{UNVERSIONED}/sums/{name}"


def arrived(digest: str) -> str:
    """Key of an object that waits to be taken in, by its hash: a part of another repo's keys outside of versions."""
    return f"nodes/{UNVERSIONED}/arrived/{digest}"


def stages(uuid: str) -> str:
    """Folder of what `stage` and `aside` name; removed before a commit lists the node."""
    return f"nodes/{uuid}/journal"


def moment() -> str:
    """Key of what a mirror has of open versions: which they are, and when they were so."""
    return "open/latest.json"


def moment_object(digest: str) -> str:
    """Key of an object that belongs to what a mirror has of open versions, by its hash."""
    return f"open/objects/{digest}"


def stage(uuid: str, lease: str) -> str:
    """Folder for a writer's unfinished files."""
    return f"nodes/{uuid}/journal/{lease}"


def aside(uuid: str, name: str) -> str:
    """Folder for chunks that wait to be put in place together."""
    return f"nodes/{uuid}/journal/aside-{name}"


def is_aside(name: str) -> bool:
    """Whether a folder of a journal is one that `aside` named."""
    return name.startswith("aside-")


def database() -> str:
    """Key of the embedded key authority."""
    return "keys/keys.sqlite"


def publishing() -> str:
    """Folder that is locked by who publishes to a message broker."""
    return "keys/publishing"


def process(name: str) -> str:
    """Key of the file that a running process holds locked."""
    return f"keys/processes/{name}"


def row_pending(uuid: str) -> bytes:
    """Row of a version of which something is to be done once it is sealed (see `keys.upkeep`)."""
    return PENDING + uuid.encode()


HANDOVER = b"H"
"""Row that says where the keys go, or went."""


def row_job(number: str) -> bytes:
    """Row of a job about the repo."""
    return b"J" + number.encode()


def row_changed(instance: bytes) -> bytes:
    """Row that is there if an instance's keys outside of versions are not as their last snapshot has them."""
    return b"U" + instance


def row_published(topic: str) -> bytes:
    """Row of how far a topic of a message broker was published."""
    return b"K" + topic.encode()


# Rows of the key authority that belong to open nodes.  ``N`` keeps them apart from the versioned keys.


def node_rows(uuid: str) -> bytes:
    """Prefix of every row of an open node."""
    return b"N" + uuid.encode() + b"\0"


def row_state(uuid: str) -> bytes:
    """Row of a node's state and metadata counter."""
    return node_rows(uuid) + b"s"


def row_lease(uuid: str, lease: str) -> bytes:
    """Row of one writer's lease."""
    return node_rows(uuid) + b"w" + lease.encode()


def row_pause(uuid: str) -> bytes:
    """Row that is there while somebody asks the writers of an open node to wait."""
    return node_rows(uuid) + b"p"


def row_tree(uuid: str, path: str) -> bytes:
    """Row of one entry of an open node's metadata tree."""
    return node_rows(uuid) + b"t" + path.encode()


def row_moving(uuid: str, name: str) -> bytes:
    """Row of what is moved to another path, or removed, in an open root."""
    return node_rows(uuid) + b"r" + name.encode()


def row_loose(uuid: str, key: str) -> bytes:
    """Row of one loose key of an open node."""
    return node_rows(uuid) + b"l" + key.encode()


def row_decided(uuid: str) -> bytes:
    """Row that says that what `decided` holds has been written into the keys."""
    return node_rows(uuid) + b"d"


def row_mask(uuid: str, array: str, prefix: str) -> bytes:
    """Row of one box of deleted chunks of an open node."""
    return node_rows(uuid) + b"m" + array.encode() + b"\0" + prefix.encode()


def after(prefix: bytes) -> bytes:
    """First key after all keys that start with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
