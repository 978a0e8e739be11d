"""The tour: a synthetic volume from files to versions, proofread over HTTP, read back in every way, and served."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

import vzarr
from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.api.serving import serve as serve_app
from vzarr.config import Settings
from vzarr.demo.client import Bodies, Client
from vzarr.demo.neuropil import Neuropil, synthesise
from vzarr.demo.proofread import (
    Work,
    check_bodies,
    cleave_apart,
    complete,
    merge_together,
    promise,
)
from vzarr.demo.readers import check_readers
from vzarr.demo.viewer import viewer_link
from vzarr.errors import InvalidInputError, StorageError
from vzarr.ingest import ingest

MARK = "made-by-vzarr-demo"
"""File in a folder that says that the tour may make it anew."""

MOST_MERGES = 500
"""Merges of the tour; enough to see, few enough to wait for."""

NAME = "neuropil"
VOXEL_NM = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class Places:
    """Where the tour keeps what it makes.

    Parameters
    ----------
    folder
        Holds everything.
    """

    folder: Path

    @property
    def slices(self) -> Path:
        """PNG slices, as a microscope would deliver them."""
        return self.folder / "slices"

    @property
    def labels(self) -> Path:
        """HDF5 file with ``stack`` and ``transforms``, as a segmentation pipeline would."""
        return self.folder / "labels.h5"

    @property
    def root(self) -> Path:
        """Folder of repos, as a server takes it."""
        return self.folder / "repos"

    @property
    def repo(self) -> Path:
        """The repo."""
        return self.root / NAME


def run(folder: Path | str, *, size: int = 256, serve: bool = False, port: int = 0, out: Say | None = None) -> None:
    """Take the tour.

    Parameters
    ----------
    folder
        Where to work; made anew if an earlier tour made it.
    size
        Voxels along each axis.
    serve
        Serve the result at the end, until interrupted.
    port
        Port to serve on; 0 picks a free one.
    out
        Takes the lines to show; standard output by default.

    Raises
    ------
    InvalidInputError
        The folder holds something else.
    VzarrError
        A promise does not hold.
    """
    say = out or _to_stdout
    places = Places(Path(folder).resolve())
    started = time.perf_counter()
    _clear(places)
    # The server starts while there is other work to do.
    with _serving(places.root) as address:
        tissue = synthesise(size)
        say(f"synthesised {size}^3 voxels of neuropil, {len(tissue.mapping)} supervoxels")
        _save(tissue, places)
        root, work, side = _make_history(tissue, places, say)
        before = checksum(places.repo / "nodes" / root)
        with closing(Client(address())) as client:
            proofread(tissue, client, (root, work, side), say)
    promise(checksum(places.repo / "nodes" / root) == before, "the parent's folder is the same byte for byte")
    say(f"the parent version is untouched, byte for byte: sha256 {before[:16]}...")
    for line in check_readers(places.repo, tissue, root, work):
        say(line)
    say(f"every promise held; ready after {time.perf_counter() - started:.1f} s")
    _finish(places, root, work, serve, port, say)


def _clear(places: Places) -> None:
    """Make the folder, removing an earlier tour but nothing else."""
    if places.folder.exists() and any(places.folder.iterdir()):
        if not (places.folder / MARK).is_file():
            raise InvalidInputError(f"{places.folder} is not empty and no earlier demo: choose another folder")
        shutil.rmtree(places.folder)
    places.slices.mkdir(parents=True)
    (places.folder / MARK).write_text("`vzarr demo` removes and makes this folder anew.\n")


def _save(tissue: Neuropil, places: Places) -> None:
    """Write the files that a lab would start from."""
    for z, plane in enumerate(tissue.grayscale):
        Image.fromarray(plane).save(places.slices / f"z{z:04}.png", compress_level=1)
    with h5py.File(places.labels, "w") as file:
        options = {"chunks": (16, *tissue.supervoxels.shape[1:]), "compression": "lzf", "shuffle": True}
        file.create_dataset("stack", data=tissue.supervoxels.astype(np.uint32), **options)
        file["transforms"] = tissue.mapping


def _make_history(tissue: Neuropil, places: Places, say: Say) -> tuple[str, str, str]:
    """Ingest and commit; ids of the root, of the version to proofread and of a second branch."""
    with vzarr.create(str(places.repo), alias=NAME, description="synthetic neuropil") as repo:
        root = repo.root
        ingest(root, "grayscale", str(places.slices / "*.png"), voxel_size=VOXEL_NM, unit="nm", user="demo")
        spec = f"{places.labels}:"
        ingest(
            root,
            "segmentation",
            spec + "stack",
            typename="labelmap",
            mapping=spec + "transforms",
            voxel_size=VOXEL_NM,
            unit="nm",
            user="demo",
        )
        say("ingested grayscale (PNG slices) and segmentation (HDF5) with pyramids and label index")
        root.commit("as it came from the pipeline", user="demo")
        work, side = root.newversion("proofreading", user="demo"), root.branch("side", user="demo")
        _draw_scale_bar(work)
        say(f"committed {root.uuid[:8]}, made a new version {work.uuid[:8]} and a branch 'side'")
        return root.uuid, work.uuid, side.uuid


def _draw_scale_bar(version: vzarr.Version) -> None:
    """Draw 1 um into the first plane of every scale: voxels change too, so that the child has its own chunks."""
    scale = 0
    while version.has_array(path := f"grayscale/{scale}"):
        bounds = version.bounds(path)
        width = (bounds[1][2] if bounds else 0) - (8 >> scale)
        bar = np.full((1, max(1, 4 >> scale), min(100 >> scale, width)), 255, np.uint8)
        version.write(path, (0, 8 >> scale, 8 >> scale), bar)
        scale += 1


def proofread(tissue: Neuropil, client: Client, versions: tuple[str, str, str], say: Say) -> None:
    """Cleave and merge over HTTP, compare all three versions with numpy, and commit.

    Parameters
    ----------
    versions
        Ids of the root, of its child to proofread, and of a child on another branch.
    """
    root, work, side = (Bodies(client, version, "segmentation") for version in versions)
    supervoxels = tissue.supervoxels
    original = complete(tissue.mapping, np.unique(supervoxels))
    started = time.perf_counter()
    done = cleave_apart(work, Work(original))
    done = merge_together(work, done, tissue.truth, MOST_MERGES)
    each = (time.perf_counter() - started) / max(1, done.cleaves + done.merges)
    say(f"proofread over HTTP: {done.cleaves} cleaves and {done.merges} merges, {1000 * each:.1f} ms each")
    found = check_bodies(work, supervoxels, done.table, sample=12)
    say(f"all {found} body sizes and 12 sparse volumes equal numpy on the voxels")
    for untouched in (root, side):
        check_bodies(untouched, supervoxels, original, sample=4)
    say("the parent and the other branch answer as before")
    client.post(f"/api/node/{versions[1]}/commit", {"note": "proofread"})


def _finish(places: Places, root: str, work: str, serve: bool, port: int, say: Say) -> None:
    """Say how to look at it, and serve it if that is wanted."""
    say(f"the repo: {places.repo}")
    say(f"  vzarr log {places.repo}")
    say(f'  python -c "import xarray; print(xarray.open_dataset({str(places.repo)!r}, version={work[:8]!r}))"')
    if not serve:
        say(f"  vzarr serve {places.root} --port 8000, then open")
        say(f"  {viewer_link('http://127.0.0.1:8000', work, voxel_nm=VOXEL_NM)}")
        return

    def ready(url: str) -> None:
        say(f"serving on {url}; end with Ctrl-C")
        say(f"before: {viewer_link(url, root, voxel_nm=VOXEL_NM)}")
        say(f"after:  {viewer_link(url, work, voxel_nm=VOXEL_NM)}")

    settings = Settings.from_environment(port=port)
    serve_app(create_app(settings, Hub(places.root)), settings.host, settings.port, ready)


@contextmanager
def _serving(root: Path) -> Iterator[Callable[[], str]]:
    """A server in a process of its own, on a free port; gives a function that waits for its address."""
    program = "import sys; from vzarr.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "serve", str(root), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def address() -> str:
            line = process.stdout.readline() if process.stdout else ""
            if " on http://" not in line:
                raise StorageError(f"the server did not start: {line.strip() or 'no ready line'}")
            return line.split(" on ")[-1].strip()

        try:
            yield address
        finally:
            process.terminate()


def checksum(folder: Path) -> str:
    """One sha256 over names and bytes of all files in a folder."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{file.relative_to(folder).as_posix()}\n".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _to_stdout(line: str) -> None:
    """Show a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
