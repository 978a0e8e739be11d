"""Bodies and edits of a labelmap as lists and pandas tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from vzarr.overlay import dag
from vzarr.types import mutations
from vzarr.types.labelmap import rows
from vzarr.types.labelmap.rows import Header

if TYPE_CHECKING:
    import pandas as pd

    from vzarr.types.labelmap.view import LabelView

_COMMON = {"Action", "MutationID", "UUID", "Timestamp", "User", "App"}


def changes(view: LabelView, since: str | None = None) -> list[dict[str, Any]]:
    """Records of the edits that a version saw and an earlier one did not, oldest first.

    Parameters
    ----------
    since
        Ref of the earlier version, whose own edits are left out; None for all edits.
    """
    repo, state = view.version.repo, view.version.repo.state
    known = set() if since is None else set(dag.ancestry(repo.resolve(since), state.parents))
    new = [node for node in dag.ancestry(view.version.uuid, state.parents) if node not in known]
    found = [orjson.loads(record) for node in new for record in mutations.read(view, node)]
    return sorted(found, key=lambda record: int(record["MutationID"]))


def bodies_frame(view: LabelView) -> pd.DataFrame:
    """Bodies, ascending: ``voxels`` and the last edit as ``mutation_id``, ``time``, ``user``, ``app``."""
    import pandas as pd  # it costs a third of a second, and comes with xarray

    found = [
        (int.from_bytes(k[1:], "big"), Header.decode(v)) for k, v in view.keys.scan(*rows.class_range(rows.HEADER))
    ]
    headers = [header for _, header in found]
    columns: dict[str, Any] = {
        "voxels": np.array([h.voxels for h in headers], np.uint64),
        "mutation_id": np.array([h.mutation_id for h in headers], np.uint64),
        "time": pd.to_datetime([h.time or None for h in headers], utc=True),
        "user": [h.user for h in headers],
        "app": [h.app for h in headers],
    }
    labels = np.array([body for body, _ in found], np.uint64)
    return pd.DataFrame(columns, index=pd.Index(labels, name="body"))


def mutations_frame(view: LabelView, since: str | None = None) -> pd.DataFrame:
    """Edits as `changes` gives them: ``action``, ``time``, ``user``, ``app``, ``version`` and the rest as ``details``.

    The rest stays a dictionary: as columns with gaps, 64-bit labels would become floats.
    """
    import pandas as pd  # it costs a third of a second, and comes with xarray

    records = changes(view, since)
    columns: dict[str, Any] = {
        "action": [r["Action"].removesuffix("-complete") for r in records],
        "time": pd.to_datetime([r["Timestamp"] for r in records], utc=True, format="ISO8601"),
        "user": [r.get("User", "") for r in records],
        "app": [r.get("App", "") for r in records],
        "version": [r["UUID"] for r in records],
        "details": [{k: v for k, v in r.items() if k not in _COMMON} for r in records],
    }
    numbers = np.array([r["MutationID"] for r in records], np.uint64)
    return pd.DataFrame(columns, index=pd.Index(numbers, name="mutation_id"))
