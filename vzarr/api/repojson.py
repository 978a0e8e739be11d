"""DVID's JSON about a repo (`/api/repo/{uuid}/info`): its versions by small integers, and its instances."""

from __future__ import annotations

import logging
from typing import Any

from vzarr.errors import NotFoundError
from vzarr.overlay.history.state import NodeInfo, State
from vzarr.overlay.kv.mutationids import peek_mutation_id
from vzarr.overlay.repo import Repo
from vzarr.overlay.version import Version
from vzarr.types import registry

log = logging.getLogger(__name__)


def repo_json(repo: Repo) -> dict[str, Any]:
    """Repo as DVID shows it; parents and children are version ids, counted from 1 in the order of the log."""
    state = repo.state
    with repo.authority.kv.snapshot() as moment:
        next_id = peek_mutation_id(moment)
    return {
        "Root": state.root,
        "Alias": state.alias,
        "Description": state.description,
        "Log": list(state.log),
        "Properties": {},
        "DataInstances": instances_json(newest(repo)),
        "DAG": {
            "Root": state.root,
            "Nodes": {node.id: node_json(state, node) for node in state.nodes.values()},
        },
        "MutationID": next_id,
        "SavedMutationID": next_id,
        "Created": state.created,
        "Updated": state.updated,
    }


def newest(repo: Repo) -> Version:
    """Newest version of the default branch, at which DVID takes the extents that it shows for a repo."""
    return repo[(repo.branch_versions("master") or [repo.uuid])[0]]


def node_json(state: State, node: NodeInfo) -> dict[str, Any]:
    """One version of the graph."""
    return {
        "Branch": node.branch,
        "Note": node.note,
        "Log": list(node.log),
        "UUID": node.id,
        "VersionID": node.version_id,
        "Locked": node.sealed,
        "Parents": [state.nodes[parent].version_id for parent in node.parents],
        "Children": [state.nodes[child].version_id for child in state.children(node.id)],
        "Created": node.created,
        "Updated": node.updated,
    }


def instances_json(version: Version) -> dict[str, Any]:
    """Every instance by name, as seen from one version.

    One whose datatype is not installed is left out and logged, so that a missing package hides no repo.
    """
    found = {}
    for name, info in version.repo.state.instances.items():
        try:
            found[name] = registry.open_info(version, info).info_json()
        except NotFoundError as error:
            log.warning("left out instance %s: %s", name, error)
    return found
