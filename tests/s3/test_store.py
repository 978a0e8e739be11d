"""The tests of `tests/overlay/test_store.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.test_store import *  # noqa: F403
