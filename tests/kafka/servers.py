"""A real Kafka broker for tests: the project's own archives by Maven, run by the Java that is there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

VERSION, OLDEST_JAVA = "4.4.0", 17
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vzarr-tests"
ARCHIVES = _CACHE / f"kafka-{VERSION}"
_SECONDS = 120.0
_CLUSTER = "dnphcnItdGVzdHMta2Fmaw"
"""Id of a cluster: 16 bytes in URL-safe base64; a random one may begin with a dash, and is taken for an option."""
_POM = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>vzarr.tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
num.partitions=3
auto.create.topics.enable={create}
"""


def lacking() -> str:
    """Why no broker can run on this machine, whose archives are fetched on the first call; "" if one can."""
    if _java_version() < OLDEST_JAVA:
        return f"Java {OLDEST_JAVA} or newer is not on the path"
    if ARCHIVES.is_dir():
        return ""
    if shutil.which("mvn") is None:
        return "mvn, which would fetch it, is not on the path"
    try:
        _fetch()
    except subprocess.SubprocessError as error:
        return f"it could not be fetched: {error}"
    return ""


def _java_version() -> int:
    """Major version of the Java on the path; 0 if there is none that runs."""
    if shutil.which("java") is None:
        return 0
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=_SECONDS).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def _fetch() -> None:
    """Several test processes may fetch at once: each into a folder of its own, one rename wins."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as own:
        Path(own, "pom.xml").write_text(_POM.format(version=VERSION))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={own}/jars"]
        subprocess.run(command, cwd=own, check=True, capture_output=True, timeout=600)
        with suppress(OSError):
            Path(own, "jars").rename(ARCHIVES)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class KafkaServer:
    """One broker, which can be killed and started again with all that it has.

    Parameters
    ----------
    folder
        Where it keeps what it has.
    create
        Whether it makes topics that are written to.
    """

    folder: Path
    create: bool = True
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.folder.mkdir()
        settings = {"port": self.port, "controller": free_port(), "folder": self.folder}
        self._settings = self.folder / "server.properties"
        self._settings.write_text(_PROPERTIES.format(**settings, create=str(self.create).lower()))
        tool = self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._settings))
        subprocess.run(tool, check=True, capture_output=True, timeout=_SECONDS)

    def _java(self, *words: str) -> list[str]:
        options = ["-Xmx384m", "-XX:+UseSerialGC", "-cp", f"{ARCHIVES}/*"]
        return ["java", *options, *words]

    def start(self) -> None:
        """Start it and return once it takes connections."""
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._settings)), stdout=out, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + _SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Kafka did not start: {(self.folder / 'out').read_text()[-2000:]}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
