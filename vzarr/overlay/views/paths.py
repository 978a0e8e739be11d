"""What may stand where in a version's hierarchy, checked before anything is written, and what a path stands for."""

from __future__ import annotations

import re

from vzarr.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from vzarr.geometry import Coord
from vzarr.overlay.hierarchy.arrays import group_like
from vzarr.overlay.hierarchy.tree import DOC_NAMES, V3_DOC, ArrayEntry, above, array_of
from vzarr.overlay.views.base import View

_NO_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\0\n]")
_HALF = re.compile("[\ud800-\udfff]")


def is_key(key: str) -> bool:
    """Whether a text can name an object.

    Not with an empty part, ``.`` or ``..``, which lead out of the hierarchy; nor with a line break, at which lists of
    checksums would break, NUL, or half a surrogate pair: so file names appear that are no UTF-8.
    """
    return not _NO_KEY.search(key) and (key.isascii() or not _HALF.search(key))


def is_folder(path: str) -> bool:
    """Whether a text can name a folder: a key, or nothing for the whole hierarchy."""
    return not path or is_key(path)


def check_key(key: str) -> None:
    """Refuse what is no key.

    Raises
    ------
    InvalidInputError
        If `is_key` says so.
    """
    if not is_key(key):
        raise InvalidInputError(f"{key!r} is no key: it has an empty part, '.', '..', a line break, NUL or no UTF-8")


def check_path(path: str) -> None:
    """Refuse what can name no group and no array.

    Raises
    ------
    InvalidInputError
        If it is no key, has a backslash, which zarr takes for a slash, or a part that names metadata documents.
    """
    check_key(path)
    if "\\" in path:
        raise InvalidInputError(f"{path!r} has a backslash, which zarr takes for a slash")
    named = next((part for part in path.split("/") if part in DOC_NAMES), None)
    if named is not None:
        raise InvalidInputError(f"no group or array can be called {named!r}, as metadata documents are: {path!r}")


def check_new(view: View, path: str, *, is_array: bool) -> None:
    """Refuse a path at which no new group or array can stand.

    Raises
    ------
    InvalidInputError
        If it is no path, or lies inside an array or a Zarr 2 group, in which zarr would not find it.
    AlreadyExistsError
        If a group is to be made where an array is, or the other way round.
    """
    if path:
        check_path(path)
    view.look()
    inside = array_of(view.known, path) if path else None
    if inside is not None:
        raise InvalidInputError(f"{path!r} lies inside the array {inside[0]!r}")
    entry = view.entry(path)
    if entry is not None and isinstance(entry, ArrayEntry) != is_array:
        raise AlreadyExistsError(f"{path!r} is {'a group' if is_array else 'an array'} already")
    if entry is None:
        _check_format(view, path)


def _check_format(view: View, path: str) -> None:
    """Refuse to make something of Zarr 3 in a Zarr 2 group: zarr would not find it there."""
    for group in reversed(list(above(path))):
        entry = view.known.get(group)
        if entry is not None and V3_DOC not in entry.docs:
            where = f"{group!r} is a Zarr 2 group" if group else "this version is Zarr 2"
            raise InvalidInputError(f"{where}, in which zarr finds no Zarr 3: make {path!r} by zarr (version.zarr)")


def check_rename(view: View, source: str, target: str) -> dict[str, bytes]:
    """Refuse a rename that has no source, or no free target.

    Returns
    -------
    dict of str to bytes
        Documents of the groups above the target that are still to be made, by key: most readers find nothing that
        lies in no group.

    Raises
    ------
    NotFoundError
        If nothing is at the source.
    AlreadyExistsError
        If something is at the target, or below it.
    InvalidInputError
        If the target is no path, or lies inside the source or an array.
    """
    check_key(source)
    check_path(target)
    entry = view.entry(source)
    if entry is None:
        raise NotFoundError(f"nothing at {source!r} to rename")
    if view.holds(target):
        raise AlreadyExistsError(f"{target!r} exists already")
    if target.startswith(f"{source}/") or array_of(view.known, target) is not None:
        raise InvalidInputError(f"{target!r} lies inside {source!r} or an array")
    missing = (group for group in above(target) if group and view.entry(group) is None)
    return dict(group_like(group, entry) for group in missing)


def chunk_prefix(entry: ArrayEntry, rest: str) -> Coord | None:
    """Leading global chunk coordinates of a folder inside an array; None when no chunk lies below it."""
    spec = entry.spec
    if spec.separator != "/":
        return None
    if spec.prefix:
        if rest != "c" and not rest.startswith("c/"):
            return None
        rest = rest[2:]
    try:
        shown = tuple(map(int, rest.split("/"))) if rest else ()
    except ValueError:
        return None
    if len(shown) >= spec.ndim or "/".join(map(str, shown)) != rest or any(c < 0 for c in shown):
        return None
    return tuple(c + s for c, s in zip(shown, entry.shift, strict=False))
