"""The tour from end to end on a small volume, and what it must refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
import pytest

import vzarr
from tests.serving import serving
from vzarr import demo
from vzarr.demo.client import Bodies, Client
from vzarr.demo.proofread import check_bodies
from vzarr.demo.tour import checksum
from vzarr.demo.viewer import viewer_link
from vzarr.errors import InvalidInputError, VzarrError
from vzarr.ingest import ingest
from vzarr.ingest.sources import ArraySource


@pytest.mark.slow
def test_the_tour_holds_its_promises_and_can_be_taken_again(tmp_path: Path):
    lines: list[str] = []
    demo.run(tmp_path / "tour", size=64, out=lines.append)
    text = "\n".join(lines)
    assert "every promise held" in text
    assert "refused by zarr alone" in text
    assert "/neuroglancer/#!" in text
    program = f"from vzarr import demo; demo.run({str(tmp_path / 'tour')!r}, size=64, serve=True)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            link = next(line.split()[1] for line in process.stdout if line.startswith("after:"))
            state = json.loads(unquote(urlsplit(link).fragment.removeprefix("!")))
            image = state["layers"][0]["source"]["url"].removeprefix("zarr3://")
            assert httpx.get(link, follow_redirects=True).status_code == 200
            assert httpx.get(f"{image}zarr.json").json()["attributes"]["ome"]["version"] == "0.5"
            assert httpx.get(f"{image}0/c/0/0/0").status_code == 200
        finally:
            process.terminate()
        assert process.wait(30) == 0
    with vzarr.open(str(tmp_path / "tour" / "repos" / "neuropil")) as repo:
        assert sorted(repo.branches()) == ["master", "side"]
        assert repo["master"].sealed
        assert len(list(repo["master"]["segmentation"].list_bodies())) < len(
            list(repo.root["segmentation"].list_bodies())
        )


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InvalidInputError, match="choose another folder"):
        demo.run(tmp_path, size=64)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_check_of_bodies_finds_what_is_wrong(tmp_path: Path):
    volume = np.random.default_rng(0).integers(0, 4, (16, 16, 16)).astype(np.uint64)
    right = np.array([[1, 1], [2, 1], [3, 3]], np.uint64)
    with vzarr.create(str(tmp_path / "root" / "r")) as repo:
        made = ingest(repo.root, "seg", ArraySource("v", volume), typename="labelmap", mapping=right)
        version = made.version.uuid
    with serving(tmp_path / "root") as server:
        client = Client(server.url)
        bodies = Bodies(client, version, "seg")
        assert check_bodies(bodies, volume, right, sample=2) == 2
        with pytest.raises(VzarrError, match="size of every body"):
            check_bodies(bodies, volume, np.array([[1, 1], [2, 3], [3, 3]], np.uint64), sample=2)
        changed = volume.copy()
        first, second = np.argwhere(volume == 1)[0], np.argwhere(volume == 3)[0]
        changed[tuple(first)], changed[tuple(second)] = 3, 1
        with pytest.raises(VzarrError, match="sparse volume of body"):
            check_bodies(bodies, changed, right, sample=2)
        with pytest.raises(VzarrError, match=r"GET .*/sparsevol/77: 404"):
            bodies.runs(77)
        client.close()


def test_a_checksum_sees_names_and_bytes(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"1")
    sums = {checksum(tmp_path)}
    (tmp_path / "a").write_bytes(b"2")
    sums.add(checksum(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    sums.add(checksum(tmp_path))
    assert len(sums) == 3


def test_the_link_is_a_neuroglancer_state_on_our_port():
    link = viewer_link("http://127.0.0.1:8000", "abc", voxel_nm=8)
    parts = urlsplit(link)
    assert (parts.netloc, parts.path) == ("127.0.0.1:8000", "/neuroglancer/")
    state = json.loads(unquote(parts.fragment.removeprefix("!")))
    assert state["dimensions"] == {axis: [8e-9, "m"] for axis in "xyz"}
    image, segmentation = (layer["source"] for layer in state["layers"])
    assert image["url"] == "zarr3://http://127.0.0.1:8000/zarr/abc/grayscale/"
    assert segmentation == "dvid://http://127.0.0.1:8000/abc/segmentation"
