"""Batches as answers: their form by the query string, the same for every datatype that has them."""

from __future__ import annotations

import pytest

from tests.api.conftest import TestClient

FORMS = [
    ("", "application/octet-stream"),
    ("?json=true", "application/json"),
    ("?tar=true", "application/tar"),
    ("?jsontar=1", "application/tar"),
    ("?json=false&tar=on", "application/tar"),
]


@pytest.fixture(params=["keyvalue", "neuronjson"])
def path(request: pytest.FixtureRequest, client: TestClient, root: str) -> str:
    made = client.post(f"/api/repo/{root}/instance", json={"typename": request.param, "dataname": "d"})
    assert made.status_code == 200
    assert client.post(f"/api/node/{root}/d/key/5?u=me", content=b'{"bodyid":5}').status_code == 200
    return f"/api/node/{root}/d/keyrangevalues/0/9"


@pytest.mark.parametrize(("query", "kind"), FORMS)
def test_the_form_is_named_by_the_query(client: TestClient, path: str, query: str, kind: str):
    answer = client.get(path + query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert b'{"bodyid":5}' in answer.content


def test_two_forms_at_once_are_refused(client: TestClient, path: str):
    answer = client.get(path + "?json=true&jsontar=true")
    assert (answer.status_code, answer.text[:47]) == (400, "can only specify one of json=true and tar=true ")
