"""How a post changes a record, what may be posted, and what is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzarr.errors import InvalidInputError
from vzarr.types.neuronjson import records, rows
from vzarr.types.neuronjson.records import Post, Shown

OLD = {"bodyid": 1, "type": "KC", "type_user": "ann", "type_time": "then", "n": 1, "n_user": "bob", "n_time": "then"}
NOW = {"user": "carol", "time": "now"}


def _post(posted: dict, **how) -> dict:
    return Post(**NOW, **how).apply(OLD, {"bodyid": 1, **posted})


def test_what_is_not_posted_stays():
    assert _post({}) == OLD
    assert _post({"size": 2}) == {**OLD, "size": 2, "size_user": "carol", "size_time": "now"}


def test_only_what_changes_gets_a_new_user_and_time():
    found = _post({"type": "KC", "n": 2})
    assert found == {**OLD, "n": 2, "n_user": "carol", "n_time": "now"}
    # A number of another kind, or a truth value, is a change.
    assert [_post({"n": n})["n_user"] for n in (1, 1.0, True)] == ["bob", "carol", "carol"]


def test_a_post_may_say_itself_who_and_when():
    found = _post({"n": 2, "n_user": "dave", "n_time": "2020"})
    assert (found["n_user"], found["n_time"]) == ("dave", "2020")
    assert _post({"type": "KC", "type_user": "dave"})["type_user"] == "dave"


def test_null_takes_a_field_away_and_says_who_did():
    found = _post({"n": None})
    assert "n" not in found
    assert (found["n_user"], found["n_time"]) == ("carol", "now")
    # Nobody says who of who; and the fields of the body and of the user himself have no companions.
    found = _post({"n_user": None, "user": "x"})
    assert "n_user" not in found
    assert "user_user" not in found
    assert found["user"] == "x"


def test_a_conditional_field_keeps_what_it_has():
    found = _post({"n": 2, "new": 3}, conditional=("n", "new"))
    assert (found["n"], found["n_user"], found["new"], found["new_user"]) == (1, "bob", 3, "carol")
    assert _post({"n": None}, conditional=("n",))["n"] == 1


def test_replacing_drops_what_is_not_posted_and_remembers_what_is_the_same():
    found = _post({"type": "KC", "n": 2}, replace=True)
    expected = {**OLD, "n": 2, "n_user": "carol", "n_time": "now"}
    assert found == expected
    assert _post({"type": "KC"}, replace=True) == {k: v for k, v in OLD.items() if not k.startswith("n")}


@pytest.mark.parametrize(
    ("posted", "said"),
    [
        ([1], "JSON object, not list"),
        ({}, "must have 'bodyid' field"),
        ({"bodyid": 2}, "'bodyid' is 2 in the record of body 1"),
        ({"bodyid": "1"}, "'bodyid' is '1'"),
        ({"bodyid": 1.0}, "'bodyid' is 1.0"),
        ({"bodyid": True}, "'bodyid' is True"),
        ({"bodyid": 1, "bodyid_user": "x"}, "cannot have the field 'bodyid_user'"),
        ({"bodyid": 1, "": 2}, "1 to 255 bytes"),
        ({"bodyid": 1, "a" * 256: 2}, "1 to 255 bytes"),
        ({"bodyid": 1, "a\0b": 2}, "none of them zero"),
        ({"bodyid": 1, "\ud800": 2}, "UTF-8"),
        ({"bodyid": 1, 5: 2}, "named by a string"),
        ({"bodyid": 1, "x": {1, 2}}, "should be JSON"),
        ({"bodyid": 1, "x": 1 << 64}, "should be JSON"),
    ],
)
def test_what_cannot_be_posted(posted: object, said: str):
    with pytest.raises(InvalidInputError, match=said):
        records.checked(posted, 1)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"bodyid": 1, "x": NaN}', b"[" * 5000, b'{"bodyid":1,"x":1e999}']
)
def test_malformed_json(content: bytes):
    with pytest.raises(InvalidInputError, match="should be a JSON object"):
        records.decode(content, 1)


def test_json_that_is_nested_too_deep():
    content = b'{"bodyid": 1, "x": ' + b"[" * 500 + b"]" * 500 + b"}"
    with pytest.raises(InvalidInputError, match="should be JSON"):
        records.decode(content, 1)


@pytest.mark.parametrize("body", [0, -1, 1 << 64])
def test_bodies_that_cannot_be(body: int):
    with pytest.raises(InvalidInputError, match="between 1 and 18446744073709551615"):
        records.check_body(body)


def test_what_is_shown():
    bare = {"bodyid": 1, "type": "KC", "n": 1}
    assert Shown().of(OLD) == bare
    assert Shown(show="user").of(OLD) == {**bare, "type_user": "ann", "n_user": "bob"}
    assert Shown(show="all").of(OLD) == OLD
    assert Shown(("n",), "time").of(OLD) == {"bodyid": 1, "n": 1, "n_time": "then"}
    assert Shown(("n_user",)).of(OLD) == {"bodyid": 1, "n_user": "bob"}
    with pytest.raises(InvalidInputError, match="user, time or all"):
        Shown(show="everything")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
SCALARS = st.one_of(st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(allow_nan=False), TEXTS)


@given(SCALARS, SCALARS)
def test_terms_are_equal_where_values_are(a, b):
    same = a == b and isinstance(a, bool) is isinstance(b, bool)
    assert (rows.term(a) == rows.term(b)) is same


@given(st.integers(1, (1 << 64) - 1), TEXTS)
def test_index_rows_tell_body_and_text(body: int, text: str):
    (row,) = rows.index_rows({"bodyid": body, "type": text, "type_user": "x"})
    prefix = rows.field_prefix("type")
    assert row.startswith(prefix)
    assert rows.body_of(row) == body
    if row[len(prefix) :][:1] == rows.TEXT:
        assert rows.text_of(row, prefix) == text.encode()
    else:
        assert len(text.encode()) > rows.LONGEST_TEXT or "\0" in text


def test_every_field_has_an_index_row():
    values = [{}, {"a": 1}, [], [[]], [None], ["a", {}], list(range(5000))]
    found = [len(rows.index_rows({"bodyid": 1, "f": value})) for value in values]
    assert found == [1] * len(values)
