"""Makes a golden repo: one small repo with everything that the format knows, and what must be read from it.

Run once per release that changes the format: ``python tests/golden-repos/make.py tests/golden-repos/FORMAT``.  Folders
that exist are never made again: they are what older releases wrote.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

import vzarr
from vzarr.types import registry


def volume(seed: int, shape: tuple[int, ...], high: int, dtype: str) -> np.ndarray[Any, Any]:
    """Reproducible blocks of constant value, so that the repo stays small."""
    coarse = np.random.default_rng(seed).integers(0, high, [n // 8 for n in shape])
    return np.kron(coarse, np.ones((8,) * len(shape), int)).astype(dtype)


def build(folder: Path) -> None:
    """A history with branches, a tag, a merge, deletions, renames, growth below 0, labels and keys."""
    repo = vzarr.create(str(folder), alias="golden", description="must open for ever", root="golden-root")
    root = repo.root
    root.zarr.create_array("image", data=volume(1, (32, 32, 32), 200, "u1"), chunks=(16, 16, 16))
    root.zarr.create_array("table/rows", data=np.arange(40, dtype="f8"), chunks=(7,))
    seg = registry.create(root, "seg", "labelmap", config={"BlockSize": "16,16,16", "MaxDownresLevel": "1"})
    seg.write((0, 0, 0), volume(2, (32, 32, 32), 9, "u8"))
    keys = registry.create(root, "notes", "keyvalue")
    keys.put("first", b"one")
    keys.put("second", b"")
    root.commit("everything begins", user="golden")
    child = root.newversion("edits")
    child["seg"].merge(1, [2, 3], user="golden")
    child["notes"].delete("first")
    child.zarr["image"][4:12, 4:12, 4:12] = 77
    child.delete_chunks("image", [(1, 1, 1)])
    child.rename("table/rows", "table/lines")
    child["seg"].write((-16, 0, 0), np.full((16, 16, 16), 5, "u8"))
    child.commit()
    child.tag("v1")
    side = root.branch("side", "another line")
    side.zarr["image"][0:16, 16:32, 0:16] = 3
    side["notes"].put("third", b"3")
    side.commit()
    merged = repo.merge([child, side], note="together")
    merged.commit()
    tip = merged.newversion("still open")
    tip["notes"].put("last", b"open")
    repo.close()


def contents(repo: vzarr.Repo) -> dict[str, Any]:
    """What every version says, as plain data."""
    names = {v.uuid: f"{v.branch_name}#{v.info.version_id}" for v in repo.versions()}
    found: dict[str, Any] = {}
    for version in repo.versions():
        arrays = {p: summary(version.zarr[p][...]) for p in sorted(version.view.entries) if version.has_array(p)}
        seg, notes = version["seg"], version["notes"]
        found[names[version.uuid]] = {
            "parents": [names[p.uuid] for p in version.parents],
            "sealed": version.sealed,
            "note": version.note.partition(" of version ")[0],
            "arrays": arrays,
            "bodies": [list(pair) for pair in seg.list_bodies()],
            "notes": {key: bytes(notes.get(key)).decode() for key in notes.list_keys()},
        }
    return found


def summary(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Shape, type and two sums that no mistake of order or value leaves as they are."""
    weights = np.arange(array.size) % 251 + 1
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sum": float(array.sum()),
        "weighted": float((array.ravel() * weights).sum()),
    }


def main(folder: Path) -> None:
    """Make the repo and write down its contents beside it."""
    if folder.exists():
        raise SystemExit(f"{folder} is what an older release wrote; choose another name")
    build(folder / "repo")
    with vzarr.open(str(folder / "repo")) as repo:
        (folder / "contents.json").write_text(json.dumps(contents(repo), indent=1) + "\n")
    shutil.make_archive(str(folder / "repo"), "zip", folder / "repo")
    shutil.rmtree(folder / "repo")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
