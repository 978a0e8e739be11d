"""File systems that only one test sees: a script is run in a name space of its own, where anybody may mount."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_IN_ITS_OWN = ["unshare", "--map-root-user", "--mount", "sh", "-e", "-c"]


def run_apart(folder: Path, script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script whose mounts nobody else sees, from the project's root; its words are ``$1`` and so on.

    Skips the test where the system allows no such thing; `folder` is an empty one on which that is tried.
    """
    if shutil.which("unshare") is None or _run("mount -t tmpfs -o size=1m tmpfs $1", folder).returncode:
        pytest.skip("no file system can be mounted here")
    return _run(script, *words)


def _run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_IN_ITS_OWN, script, "sh", *map(str, words)],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
