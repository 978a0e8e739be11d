"""The command line: ``vzarr VERB ...``, the verbs of the Python face for a shell.

Exit status: 0 done, 1 an error that the message on stderr explains, 2 a command that was not understood.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import typer

from vzarr.errors import VzarrError

VERBS = {
    **dict.fromkeys(("init", "log", "show", "commit", "newversion", "branch", "tag", "merge"), "history"),
    **dict.fromkeys(("ingest", "adopt", "types"), "data"),
    **dict.fromkeys(("rename", "copy", "delete", "undelete"), "instances"),
    **dict.fromkeys(("index", "agglomerate"), "labels"),
    **dict.fromkeys(("diff", "blame"), "compare"),
    **dict.fromkeys(("verify", "gc", "du", "rebuild-keys"), "care"),
    **dict.fromkeys(("flatten", "export-refs"), "export"),
    **dict.fromkeys(("clone", "push", "pull", "fetch"), "transfer"),
    "migrate-keys": "keys",
    "doctor": "doctor",
    "serve": "server",
    "demo": "demo",
    "config": "settings",
}
"""Verb -> module of this package that has it."""

# typer does not name the class that it raises for a bad command line, only one of its children.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def application(verb: str | None = None) -> typer.Typer:
    """The program with all verbs, or with those of one verb's module.

    A verb that looks at a log should not wait until a web server, an xarray and a viewer are imported.
    """
    app = typer.Typer(
        name="vzarr",
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    wanted = [VERBS[verb]] if verb in VERBS else dict.fromkeys(VERBS.values())
    with _no_garbage():
        for module in wanted:
            import_module(f"vzarr.cli.{module}").register(app)
    return app


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Context in which nobody looks for garbage: what is imported stays, and looking through it costs a sixth of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _program() -> None:
    """A git-like version DAG over plain Zarr: every version of an image or a segmentation, side by side."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    args
        Words after the program's name; those of this process by default.

    Returns
    -------
    int
        Exit status: 0, 1 for an error, 2 for a command that was not understood, 130 when interrupted.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        app = application(words[0] if words else None)
        return int(app(args=words, prog_name="vzarr", standalone_mode=False) or 0)
    except UsageError as error:
        return _fail(_usage(error), 2) if str(error) else 2  # without words the help was printed already
    except (VzarrError, OSError) as error:
        return _fail(str(error) or type(error).__name__, 1)
    except typer.Abort:
        return _fail("stopped", 1)


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    told = error.format_message() if hasattr(error, "format_message") else str(error)
    return f"{told} (see {context.command_path} --help)" if context else told


def _fail(message: str, status: int) -> int:
    print("vzarr:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return status
