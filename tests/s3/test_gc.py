"""The tests of `tests/overlay/care/test_gc.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.care.test_gc import *  # noqa: F403
