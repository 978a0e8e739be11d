"""neuronjson against a dictionary of dictionaries for each version, and queries against looking at every record."""

from __future__ import annotations

import uuid

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vzarr
from vzarr.errors import ConflictError
from vzarr.types import registry
from vzarr.types.neuronjson.handle import NeuronJson
from vzarr.types.neuronjson.queries import Query

BODIES = st.sampled_from([1, 2, 10, 255, 256, 1 << 63])
FIELDS = st.sampled_from(["type", "tags", "n", "type_user"])
LONG = "long " * 30
SCALARS = st.sampled_from(["KC", "KCa", "PN", "", "K\0C", LONG, 1, 2, 1.0, -3, 0.5, True])
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.just({"deep": 1}), st.none(), st.just(list(range(300))))
RECORDS = st.dictionaries(FIELDS, VALUES, max_size=3)
WANTED = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.sampled_from(["exists/0", "exists/1", "re/^K", "re/C", "re/^KC$", "re/long", "re/", "re/^P|K", 299]),
    st.just(["re/^P", 1]),
)
ALTERNATIVES = st.one_of(
    st.dictionaries(FIELDS, WANTED, max_size=2),
    st.fixed_dictionaries({"bodyid": st.one_of(BODIES, st.lists(BODIES, max_size=3))}, optional={"n": WANTED}),
)
QUERIES = st.one_of(ALTERNATIVES, st.lists(ALTERNATIVES, min_size=1, max_size=3))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), BODIES, RECORDS),
        st.tuples(st.just("replace"), BODIES, RECORDS),
        st.tuples(st.just("delete"), BODIES, st.just({})),
        st.tuples(st.sampled_from(["next", "branch", "merge"]), BODIES, st.just({})),
    ),
    max_size=20,
)
Model = dict[int, dict]


def _open(version: vzarr.Version) -> NeuronJson:
    return registry.open_instance(version, "neurons")


def _told(record: dict) -> dict:
    """A record but for the times in it."""
    return {field: value for field, value in record.items() if not field.endswith("_time")}


def _apply(model: Model, step: str, body: int, fields: dict) -> None:
    """What a post by ``u`` or a deletion does, said as plainly as can be."""
    old = model.pop(body, {}) if step == "delete" else model.get(body, {})
    if step == "delete":
        return
    new = {"bodyid": body} if step == "replace" else {"bodyid": body, **old}
    for field, value in fields.items():
        if field.endswith("_user"):
            continue
        new[field] = value
        same = field in old and orjson.dumps(old[field]) == orjson.dumps(value) and value is not None
        who = old.get(f"{field}_user") if same else "u"
        if f"{field}_user" not in fields and who is not None:
            new[f"{field}_user"] = who
    new |= {field: value for field, value in fields.items() if field.endswith("_user")}
    model[body] = {field: value for field, value in new.items() if value is not None}


def _asked(model: Model, query: object) -> list[int]:
    """Bodies that a query asks for, by looking at every record."""
    parsed = Query.parse(query)
    found = [body for body in sorted(model) if parsed.holds(model[body])]
    order = parsed.bodies()
    return found if order is None else [body for body in order if body in found]


def _check(version: vzarr.Version, model: Model, queries: list) -> None:
    neurons = _open(version)
    assert neurons.bodies() == sorted(model)
    assert {body: _told(orjson.loads(content)) for body, content in neurons.items()} == model
    for query in queries:
        assert [record["bodyid"] for record in neurons.query(query)] == _asked(model, query)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.lists(QUERIES, min_size=1, max_size=6))
def test_every_version_keeps_its_own_records_and_finds_them(steps, queries):
    repo = vzarr.create(f"memory://{uuid.uuid4().hex}")
    registry.create(repo.root, "neurons", "neuronjson")
    # Open versions, the one that is written last; what each sees.
    open_versions: list[tuple[vzarr.Version, Model]] = [(repo.root, {})]
    sealed: list[tuple[vzarr.Version, Model]] = []
    for number, (step, body, fields) in enumerate(steps):
        version, model = open_versions[-1]
        if step in ("put", "replace"):
            _open(version).put(body, {"bodyid": body, **fields}, user="u", replace=step == "replace")
            _apply(model, step, body, fields)
        elif step == "delete":
            _open(version).delete(body)
            _apply(model, step, body, fields)
        elif step == "merge" and len(open_versions) == 2:
            open_versions = [_merged(repo, open_versions)]
        elif step != "merge":
            version.commit()
            sealed.append((version, {b: dict(r) for b, r in model.items()}))
            if step == "branch" and len(open_versions) == 1:
                open_versions.append((version.branch(f"b{number}"), {b: dict(r) for b, r in model.items()}))
                open_versions[0] = (version.newversion(), model)
            else:
                open_versions[-1] = (version.newversion(), model)
    for version, model in [*sealed, *open_versions]:
        _check(version, model, queries)
    repo.close()


def _merged(repo: vzarr.Repo, sides: list[tuple[vzarr.Version, Model]]) -> tuple[vzarr.Version, Model]:
    """Merge two open versions, the first winning where both changed a record; what the merge sees is looked up."""
    for version, _ in sides:
        version.commit()
    child = repo.merge([version.uuid for version, _ in sides], strategy="ours")
    neurons = _open(child)
    model = {body: _told(orjson.loads(content)) for body, content in neurons.items()}
    for body, record in model.items():
        assert record in [side.get(body) for _, side in sides]
    return child, model


def test_records_changed_on_both_sides_are_named(repo, neurons):
    for body in (1, 2, 3):
        neurons.put(body, {"bodyid": body, "type": "A"}, user="u")
    repo.root.commit()
    left, right = repo.root.newversion(), repo.root.branch("right")
    _open(left).put(1, {"bodyid": 1, "type": "L"}, user="u")
    _open(right).put(1, {"bodyid": 1, "type": "R"}, user="u")
    _open(left).put(2, {"bodyid": 2, "type": "L"}, user="u")
    _open(right).put(4, {"bodyid": 4, "type": "R"}, user="u")
    left.commit()
    right.commit()
    with pytest.raises(ConflictError, match="neurons: key '1'") as caught:
        repo.merge([left.uuid, right.uuid])
    assert [conflict.key for conflict in caught.value.conflicts] == ["1"]
