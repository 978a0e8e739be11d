"""The tests of `tests/overlay/test_merge.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.test_merge import *  # noqa: F403
