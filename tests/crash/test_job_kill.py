"""What is killed in the middle of a job: others say so, nothing half done is seen, and the same request goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

import vzarr
from tests.serving import TOKEN, serving, start
from vzarr.overlay.care.verify import verify
from vzarr.overlay.extract.duplicate import duplicate

CHUNKS = 1000


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_push_goes_on_at_another_server(tmp_path: Path):
    with vzarr.create(str(tmp_path / "repos" / "fly")) as repo:
        repo.root.create_array("a", dtype="u1", chunks=(1,))
        repo.root.write("a", (0,), np.arange(1, CHUNKS + 1).astype("u1") | 1)
        repo.root.commit()
        uuid = repo.uuid
    target = str(tmp_path / "other")
    with serving(tmp_path / "repos") as second:
        first = start(tmp_path / "repos")
        job = ask(f"{first.url}/api/repo/{uuid}/push", {"target": target})
        place = f"{second.url}/api/jobs/{job['id']}"
        while not list((tmp_path / "other").glob("nodes/*/zarr/a/c/*")):
            time.sleep(0.01)
        first.process.kill()
        first.process.wait()
        first.process.stdout.close()
        seen = ask(place)
        assert (seen["state"], seen["ended"]) == ("interrupted", "")
        assert is_empty(target)
        assert ask(f"{place}?wait=60")["state"] == "interrupted"
        job = ask(f"{second.url}/api/repo/{uuid}/push", {"target": target})
        seen = ask(f"{second.url}/api/jobs/{job['id']}?wait=60")
        assert seen["state"] == "done"
        assert len(ask(f"{second.url}/api/jobs")["jobs"]) == 2
    with vzarr.open(target) as made:
        assert not any(finding.damage for finding in verify(made.objects))
        assert len(made.root.chunk_coords("a")) == CHUNKS


def is_empty(url: str) -> bool:
    """Whether nothing was published yet."""
    return not list(Path(url).glob("log/*.json"))


COPIER = """
import sys, time, vzarr
from vzarr.overlay.extract.duplicate import duplicate

def told(total, size):
    print("copied", flush=True)
    time.sleep(0.2)

repo = vzarr.open(sys.argv[1])
tip = repo["master"]
duplicate(tip.parents[0], "em", tip, "em2", progress=told)
"""


def test_a_copy_that_was_killed_is_never_seen(tmp_path: Path):
    with vzarr.create(str(tmp_path / "fly")) as repo:
        voxels = np.ones((16, 16, 16), "u1")
        repo.root.create_instance("em", "uint8blk", config={"BlockSize": "4,4,4"}).write((0, 0, 0), voxels)
        tip = repo.root.commit().newversion()
        command = [sys.executable, "-c", COPIER, repo.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline().startswith("copied")
            assert repo.garbage(0) == []
            process.kill()
        assert sorted(tip.zarr) == ["em"]
        assert any("em2" in key for key, _ in repo.objects.walk(f"nodes/{tip.uuid}"))
        assert "instance" in {g.kind for g in repo.garbage(0, delete=True)}
        assert not any("em2" in key for key, _ in repo.objects.walk(f"nodes/{tip.uuid}"))
        duplicate(repo.root, "em", tip, "em2")
        np.testing.assert_array_equal(tip["em2"].read((0, 0, 0), (16, 16, 16)), voxels)
        tip.commit()
        assert list(verify(repo.objects)) == []
