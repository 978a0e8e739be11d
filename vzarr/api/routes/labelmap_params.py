"""What the routes of labelmaps ask for in common: ids in paths and bodies, bounds, the check of a body's hash."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, Query
from numpy.typing import NDArray

from vzarr.api import deps, params
from vzarr.errors import InvalidInputError
from vzarr.types.labelmap import volumes
from vzarr.types.labelmap.arguments import check_label
from vzarr.types.labelmap.handle import LabelMap
from vzarr.types.labelmap.runs import Bounds

_LARGEST = (1 << 64) - 1

Handle = Annotated[LabelMap, Depends(deps.instance)]
Body = Annotated[bytes, Depends(deps.body)]
JsonBody = Annotated[Any, Depends(deps.json_body)]
User = Annotated[str, Depends(deps.user)]
App = Annotated[str, Depends(deps.app_name)]


async def _label(label: str) -> int:
    number = params.parse_uint64(label)
    check_label(number)
    return number


async def _supervoxels(supervoxels: Annotated[str | None, Query()] = None) -> bool:
    return params.parse_bool(supervoxels)


async def _scale(scale: Annotated[str | None, Query()] = None) -> int:
    return params.parse_scale(scale)


async def _indexed(handle: Handle) -> None:
    handle.check_indexed()


async def _checked_body(body: Body, hash: Annotated[str | None, Query()] = None) -> bytes:
    """Body whose MD5 is ``?hash=``, if that is given."""
    if hash is not None and hashlib.md5(body, usedforsecurity=False).hexdigest() != hash:
        raise InvalidInputError(f'the hash of the body is not the given "{hash}"')
    return body


CheckedBody = Annotated[bytes, Depends(_checked_body)]


async def _ids(body: CheckedBody) -> list[int]:
    return ids_of(deps.parse_json(body))


async def _points(body: CheckedBody) -> NDArray[np.int64]:
    return params.points_zyx(deps.parse_json(body))


async def _bounds(
    minx: str = "", miny: str = "", minz: str = "", maxx: str = "", maxy: str = "", maxz: str = ""
) -> Bounds:
    """Box of voxels, corners included, by ``?minx=`` to ``?maxz=``; a side that is not given is open."""

    def corner(**sides: str) -> tuple[int | None, ...]:
        return tuple(params.parse_int(text, name) if text else None for name, text in sides.items())

    return volumes.parse_bounds(corner(minz=minz, miny=miny, minx=minx), corner(maxz=maxz, maxy=maxy, maxx=maxx))


def ids_of(value: Any, what: str = "labels") -> list[int]:
    """`value` if it is a JSON list of labels.

    Raises
    ------
    InvalidInputError
        If it is anything else.
    """
    if not isinstance(value, list) or not set(map(type, value)) <= {int} or not _are_labels(value):
        raise InvalidInputError(f"the body should be a JSON list of {what}")
    return value


def _are_labels(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) >= 0 and max(numbers) <= _LARGEST)


Label = Annotated[int, Depends(_label)]
AsSupervoxels = Annotated[bool, Depends(_supervoxels)]
Scale = Annotated[int, Depends(_scale)]
Ids = Annotated[list[int], Depends(_ids)]
Points = Annotated[NDArray[np.int64], Depends(_points)]
InBounds = Annotated[Bounds, Depends(_bounds)]
INDEXED = [Depends(_indexed)]
