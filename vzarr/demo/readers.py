"""Reading versions back in every way that needs no server, and one that must not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

import vzarr
from vzarr.demo.neuropil import Neuropil
from vzarr.demo.proofread import promise
from vzarr.errors import VzarrError

ARRAY = "grayscale/0"


def check_readers(repo: Path, tissue: Neuropil, root: str, child: str) -> list[str]:
    """Read two versions in every way and compare them with what they should be.

    Parameters
    ----------
    repo
        Folder of the repo.
    tissue
        What the root was made of; the child differs in its first plane.
    root, child
        Ids of the versions.

    Returns
    -------
    list of str
        One line for each way, as a person would write it.

    Raises
    ------
    VzarrError
        A way shows something else, or one that must be refused is not.
    """
    expected = {root: tissue.grayscale, child: None}
    lines = []
    for version, gray in expected.items():
        ways = _ways(repo, version)
        first = next(iter(ways.values()))
        for line, found in ways.items():
            promise(np.array_equal(found, first if gray is None else gray), f"{line} shows the version whole")
            lines.append(f"read without a server: {line}")
        below = np.array_equal(first[1:], tissue.grayscale[1:])
        promise(below and (version == root) == bool((first[0] == tissue.grayscale[0]).all()), "only the child changed")
    plain = zarr.open_array(repo / "nodes" / root / "zarr" / ARRAY, mode="r")
    promise(np.array_equal(np.asarray(plain[...]), tissue.grayscale), "the root's folder is plain Zarr")
    lines.append(f'read with zarr alone: zarr.open(".../nodes/{root[:8]}.../zarr")')
    lines.append(f"refused by zarr alone, as it should: {_refusal(repo / 'nodes' / child / 'zarr' / ARRAY)}")
    return lines


def _ways(repo: Path, version: str) -> dict[str, NDArray[Any]]:
    """What each way of reading shows of the grayscale, by how it is written."""
    ref = version[:8]
    with vzarr.open(str(repo)) as opened:
        node = opened[version]
        by_store = np.asarray(zarr.open_array(node.store, path=ARRAY, mode="r")[...])
        by_group = np.asarray(node.zarr[ARRAY][...])  # type: ignore[index]
    with xr.open_dataset(repo, engine="vzarr", version=version, instance="grayscale") as dataset:
        by_xarray = dataset["grayscale"].values
    mapper = fsspec.get_mapper(f"vzarr://{version}@/{ARRAY}::{repo.as_uri()}")
    by_mapper = np.asarray(zarr.open_array(mapper, mode="r")[...])
    return {
        f'vzarr.open(REPO)["{ref}"].zarr["{ARRAY}"]': by_group,
        f'zarr.open(vzarr.open(REPO)["{ref}"].store)': by_store,
        f'xarray.open_dataset(REPO, engine="vzarr", version="{ref}")': by_xarray,
        f'fsspec.get_mapper("vzarr://{ref}@/{ARRAY}::file://REPO")': by_mapper,
    }


def _refusal(folder: Path) -> str:
    """What zarr says about an inheriting node's array, which alone would be full of holes.

    Raises
    ------
    VzarrError
        It opens it.
    """
    try:
        zarr.open_array(folder, mode="r")
    except Exception as error:  # noqa: BLE001  whatever a foreign reader raises is a refusal
        return f"{type(error).__name__}: {error}".splitlines()[0]
    raise VzarrError("a promise does not hold: zarr alone refuses a folder that inherits")
