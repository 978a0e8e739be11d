"""Where clones are made: in folders beside, or by a server that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import vzarr
from tests.serving import TOKEN, Server, serving
from vzarr.overlay.sealing.leftout import Limits
from vzarr.overlay.transfer.place import WHOLE, Place
from vzarr.overlay.transfer.places import open_place
from vzarr.overlay.transfer.verbs import Transferred, clone, push


@dataclass
class Receiver:
    """Has one clone of each repo, in a folder below `root`."""

    root: Path
    server: Server | None = None
    opened: ExitStack = field(default_factory=ExitStack)

    def url(self, repo: vzarr.Repo) -> str:
        """What names the clone of a repo in transfers."""
        return f"{self.server.url}/{repo.uuid}" if self.server else str(self.root / repo.uuid)

    def place(self, repo: vzarr.Repo, token: str = TOKEN) -> Place:
        """The same as one end of a transfer."""
        return self.opened.enter_context(open_place(self.url(repo), token))

    def clone(self, repo: vzarr.Repo, limits: Limits = WHOLE, **more: Any) -> vzarr.Repo:
        """Make it, and open its folder."""
        clone(open_place(repo.url), self.place(repo), limits=limits, **more)
        return vzarr.open(str(self.root / repo.uuid))

    def bring(self, repo: vzarr.Repo, **more: Any) -> Transferred:
        """Bring it up to date."""
        return push(open_place(repo.url), self.place(repo), **more)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A server and its folder, for all tests of a module."""
    root = tmp_path_factory.mktemp("served")
    with serving(root) as server:
        yield root, server


@pytest.fixture(params=["folder", "server"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    """Both of them, one after the other."""
    if request.param == "folder":
        made = Receiver(tmp_path / "clones")
        made.root.mkdir()
    else:
        made = Receiver(*request.getfixturevalue("served"))
    with made.opened:
        yield made
