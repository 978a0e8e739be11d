"""Routes beside the API: the version of DVID's interface, and the neuroglancer client if it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from vzarr.api import wire
from vzarr.api.routing import read

router = APIRouter(tags=["server"])
CLIENT = "/neuroglancer"
_PAGE = f"{CLIENT}/v/vzarr"
"""Where the page is; the client wants ``/v/TOKEN/`` in its address."""
_STANDALONE = Path(__file__).with_name("standalone.js")


@read(router, "/interface/version")
def get_version() -> Response:
    """Version of DVID's HTTP interface (DVID: ``GET /interface/version``)."""
    return wire.text("v1\n")


def mount_client(app: FastAPI) -> None:
    """Serve neuroglancer's own web client under ``/neuroglancer/``, or say how to get it."""
    folder = client_folder()
    if folder is not None:
        _mount(app, folder)
        return
    missing = wire.text("the neuroglancer client is not installed: pip install 'vzarr[viewer]'\n", 404)

    @read(app.router, CLIENT + "/{path:path}", include_in_schema=False)
    def no_client(path: str) -> Response:
        """Say how to get the client."""
        return missing


def _mount(app: FastAPI, folder: Path) -> None:
    """Serve the client of a folder, with a page that lets it run by itself."""
    # The empty icon keeps browsers from asking for one.
    head = f"<head><link rel='icon' href='data:,'><script>{_STANDALONE.read_text('utf-8')}</script>"
    page = (folder / "index.html").read_text("utf-8").replace("<head>", head, 1)

    @read(app.router, f"{CLIENT}/", include_in_schema=False)
    def get_client() -> Response:
        """Lead to the page; browsers keep the state behind ``#``."""
        return RedirectResponse(_PAGE.removeprefix(f"{CLIENT}/") + "/")

    @read(app.router, f"{_PAGE}/", include_in_schema=False)
    def get_client_page() -> Response:
        """Start the client."""
        return HTMLResponse(page)

    app.mount(_PAGE, StaticFiles(directory=folder), name="neuroglancer")


def client_folder() -> Path | None:
    """Folder of the built client inside of the neuroglancer package, None when that is not installed.

    The package is looked up without importing it, which would start what it brings.
    """
    spec = importlib.util.find_spec("neuroglancer")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "static" / "client"
        if (folder / "index.html").is_file():
            return folder
    return None
