"""Objects of a server's repo as those of a store; a server that says what cannot be is not believed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import orjson
import pytest

import vzarr
from tests.serving import TOKEN, serving
from vzarr.errors import FormatError, StorageError, UnsupportedError
from vzarr.overlay import layout, opening
from vzarr.overlay.transfer.client import SHA256, Client
from vzarr.overlay.transfer.http import Host
from vzarr.overlay.transfer.mirror import mirror
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.servedobjects import ServedObjects


def test_it_is_a_store(tmp_path: Path):
    with vzarr.create(str(tmp_path / "origin"), root="origin") as repo, serving(tmp_path / "served") as server:
        mirror(open_place(repo.url), open_place(str(tmp_path / "served" / "origin")), opened=True)
        client = Client(Host(server.url.removeprefix("http://"), secure=False), TOKEN)
        objects = ServedObjects(client, "/origin", server.url)
        there = opening.open_objects(tmp_path / "served" / "origin")
        data = there.get(layout.REPO)
        assert objects.get(layout.REPO) == data
        assert objects.fetch(layout.REPO, 2, 3) == (data[2:5], len(data))
        assert objects.fetch(layout.REPO, -4) == (data[-4:], len(data))
        assert (objects.size(layout.REPO), objects.size("log/x"), objects.get("log/x")) == (len(data), None, None)
        for folder in ("log", "nodes/origin", "open"):
            found = {stamp for *_, stamp in objects.stamped(folder)}  # first, for the young ones have none
            assert found <= {"", *(stamp for *_, stamp in there.stamped(folder))}
            assert list(objects.walk(folder)) == list(there.walk(folder))
            assert objects.list_dir(folder) == there.list_dir(folder)
        assert objects.create("stripes/7", b"x")
        assert not objects.create("stripes/7", b"y")
        assert there.get("stripes/7") == b"x"
        objects.put(layout.moment_object(sha256(b"x").hexdigest()), b"x")
        objects.delete_tree("open/objects")
        assert not list(there.walk("open/objects"))
        for change in (objects.move, objects.rename_tree):
            with pytest.raises(UnsupportedError):
                change("log", "open")
        client.close()


@pytest.fixture
def answers() -> Iterator[tuple[ServedObjects, dict[str, bytes]]]:
    """Objects of a server that answers what a test wants, and from whom it got what."""
    said: dict[str, bytes] = {}

    class Strange(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = said["body"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header(SHA256, said.get("sha256", b"").decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Strange) as strange:
        threading.Thread(target=strange.serve_forever, daemon=True).start()
        client = Client(Host(f"127.0.0.1:{strange.server_port}", secure=False))
        yield ServedObjects(client, "/x", "http://strange"), said
        client.close()
        strange.shutdown()


def test_what_lies_elsewhere_is_not_listed(answers):
    objects, said = answers
    said["body"] = orjson.dumps({"objects": [["vzarr.json", 1, ""]]})
    with pytest.raises(FormatError, match=r"lists 'vzarr.json' below 'nodes/x'"):
        list(objects.stamped("nodes/x"))
    for folders, names in ((["../y"], []), ([], ["y/z"]), ([1], [])):
        said["body"] = orjson.dumps({"folders": folders, "objects": names})
        with pytest.raises(FormatError, match="names in 'nodes/x' that are none"):
            objects.list_dir("nodes/x")


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"objects": [["nodes/x/y", "1", ""]]}', b'{"objects": ["nodes/x/y"]}']
)
def test_lists_that_are_none(answers, body: bytes):
    objects, said = answers
    said["body"] = body
    with pytest.raises(FormatError):
        list(objects.stamped("nodes/x"))
    with pytest.raises(FormatError):
        objects.list_dir("nodes/x")


def test_what_came_otherwise_is_no_object(answers):
    objects, said = answers
    said["body"], said["sha256"] = b"x", sha256(b"y").hexdigest().encode()
    with pytest.raises(StorageError, match="did not come as it was sent"):
        objects.get("log/latest")
