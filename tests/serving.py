"""A real `vzarr serve` in a process of its own, for tests that speak HTTP to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

TOKEN = "a-token-for-tests"
READY = re.compile(r"^vzarr: serving (?P<root>.+) on (?P<url>http://\S+)$")


@dataclass(frozen=True)
class Server:
    """A running server: where it answers and the process that does."""

    url: str
    process: subprocess.Popen[str]


def start(root: Path, *options: str, python: Path | str = sys.executable, patience: float = 60) -> Server:
    """Start `vzarr serve ROOT` on a free port and return once it says that it answers."""
    command = [python, "-m", "vzarr", "serve", str(root), "--port", "0", "--admin-token", TOKEN, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    overdue = threading.Timer(patience, process.kill)
    overdue.start()
    line = process.stdout.readline().rstrip("\n")
    overdue.cancel()
    ready = READY.match(line)
    if not ready:
        process.kill()
        process.stdout.close()
        raise AssertionError(f"no ready line within {patience} s but {line!r}; exit status {process.wait()}")
    return Server(ready["url"], process)


def stop(server: Server) -> int:
    """End the server as a service manager would and return its exit status."""
    server.process.terminate()
    status = server.process.wait(30)
    server.process.stdout.close()
    return status


def kill(server: Server) -> None:
    """End the server as `kill -9` does."""
    server.process.kill()
    server.process.wait()
    server.process.stdout.close()


def post(url: str, body: bytes | object = b"") -> Any:
    """What a server answers to a POST of bytes, or of anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urlopen(Request(url, content, method="POST"), timeout=60) as answer:
        return json.loads(answer.read() or b"{}")


@contextmanager
def serving(root: Path, *options: str, python: Path | str = sys.executable) -> Iterator[Server]:
    """Hold a server for the length of a `with` block."""
    server = start(root, *options, python=python)
    try:
        yield server
    finally:
        stop(server)
