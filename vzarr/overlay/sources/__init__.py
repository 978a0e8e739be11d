"""Volumes that a repo shows in place: readers of other formats, and what makes any of them a Zarr array.

A format is a module with three functions:

``detect(files) -> bool``
    Whether the folder that `files` opens is of this format; reads at most a few small objects.
``open_volume(files) -> Volume``
    The source with its scales (`base.Volume`); raises `InvalidInputError` or `UnsupportedError` with a message that
    names the URL and says what was wrong.
``open_array(files, locator) -> SourceArray | ChunkReader``
    One array again, from the locator that it gave; reads its metadata.  Raises `StorageError` naming the URL when
    the source is gone.
"""
