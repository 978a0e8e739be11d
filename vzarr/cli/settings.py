"""The verb ``config`` and the user's own settings: one small file in the user's configuration folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vzarr.cli.arguments import AsJson, examples
from vzarr.cli.output import emit
from vzarr.errors import FormatError, InvalidInputError

KNOWN = {"user": "Who commits, branches and merges; recorded in the repo's log."}


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the program."""
    lines = ("vzarr config", "vzarr config user 'Ada Lovelace'", "vzarr config user --unset")
    app.command(epilog=examples(*lines))(config)


def config(
    name: Annotated[str | None, typer.Argument(help=f"One of: {', '.join(KNOWN)}.")] = None,
    value: Annotated[str | None, typer.Argument(help="New value.")] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Forget the value.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or change your settings (user)."""
    if name is not None and name not in KNOWN:
        raise InvalidInputError(f"no setting {name!r}; there are: {', '.join(KNOWN)}")
    if unset and (name is None or value is not None):
        raise InvalidInputError("--unset takes the name of one setting and no value")
    settings = read()
    if name is not None and (unset or value is not None):
        settings = {key: old for key, old in settings.items() if key != name}
        settings |= {} if value is None else {name: value}
        write(settings)
    shown = settings if name is None else {name: settings.get(name, "")}
    emit(shown, "\n".join(f"{key} = {shown[key]}" for key in sorted(shown)), as_json=as_json)


def default_user() -> str:
    """Name under which the user works, "" when none was set."""
    return read().get("user", "")


def path() -> Path:
    """File that holds the user's settings, whether it exists or not."""
    return Path(typer.get_app_dir("vzarr")) / "config.json"


def read() -> dict[str, str]:
    """Settings as they stand.

    Raises
    ------
    FormatError
        If the file is not a JSON object of strings.
    """
    try:
        found = json.loads(path().read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise FormatError(f"{path()} is no JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise FormatError(f"{path()} should be a JSON object of strings")
    return found


def write(settings: dict[str, str]) -> None:
    """Replace the settings; a reader sees the old file or the new one, never half of one."""
    path().parent.mkdir(parents=True, exist_ok=True)
    draft = path().with_suffix(".new")
    draft.write_text(json.dumps(settings, indent=2) + "\n")
    draft.replace(path())
