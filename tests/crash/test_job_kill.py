"""A server that is killed in the middle of a job: another one says so, and the same request goes on."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

import vzarr
from tests.serving import TOKEN, serving, start
from vzarr.overlay.care.verify import verify

CHUNKS = 3000


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
        assert vzarr_is_empty(target)
        assert ask(f"{place}?wait=60")["state"] == "interrupted"
        job = ask(f"{second.url}/api/repo/{uuid}/push", {"target": target})
        seen = ask(f"{second.url}/api/jobs/{job['id']}?wait=60")
        assert seen["state"] == "done"
        assert len(ask(f"{second.url}/api/jobs")["jobs"]) == 2
    with vzarr.open(target) as made:
        assert not any(finding.damage for finding in verify(made.objects))
        assert len(made.root.chunk_coords("a")) == CHUNKS


def vzarr_is_empty(url: str) -> bool:
    """Whether nothing was published yet."""
    return not list(Path(url).glob("log/*.json"))
