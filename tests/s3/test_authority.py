"""The tests of `tests/overlay/keys/test_authority.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.keys.test_authority import *  # noqa: F403
