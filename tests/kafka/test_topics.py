"""Names of topics are DVID's."""

from __future__ import annotations

import pytest

from vzarr.errors import InvalidInputError
from vzarr.kafka.topics import Topics

ROOT, DATA = "a" * 32, "d" * 32


def test_names():
    topics = Topics(host="emdata3")
    assert topics.of_repo(ROOT) == f"dvidrepo-{ROOT}-repo-ops"
    assert topics.of_instance(ROOT, DATA) == f"dvidrepo-{ROOT}-data-{DATA}"
    assert topics.of_activity == "dvidactivity-emdata3"


def test_names_that_were_asked_for():
    topics = Topics("lab.", (f"{DATA}:seg",), "ours: requests!", "emdata3")
    assert topics.of_repo(ROOT) == f"lab.dvidrepo-{ROOT}-repo-ops"
    assert topics.of_instance(ROOT, DATA) == f"lab.dvidrepo-{ROOT}-data-{DATA}-seg"
    assert topics.of_instance(ROOT, "e" * 32) == f"lab.dvidrepo-{ROOT}-data-{'e' * 32}"
    assert topics.of_activity == "ours-requests-"


@pytest.mark.parametrize(
    "wrong", [{"prefix": "a b"}, {"prefix": "x" * 200}, {"suffixes": ("seg",)}, {"suffixes": (f"{DATA}:a/b",)}]
)
def test_names_that_no_broker_takes(wrong: dict):
    with pytest.raises(InvalidInputError):
        Topics(**wrong)
