"""Images: DVID's ``imageblk`` family, voxels of one number type in blocks; so far ``uint8blk``.

Another member of the family is one more line here and its two entry points.
"""

from __future__ import annotations

from vzarr.types.imageblk.handle import ImageBlk, Voxel, datatype

UINT8BLK = datatype("uint8blk", Voxel("u1"), "uint8.go", "0.2")

__all__ = ["UINT8BLK", "ImageBlk", "Voxel", "datatype"]
