"""The tests of `tests/overlay/compare/test_diff.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.compare.test_diff import *  # noqa: F403
