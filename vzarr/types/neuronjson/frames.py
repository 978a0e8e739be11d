"""Records of a neuronjson as a pandas table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import orjson

from vzarr.types.neuronjson.records import Shown
from vzarr.types.neuronjson.search import Found

if TYPE_CHECKING:
    import pandas as pd


def records_frame(found: Iterable[Found], shown: Shown) -> pd.DataFrame:
    """Records as rows by ``bodyid``, with a column for each field that one of them has; None where it is missing.

    Columns are of Python objects, so that an integer of 64 bits beside a gap stays one.
    """
    import pandas as pd  # it costs a third of a second, and comes with xarray

    bodies, records = [], []
    for body, content in found:
        bodies.append(body)
        records.append(shown.of(orjson.loads(content)))
    names = sorted({field for record in records for field in record} - {"bodyid"})
    index = pd.Index(np.array(bodies, np.uint64), name="bodyid")
    columns = {name: pd.Series([r.get(name) for r in records], index, dtype=object) for name in names}
    return pd.DataFrame(columns, index=index)
