"""A root all of whose keys are files of the same name: it is listed without knowing its arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from vzarr.overlay.views.base import View
from vzarr.overlay.views.paths import is_folder
from vzarr.overlay.views.rootview import RootView


def is_plain(view: View) -> TypeGuard[RootView]:
    """Whether every key is a file of the same name: no array need be known to find a chunk."""
    return isinstance(view, RootView) and not view.known_marked


def keys(view: RootView, prefix: str) -> Iterator[str]:
    """Every key that starts with `prefix`, read as text."""
    folder = prefix.rpartition("/")[0]
    if is_folder(folder):
        found = (key[len(view.folder) + 1 :] for key, _size in view.storage.objects.walk(_place(view, folder)))
        yield from (key for key in found if key.startswith(prefix))


def names(view: RootView, folder: str) -> list[str]:
    """Names of keys and folders directly below a folder, sorted."""
    if not is_folder(folder):
        return []
    folders, files = view.storage.objects.list_dir(_place(view, folder))
    return sorted({*folders, *files})


def _place(view: RootView, folder: str) -> str:
    return f"{view.folder}/{folder}" if folder else view.folder
