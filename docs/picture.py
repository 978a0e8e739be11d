"""Draws the README's picture from the folder that `vzarr demo` leaves behind.

vzarr demo vzarr-demo --no-serve && python docs/picture.py vzarr-demo docs/images/demo.png
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import matplotlib as mpl
import numpy as np

import vzarr

mpl.use("agg")
from matplotlib import pyplot as plt

PLANE = 128


def colours(labels: np.ndarray) -> np.ndarray:
    """Each label in a colour of its own (RGB), the background black, borders between labels dark."""
    known, places = np.unique(labels, return_inverse=True)
    hues = (known.astype(np.float64) * 0.61803398875) % 1
    palette = mpl.colors.hsv_to_rgb(np.stack([hues, np.full_like(hues, 0.65), np.where(known, 0.9, 0)], axis=-1))
    image = palette[places.reshape(labels.shape)]
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    image[edge] *= 0.35
    return image


def draw(folder: Path, target: Path) -> None:
    """Three panels of one plane: the image, the bodies as ingested, the bodies after proofreading."""
    with closing(vzarr.open(str(folder / "repos" / "neuropil"))) as repo:
        before, after = repo.root, repo["master"]
        gray = np.asarray(after.zarr["grayscale/0"][PLANE])
        lo, hi = (PLANE, 0, 0), (PLANE + 1, *gray.shape)
        bodies = [version["segmentation"].read(lo, hi)[0] for version in (before, after)]
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), dpi=110)
    titles = "grayscale", f"{before.uuid[:8]}: as ingested", f"{after.uuid[:8]}: proofread"
    for axis, image, title in zip(axes, [gray, *map(colours, bodies)], titles, strict=True):
        axis.imshow(image, cmap="gray", interpolation="nearest")
        axis.set_title(title, fontsize=9, pad=4)
        axis.axis("off")
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.91, wspace=0.02)
    figure.savefig(target, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
