"""What OME-Zarr's ``multiscales`` say of a group of scales, read from any of the versions 0.1 to 0.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vzarr.errors import InvalidInputError


@dataclass(frozen=True)
class Multiscale:
    """The first image of a group.

    Parameters
    ----------
    paths
        Arrays below the group, finest first.
    axes, units
        Names, and UDUNITS-2 names or None, in array order; empty where the version does not tell.
    scales, translations
        Per array the size of a voxel and the centre of the first one; empty where nothing is said.
    labels
        True for a segmentation, None where it is not said.
    attributes
        All other attributes of the group.
    """

    paths: Sequence[str]
    axes: Sequence[str]
    units: Sequence[str | None]
    scales: Sequence[Sequence[float]]
    translations: Sequence[Sequence[float]]
    labels: bool | None
    attributes: Mapping[str, Any]


def parse(attributes: Mapping[str, Any], url: str) -> Multiscale | None:
    """Multiscale metadata among a group's attributes, or None without.

    Raises
    ------
    InvalidInputError
        If they are there but damaged.
    """
    holder = attributes.get("ome") if isinstance(attributes.get("ome"), dict) else attributes
    if not holder or not holder.get("multiscales"):
        return None
    try:
        return _parsed(attributes, holder, holder["multiscales"][0])
    except (LookupError, TypeError, ValueError, AttributeError) as e:
        raise InvalidInputError(f"{url}: its OME-Zarr multiscales are damaged: {e!r}") from e


def _parsed(attributes: Mapping[str, Any], holder: Mapping[str, Any], image: Mapping[str, Any]) -> Multiscale:
    datasets = image["datasets"]
    if any({"..", "."} & set(str(d["path"]).split("/")) for d in datasets):
        raise ValueError("a path that leads out of the group")
    axes = [a if isinstance(a, str) else a["name"] for a in image.get("axes", ())]
    units = [None if isinstance(a, str) else a.get("unit") for a in image.get("axes", ())]
    pairs = [_combined([*d.get("coordinateTransformations", ()), *_of(image)], len(axes)) for d in datasets]
    known = bool(axes) and any("coordinateTransformations" in d for d in datasets)
    rest = {k: v for k, v in holder.items() if k not in ("multiscales", "version")}
    kept = {**{k: v for k, v in attributes.items() if k != "ome"}, **({"ome": rest} if rest else {})}
    return Multiscale(
        [str(d["path"]).strip("/") for d in datasets],
        axes,
        units,
        [scale for scale, _ in pairs] if known else [],
        [shift for _, shift in pairs] if known else [],
        True if "image-label" in holder else None,
        kept if holder is not attributes else rest,
    )


def _of(image: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = image.get("coordinateTransformations", ())
    return found


def _combined(steps: Sequence[Mapping[str, Any]], ndim: int) -> tuple[list[float], list[float]]:
    """Scale and translation that several steps come to, one after the other."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    for step in steps:
        if step["type"] == "scale":
            factor = [float(v) for v in step["scale"]]
            scale = [a * b for a, b in zip(scale, factor, strict=True)]
            shift = [a * b for a, b in zip(shift, factor, strict=True)]
        elif step["type"] == "translation":
            shift = [a + float(b) for a, b in zip(shift, step["translation"], strict=True)]
        elif step["type"] != "identity":
            raise ValueError(f"unknown transformation {step['type']!r}")
    return scale, shift
