"""The tests of `tests/overlay/extract/test_duplicate.py` on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.extract.test_duplicate import *  # noqa: F403
