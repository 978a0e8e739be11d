"""The tests of `tests/overlay/reading/test_regions.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.reading.test_regions import *  # noqa: F403
