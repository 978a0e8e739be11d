"""Settings of a labelmap, and what DVID's JSON says about one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vzarr.errors import InvalidInputError
from vzarr.types import settings, voxels
from vzarr.types.labelmap import allocate

if TYPE_CHECKING:
    from vzarr.types.base import Instance

_DEFAULT_BLOCK = 64
_BLOCK_MULTIPLE = 16
_CHANNELS = ({"DataType": "uint64", "Label": "labelmap"},)


def configure(config: Mapping[str, str]) -> dict[str, str]:
    """Check the settings of a new labelmap and fill in their defaults.

    Raises
    ------
    InvalidInputError
        If a setting is wrong.
    """
    geometry = voxels.configure(config, block=_DEFAULT_BLOCK, multiple=_BLOCK_MULTIPLE, scales=True)
    indexed = settings.boolean(config, "indexedlabels", True)
    return {**geometry, "indexedlabels": str(indexed).lower()}


def is_indexed(instance: Instance) -> bool:
    """Whether a labelmap has a label index (the setting ``IndexedLabels``)."""
    return instance.config["indexedlabels"] == "true"


def changed_config(instance: Instance, config: Mapping[str, Any]) -> dict[str, str]:
    """All settings after some were changed.

    Raises
    ------
    InvalidInputError
        If a setting is wrong, or the block size would change, which stored chunks have.
    """
    changed = instance.datatype.check({**instance.config, **settings.lower_keys(config)})
    if changed["blocksize"] != instance.config["blocksize"]:
        raise InvalidInputError("the block size of an instance cannot be changed")
    return changed


def extended_json(instance: Instance) -> dict[str, Any]:
    """The part ``Extended`` of DVID's JSON (DVID HTTP API, ``GET D/info``); ``MaxLabel`` of this version only."""
    given = allocate.read(instance)
    largest = allocate.max_label(instance)
    return {
        **voxels.extended_json(instance, _CHANNELS, interpolable=False),
        "MaxLabel": {str(instance.version.info.version_id): largest} if largest else {},
        "MaxRepoLabel": given.largest,
        "NextLabel": given.given,
        "IndexedLabels": is_indexed(instance),
        "MaxDownresLevel": voxels.VoxelGeometry.of(instance.config).max_scale,
    }
