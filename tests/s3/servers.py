"""Real S3 servers for the tests: versitygw where it can be had, moto's server otherwise."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
KEY, SECRET, REGION = "vzarr-tests", "vzarr-tests-secret", "us-east-1"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vzarr-tests" / "bin"
_SECONDS = 30.0


@dataclass
class Server:
    """A running server, which can be stopped and started again on the same port."""

    kind: str
    command: list[str]
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients find it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def start(self) -> None:
        # A folder of the server's own, for it may leave files where it stands.
        secrets = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        self.process = subprocess.Popen(
            self.command, env={**os.environ, **secrets}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + _SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.kind} did not start: {self.command}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=2).close()
        except urllib.error.HTTPError as e:
            e.close()
            return True
        except OSError:
            return False
        return True


def versitygw(folder: Path) -> Server | None:
    """The gateway on a folder, built on the first call where Go is at hand; None where it is not."""
    program = shutil.which("versitygw") or str(_CACHE / "versitygw")
    if not Path(program).is_file() and not _build():
        return None
    data = folder / "data"
    data.mkdir()
    port = free_port()
    return Server("versitygw", [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(data)], port)


def moto() -> Server:
    """moto's server, which keeps everything in memory."""
    port = free_port()
    return Server("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _build() -> bool:
    if shutil.which("go") is None:
        return False
    _CACHE.mkdir(parents=True, exist_ok=True)
    # Several test processes may build at once: each in a folder of its own, the last rename wins.
    own = _CACHE / f"build-{os.getpid()}"
    done = subprocess.run(["go", "install", VERSITYGW], env={**os.environ, "GOBIN": str(own)}, check=False)
    with suppress(OSError):
        (own / "versitygw").replace(_CACHE / "versitygw")
    shutil.rmtree(own, ignore_errors=True)
    return done.returncode == 0
