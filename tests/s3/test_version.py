"""The tests of `tests/overlay/test_version.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.test_version import *  # noqa: F403
