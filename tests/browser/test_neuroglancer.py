"""What a person sees in neuroglancer, from the client on our own port: pixels of a real browser against numpy."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from PIL import Image

import vzarr
from tests.serving import serving
from vzarr.demo.neuropil import Neuropil, synthesise
from vzarr.ingest import ingest
from vzarr.ingest.sources import ArraySource

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIZE = 64
NAMES = ("chromium", "chromium-browser", "google-chrome")
BACKGROUND = (255, 0, 255)
PANEL = ".neuroglancer-rendered-data-panel"
# WebGL without a graphics card.
ARGUMENTS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

Look = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser is installed; one of {', '.join(NAMES)} would do")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'vzarr[browser]'")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Look]:
    """Opens a link and gives the upper left panel, uint8 (y, x, RGB); nothing may fail or be asked of others."""
    context = browser.new_context(viewport={"width": 500, "height": 400})
    complaints: list[str] = []
    asked: list[tuple[str, str]] = []
    context.on("request", lambda request: asked.append((request.method, request.url)))
    context.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))

    def open_link(link: str) -> np.ndarray:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.goto(link)
        # The layers are there only after their sources have answered.
        page.wait_for_function("() => window.viewer.layerManager.managedLayers.length > 0 && viewer.isReady()")
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shot = page.locator(PANEL).first.screenshot()
        assert page.locator(".neuroglancer-status-container li:visible").all_text_contents() == []
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))

    yield open_link
    context.close()
    assert not complaints
    assert {method for method, _ in asked} == {"GET"}
    hosts = {urlsplit(url).hostname for _, url in asked if urlsplit(url).scheme not in {"blob", "data"}}
    assert hosts <= {"127.0.0.1", "localhost"}


@pytest.fixture(scope="module")
def tissue() -> Neuropil:
    return synthesise(SIZE)


@pytest.fixture(scope="module")
def version(tissue: Neuropil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A served version with an image and a segmentation: address, id."""
    root = tmp_path_factory.mktemp("root")
    with vzarr.create(str(root / "r")) as repo:
        scale = {"voxel_size": 10, "unit": "nm"}
        ingest(repo.root, "image", ArraySource("i", tissue.grayscale), **scale)
        labels = ArraySource("s", tissue.supervoxels)
        ingest(repo.root, "segmentation", labels, typename="labelmap", mapping=tissue.mapping, **scale)
        name = repo.root.uuid
    with serving(root, "--readonly") as server:
        yield server.url, name


def source(kind: str, version: tuple[str, str], name: str) -> str:
    """URL of a layer, as a person would type it."""
    address, node = version
    return f"dvid://{address}/{node}/{name}" if kind == "dvid" else f"zarr3://{address}/zarr/{node}/{name}/"


def link(page: str, layer: dict[str, Any]) -> str:
    """One plane in the middle of z, one voxel a pixel."""
    state = {
        "dimensions": {axis: [1e-8, "m"] for axis in "xyz"},
        "layers": [{"name": "it", **layer}],
        "crossSectionBackgroundColor": "#{:02x}{:02x}{:02x}".format(*BACKGROUND),
        "showAxisLines": False,
        "showScaleBar": False,
        "showDefaultAnnotations": False,
        "layout": "xy",
    }
    return f"{page}/neuroglancer/#!{quote(json.dumps(state))}"


def plane(panel: np.ndarray) -> np.ndarray:
    """What is drawn around the middle; controls lie at the edges."""
    middle = panel[panel.shape[0] // 2 - SIZE :, panel.shape[1] // 2 - SIZE :][: 2 * SIZE, : 2 * SIZE]
    inside = (middle != BACKGROUND).any(axis=2)
    assert inside.any(), "nothing is drawn"
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return middle[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize(("kind", "tolerance"), [("zarr3", 0), ("dvid", 12)])
def test_an_image_is_shown_as_it_is(kind: str, tolerance: int, version: tuple[str, str], tissue: Neuropil, look: Look):
    shown = plane(look(link(version[0], {"type": "image", "source": source(kind, version, "image")})))
    assert shown.shape == (SIZE, SIZE, 3)
    assert np.ptp(shown, axis=2).max() == 0
    # dvid:// asks for JPEG.
    assert np.abs(shown[..., 0].astype(int) - tissue.grayscale[SIZE // 2]).mean() <= tolerance / 2
    assert np.abs(shown[..., 0].astype(int) - tissue.grayscale[SIZE // 2]).max() <= 3 * tolerance


@pytest.mark.parametrize("kind", ["zarr3", "dvid"])
def test_a_segmentation_has_one_colour_a_label(kind: str, version: tuple[str, str], tissue: Neuropil, look: Look):
    layer = {"type": "segmentation", "source": source(kind, version, "segmentation"), "notSelectedAlpha": 1}
    shown = plane(look(link(version[0], layer)))
    labels = tissue.supervoxels[SIZE // 2]
    if kind == "dvid":
        table = dict(tissue.mapping.tolist())
        labels = np.vectorize(lambda label: table.get(label, label), otypes=[np.uint64])(labels)
    assert shown.shape == (SIZE, SIZE, 3)
    colours = shown.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    pairs = {*zip(labels.ravel().tolist(), colours.ravel().tolist(), strict=True)}
    assert len(pairs) == len(np.unique(labels)), "a label has one colour"
    assert len(np.unique(colours)) > 0.9 * len(pairs), "and other labels have others"
    assert np.median(np.ptp(shown, axis=2)) > 80, "which are saturated"


@pytest.mark.parametrize("kind", ["zarr3", "dvid"])
def test_a_client_of_another_origin_may_read(kind: str, version: tuple[str, str], look: Look):
    elsewhere = version[0].replace("127.0.0.1", "localhost")
    layer = {"type": "segmentation", "source": source(kind, version, "segmentation"), "notSelectedAlpha": 1}
    assert len(np.unique(plane(look(link(elsewhere, layer))).reshape(-1, 3), axis=0)) > 10


def test_the_links_of_the_demo_show_its_neuropil(tmp_path: Path, look: Look):
    program = f"from vzarr import demo; demo.run({str(tmp_path / 'tour')!r}, size={SIZE}, serve=True)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            found = (line.split() for line in process.stdout)
            links = [next(words[1] for words in found if words[0] == name) for name in ("before:", "after:")]
            before, after = map(look, links)
        finally:
            process.terminate()
    for panel in (before, after):
        tinted = np.ptp(panel, axis=2) > 20
        assert tinted.sum() > SIZE * SIZE / 2
        hues = np.asarray(Image.fromarray(panel).convert("HSV"))[..., 0][tinted]
        assert (np.histogram(hues, 12, (0, 256))[0] > 20).sum() >= 5, "bodies have colours"
        assert len(np.unique(panel.max(axis=2)[tinted])) > 50, "over an image with grain"
    changed = (before != after).any(axis=2).sum()
    assert 100 < changed < SIZE * SIZE, "merged and cleaved bodies have other colours than before"
