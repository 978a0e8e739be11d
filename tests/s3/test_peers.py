"""zarr's own contract of a Store and the random histories, on a real S3 server."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.peers.test_store_contract import TestChild as TestChild
from tests.peers.test_store_contract import TestInherited as TestInherited
from tests.peers.test_store_contract import TestRoot as TestRoot
from tests.properties import test_repo_model as model


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component of a Zarr hierarchy")
def test_random_histories(bucket: str):
    """The machine of `tests/properties`, its repos in a bucket and their keys on a disk."""

    class OnS3(model.RepoMachine):
        def settle(self) -> tuple[str, str | None]:
            return f"s3://{bucket}/{uuid.uuid4().hex[:12]}", f"sqlite:///{self.folder}/keys.sqlite"

    few = settings(
        model.SETTINGS, max_examples=20 if model.MANY else 3, stateful_step_count=20, phases=[Phase.generate]
    )
    run_state_machine_as_test(OnS3, settings=few)
