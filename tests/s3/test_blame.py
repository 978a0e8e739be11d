"""The tests of `tests/overlay/compare/test_blame.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.compare.test_blame import *  # noqa: F403
