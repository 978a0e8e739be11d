"""Writes into a repo on a file system of a few megabytes until it is full; run by `test_full_disk`.

``python full_disk.py FOLDER``: prints, as JSON lines, each chunk once it is acknowledged, then what failed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import vzarr
from vzarr.errors import StorageError

CHUNK = (16, 16, 16)


def block(number: int) -> np.ndarray:
    """Noise, which does not compress."""
    return np.random.default_rng(number).integers(0, 256, CHUNK, "u1")


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def fill(version: vzarr.Version, start: int) -> int:
    """Write chunks until one fails; number of the first that was not acknowledged."""
    number = start
    while True:
        try:
            version.write_chunks("a", {(number, 0, 0): block(number)})
        except StorageError as e:
            say(failed="write", errno=e.errno, message=str(e))
            return number
        say(chunk=number)
        number += 1


def main(folder: Path) -> None:
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(300_000))
    with vzarr.create(str(folder / "repo")) as repo:
        root = repo.root
        root.create_array("a", dtype="u1", chunks=CHUNK)
        root.write_chunks("a", {(-1, 0, 0): block(0)})
        child = root.commit().newversion()
        count = fill(child, 0)
        try:
            child.commit()
        except StorageError as e:
            say(failed="commit", errno=e.errno, message=str(e))
        ballast.unlink()
        child.commit()
        say(committed=child.uuid, chunks=count)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
