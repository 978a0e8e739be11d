"""The verb ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vzarr.cli.arguments import examples
from vzarr.demo import run


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the program."""
    app.command(epilog=examples("vzarr demo", "vzarr demo --no-serve", "vzarr demo /tmp/demo --port 0"))(demo)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to work; made anew.")] = Path("vzarr-demo"),
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the result at the end.")] = True,
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = 0,
) -> None:
    """Synthesise a piece of neuropil and take it from slices to served, proofread versions."""
    run(folder, serve=serve, port=port)
