"""What the verbs are told in common: their arguments, and the examples in their help."""

from __future__ import annotations

from typing import Annotated

import typer

RepoUrl = Annotated[str, typer.Argument(metavar="REPO", help="Folder or URL of the repo.", show_default=False)]
Ref = Annotated[
    str,
    typer.Argument(metavar="[REF]", help="Branch, tag, uuid or unique prefix; also branch~2.", show_default="master"),
]
Note = Annotated[str, typer.Option("--message", "-m", metavar="NOTE", help="What the version is about.")]
User = Annotated[str, typer.Option("--user", "-u", help="Who; `vzarr config user NAME` sets a default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def examples(*lines: str) -> str:
    """Epilog for a verb's help: each example on a line of its own."""
    return "\n\n".join(["Examples:", *lines])
