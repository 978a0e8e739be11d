"""The readers that docs/format.md shows, with zarr and numpy and nothing else, find in folders what the handle says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vzarr
from vzarr.types import registry
from vzarr.types.labelmap import pages
from vzarr.types.labelmap.handle import LabelMap

from .conftest import blobs

DOCS = Path(__file__).parents[3] / "docs" / "format.md"


@pytest.fixture(scope="module")
def reader() -> dict[str, Callable[..., object]]:
    code = "\n".join(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL))
    assert "vzarr" not in code
    found: dict[str, Callable[..., object]] = {}
    exec(compile(code, str(DOCS), "exec"), found)
    return found


@pytest.fixture
def seg(tmp_path: Path) -> LabelMap:
    with vzarr.create(str(tmp_path / "repo")) as repo:
        handle = registry.create(repo.root, "seg", "labelmap", config={"BlockSize": "16,16,16"})
        assert isinstance(handle, LabelMap)
        handle.write((-16, 0, 16), blobs(4, (2, 2, 3), 30))
        yield handle


def _next(seg: LabelMap) -> LabelMap:
    return seg.at(seg.version.commit().newversion())


def _check(reader: dict[str, Callable[..., object]], seg: LabelMap) -> None:
    where = seg.version.repo.url.removeprefix("file://"), seg.version.uuid, seg.info.data_uuid
    for label, size in list(seg.list_bodies())[::7]:
        found = reader["blocks"](*where, label)
        known = seg.find(label)
        assert sorted(found) == known.supervoxels.tolist()
        assert sum(int(voxels.sum()) for _, voxels in found.values()) == size
        coords = np.unique(np.concatenate([coords for coords, _ in found.values()]), axis=0)
        assert coords.tolist() == seg.body(label).blocks.tolist()
    ids = np.array([1, 2, 3, 5, 13, 22, 25, 36, 44], np.uint64)
    assert [reader["body"](*where, sv) for sv in ids.tolist()] == seg.lookup(ids).tolist()
    assert reader["blocks"](*where, 999) == {}


def test_what_plain_zarr_reads_is_what_the_handle_says(reader, seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "BULK", 3)
    monkeypatch.setattr(pages, "PAGE", 4)
    versions = [seg]
    seg = _next(seg)
    seg.agglomerate([[sv, sv // 3 + 30] for sv in range(4, 20)])
    versions.append(seg)
    seg = _next(seg)
    seg.merge(1, [2, 3])
    seg.split_supervoxel(25, seg.body(25).runs()[:2])
    versions.append(seg)
    root = seg.version.commit()
    sides = [seg.at(root.newversion()), seg.at(root.branch("side"))]
    sides[0].merge(20, [21])
    sides[1].cleave(1, [2])
    sides[1].agglomerate([[22, 1], [23, 1], [24, 1], [5, 5]])
    for side in sides:
        side.version.commit()
    merged = seg.version.repo.merge([side.version for side in sides])["seg"]
    versions += [*sides, merged]
    merged.version.commit()
    for handle in (*versions, merged.at(merged.version.tag("v1"))):
        _check(reader, handle)


def test_few_sidecars_are_opened_at_any_depth(reader, seg: LabelMap, monkeypatch: pytest.MonkeyPatch):
    for n in range(33):
        seg = _next(seg)
        seg.merge(1, [n + 2]) if n < 27 else seg.undo(seg.merge(1, [29]))
    seg.version.commit()
    opened = []
    original = reader["zarr"].open_group
    monkeypatch.setattr(reader["zarr"], "open_group", lambda *a, **k: opened.append(a) or original(*a, **k))
    _check(reader, seg)
    opened.clear()
    reader["blocks"](seg.version.repo.url.removeprefix("file://"), seg.version.uuid, seg.info.data_uuid, 1)
    assert len(opened) <= 10


def test_the_reader_needs_no_vzarr(seg: LabelMap):
    seg.version.commit()
    code = "\n".join(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL))
    ask = f"print(sum(int(v.sum()) for _, v in blocks({seg.version.repo.url.removeprefix('file://')!r}, "
    ask += f"{seg.version.uuid!r}, {seg.info.data_uuid!r}, 7).values()))"
    check = "import sys; assert not [m for m in sys.modules if m.startswith('vzarr')]"
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ask}\n{check}"], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) == seg.size(7)
