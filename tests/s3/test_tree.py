"""The tests of `tests/overlay/hierarchy/test_tree.py`, on a real S3 server: they take the fixtures of this folder."""

from tests.overlay.hierarchy.test_tree import *  # noqa: F403
