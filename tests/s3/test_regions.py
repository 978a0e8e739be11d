"""The tests of `tests/overlay/test_regions.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.test_regions import *  # noqa: F403
