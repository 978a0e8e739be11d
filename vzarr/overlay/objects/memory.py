"""Objects in the memory of this process, for tests and for what need not last."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from vzarr.overlay.objects.base import Objects


class MemoryObjects(Objects):
    """Objects in this process's memory; stores of the same name share them."""

    _named: dict[str, tuple[dict[str, bytes], threading.RLock]] = {}  # noqa: RUF012 - shared on purpose
    _naming = threading.Lock()

    def __init__(self, name: str) -> None:
        super().__init__(f"memory://{name}")
        with self._naming:
            self._objects, self._lock = self._named.setdefault(name, ({}, threading.RLock()))

    def fetch(self, key: str, offset: int = 0, length: int | None = None) -> tuple[bytes, int] | None:
        """Slice an object (see `Objects.fetch`)."""
        data = self._objects.get(key)
        if data is None:
            return None
        size = len(data)
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        if start == 0 and (length is None or length >= size):
            return data, size
        return data[start : size if length is None else start + length], size

    def put(self, key: str, data: bytes, *, stage: str = "tmp") -> None:
        """Replace an object."""
        with self._lock:
            self._objects[key] = bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        """Add an object under a free key."""
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = bytes(data)
            return True

    def delete(self, key: str) -> None:
        """Forget an object."""
        with self._lock:
            self._objects.pop(key, None)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys below a prefix."""
        folder = f"{prefix}/" if prefix else ""
        with self._lock:
            found = sorted((k, len(v)) for k, v in self._objects.items() if k.startswith(folder))
        yield from found

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """First parts of the keys below a prefix."""
        cut = len(prefix) + 1 if prefix else 0
        dirs: set[str] = set()
        files: set[str] = set()
        for key, _ in self.walk(prefix):
            head, sep, _rest = key[cut:].partition("/")
            (dirs if sep else files).add(head)
        return sorted(dirs), sorted(files)

    def delete_tree(self, prefix: str) -> None:
        """Forget every object below a prefix."""
        with self._lock:
            for key, _ in list(self.walk(prefix)):
                del self._objects[key]

    def move(self, source: str, target: str) -> None:
        """Rename an object."""
        with self._lock:
            self._objects[target] = self._objects.pop(source)

    def rename_tree(self, source: str, target: str) -> None:
        """Rename every object below a prefix."""
        with self._lock:
            for key, _ in list(self.walk(source)):
                self._objects[target + key[len(source) :]] = self._objects.pop(key)
