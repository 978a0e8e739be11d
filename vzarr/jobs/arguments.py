"""Arguments of jobs as they come in requests, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vzarr.errors import ForbiddenError, InvalidInputError, UnsupportedError
from vzarr.overlay.objects.localpaths import local_path
from vzarr.overlay.transfer import region
from vzarr.overlay.transfer.served import is_served, split

SECRETS = ("token", "passcode")
"""Arguments that are written down nowhere."""


class Arguments:
    """The JSON object that a request names its arguments in.

    Parameters
    ----------
    given
        The object; names are in any case.
    known
        Names of all arguments that the verb takes.

    Raises
    ------
    InvalidInputError
        If there are others: a misspelt one must not be taken for its default.
    """

    def __init__(self, given: Mapping[str, Any], known: Collection[str]) -> None:
        self._given = {key.lower(): value for key, value in given.items()}
        strange = sorted(self._given.keys() - known)
        if strange:
            raise InvalidInputError(f"no argument is called {strange[0]!r}; there are {', '.join(sorted(known))}")

    def shown(self) -> dict[str, Any]:
        """The arguments as they may be written down."""
        return {key: value for key, value in self._given.items() if key not in SECRETS}

    def text(self, key: str, default: str | None = None) -> str:
        """A string; one without a default must be given.

        Raises
        ------
        InvalidInputError
            If it is no string, or missing.
        """
        value = self._given.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            raise InvalidInputError(f'the body should hold a string under "{key}"')
        return value

    def flag(self, key: str) -> bool:
        """A truth value, false by default."""
        value = self._given.get(key, False)
        if not isinstance(value, bool):
            raise InvalidInputError(f'"{key}" should be true or false')
        return value

    def names(self, key: str) -> tuple[str, ...] | None:
        """Names in a list, or in a string with commas as DVID's command line has them; None where there are none."""
        value = self._given.get(key)
        if value is None:
            return None
        names = [part for part in value.split(",") if part] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
            raise InvalidInputError(f'"{key}" should list one or more names')
        return tuple(names)

    def one_of(self, key: str, choices: Collection[str], default: str) -> str:
        """One of some words."""
        value = self.text(key, default)
        if value not in choices:
            raise InvalidInputError(f'"{key}" is one of {", ".join(choices)}, not {value!r}')
        return value

    def roi(self) -> tuple[str, str] | None:
        """Name and version of the region in a filter ``roi:NAME,REF`` (DVID: ``filter=roi:NAME,UUID/tile:xy,xz``).

        Raises
        ------
        UnsupportedError
            If the filter names what there is not, such as planes of tiles.
        """
        found = None
        for part in filter(None, self.text("filter", "").split("/")):
            kind, _, rest = part.partition(":")
            if kind == "tile":
                raise UnsupportedError(
                    "a filter by planes of tiles is for datatypes that keep them by plane: none does"
                )
            if kind != "roi" or found is not None:
                raise InvalidInputError(f"a filter is roi:NAME,REF, not {part!r}")
            found = region.parse(rest)
        return found


def check_remote(url: str, allowed: Collection[str]) -> str:
    """Refuse an address that a server may not use for a job.

    A folder of the server is named by its whole path.

    Parameters
    ----------
    url
        Path, or URL of an object store or server.
    allowed
        Folders and URLs below which it must lie; empty for no limits.

    Raises
    ------
    InvalidInputError
        If it is a path that depends on where the server was started, or a URL that holds a secret: it is written down.
    ForbiddenError
        If it lies elsewhere.
    """
    if local_path(url) is not None and not url.startswith(("/", "file:///")):
        raise InvalidInputError(f"a folder of the server is named by its whole path, not by {url!r}")
    check_shown(url)
    if allowed and not any(_below(url, each) for each in allowed):
        raise ForbiddenError(f"this server may not use {url}; it was started to use {', '.join(allowed)} alone")
    if is_served(url):
        split(url)
    return url


def check_shown(url: str) -> str:
    """Refuse a URL that holds a password: what a job is given is written down.

    Raises
    ------
    InvalidInputError
        Without repeating it.
    """
    try:
        named = urlsplit(url).password is not None
    except ValueError as e:
        raise InvalidInputError(f"a URL cannot be read: {e}") from e
    if named:
        raise InvalidInputError("a URL with a password would be written down for others to read: leave that out")
    return url


def _below(url: str, base: str) -> bool:
    path, folder = local_path(url), local_path(base)
    if path is not None or folder is not None:
        return path is not None and folder is not None and Path(path).resolve().is_relative_to(Path(folder).resolve())
    ours, theirs = urlsplit(url), urlsplit(base)
    if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc) or ".." in ours.path.split("/"):
        return False
    return f"{ours.path}/".startswith(f"{theirs.path.rstrip('/')}/")
