"""That opening an instance looks for unfinished work once, and again after every commit."""

from __future__ import annotations

import pytest

import vzarr
from vzarr.types.labelmap import compose, rows, underway
from vzarr.types.labelmap.handle import LabelMap


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that looked."""
    made: list[str] = []
    for module, name in ((compose, "ensure"), (underway, "recover")):
        real = getattr(module, name)

        def noting(*given: object, name: str = name, real: object = real, **options: object) -> object:
            made.append(name)
            return real(*given, **options)  # type: ignore[operator]

        monkeypatch.setattr(module, name, noting)
    return made


def test_it_looks_again_only_when_somebody_has_committed(seg: LabelMap, looks: list[str]):
    version = seg.version
    version["seg"]
    del looks[:]
    version["seg"]
    assert not looks
    with vzarr.open(version.url) as other:  # another handle of the same store
        other[version.uuid]["seg"].merge(1, [2])
    del looks[:]
    assert version["seg"].find(1).supervoxels.tolist() == [1, 2]
    assert looks == ["ensure", "recover"]


def test_what_is_not_finished_is_looked_for_each_time(seg: LabelMap, looks: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(underway, "_finish_abandoned", lambda instance: False)  # its writer lives
    seg.transact(lambda tx: tx.put(rows.INTENT, b"somebody's"))
    for _ in range(2):
        del looks[:]
        seg.version["seg"]
        assert looks == ["ensure", "recover"]
