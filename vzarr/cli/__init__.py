"""The command line: ``vzarr VERB ...``, the verbs of the Python face for a shell.

Exit status: 0 done, 1 an error that the message on stderr explains, 2 a command that was not understood.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from vzarr.cli import data, history, server, settings
from vzarr.errors import VzarrError

app = typer.Typer(
    name="vzarr",
    help="A git-like version DAG over plain Zarr: every version of an image or a segmentation, side by side.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (history, data, server, settings):
    part.register(app)

# typer does not name the class that it raises for a bad command line, only one of its children.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


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
    try:
        return int(app(args=args, prog_name="vzarr", standalone_mode=False) or 0)
    except UsageError as error:
        return _fail(f"{_usage(error)}", 2)
    except (VzarrError, OSError) as error:
        return _fail(str(error) or type(error).__name__, 1)
    except typer.Abort:
        return _fail("stopped", 1)


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    text = str(error) or type(error).__name__
    return f"{text} (see {context.command_path} --help)" if context else text


def _fail(message: str, status: int) -> int:
    print("vzarr:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return status
