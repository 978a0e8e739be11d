"""The command line: each verb by what it prints and leaves behind, exit status and one-line errors."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from rich.console import Console

import vzarr
from tests.serving import TOKEN, serving, start, stop
from vzarr.cli import VERBS, application, main
from vzarr.cli.output import columns, print_table
from vzarr.overlay import layout
from vzarr.types import registry


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repo whose root version is sealed."""
    with closing(vzarr.create(str(tmp_path / "fly"), root="root", alias="fly")) as made:
        made["root"].create_array("volume", dtype="u1", chunks=(4, 4, 4))
        made["root"].write("volume", (0, 0, 0), np.arange(64, dtype="u1").reshape(4, 4, 4))
        made["root"].commit("the beginning", user="ada")
    return tmp_path / "fly"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def answer(capsys: pytest.CaptureFixture[str], *words: object):
    status, out, err = run(capsys, *words, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_explains_itself_by_example(verb: str, capsys: pytest.CaptureFixture[str]):
    status, out, _ = run(capsys, verb, "--help")
    assert status == 0
    assert "Examples:" in out
    assert f"vzarr {verb}" in out.split("Examples:")[1]


def test_the_verbs_are_those_of_the_python_face():
    promised = {"init", "ingest", "adopt", "log", "show", "commit", "newversion", "branch", "tag", "merge", "config"}
    care = {"diff", "blame", "verify", "gc", "du", "rebuild-keys", "migrate-keys", "flatten", "export-refs", "doctor"}
    labels = {"index", "agglomerate"}
    travel = {"clone", "push", "pull", "fetch"}
    instances = {"copy", "delete", "rename", "undelete"}
    assert promised | care | labels | travel | instances | {"serve", "demo", "types"} == set(VERBS)
    commands = application().registered_commands
    assert {command.callback.__name__.replace("_", "-") for command in commands} == set(VERBS)


def test_a_small_verb_loads_no_web_framework_and_no_viewer():
    code = "import sys; from vzarr.cli import main; main(['log', 'nowhere']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "uvicorn", "xarray", "pandas", "h5py", "neuroglancer"} & set(done.stdout.split())


def test_init_makes_a_repo(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = answer(capsys, "init", tmp_path / "new", "--alias", "n")
    with closing(vzarr.open(str(tmp_path / "new"))) as repo:
        assert (repo.uuid, repo.state.alias) == (made["root"], "n")


def test_a_second_init_leaves_the_first_alone(repo: Path, capsys: pytest.CaptureFixture[str]):
    before = answer(capsys, "log", repo)
    status, out, err = run(capsys, "init", repo)
    assert (status, out) == (1, "")
    assert err.startswith("vzarr: ")
    assert err.count("\n") == 1
    assert answer(capsys, "log", repo) == before


def test_versions_are_made_committed_tagged_and_merged(repo: Path, capsys: pytest.CaptureFixture[str]):
    child = answer(capsys, "newversion", repo, "-m", "round one")
    side = answer(capsys, "branch", repo, "side", "root", "-m", "what if")
    assert (child["parents"], side["parents"]) == (["root"], ["root"])
    assert (child["branch"], side["branch"], child["sealed"]) == ("master", "side", False)
    assert answer(capsys, "commit", repo, child["uuid"][:12], "-m", "done")["sealed"]
    assert answer(capsys, "commit", repo, "side")["sealed"]
    merged = answer(capsys, "merge", repo, "master", "side", "-m", "both")
    assert merged["parents"] == [child["uuid"], side["uuid"]]
    assert answer(capsys, "tag", repo, "v1", "side")["uuid"] == "v1"
    found = {row["uuid"]: row for row in answer(capsys, "log", repo)}
    assert set(found) == {"root", "v1", child["uuid"], side["uuid"], merged["uuid"]}
    assert found[child["uuid"]]["note"] == "done"


def test_log_of_a_version_is_its_ancestry(repo: Path, capsys: pytest.CaptureFixture[str]):
    child = answer(capsys, "newversion", repo)["uuid"]
    answer(capsys, "branch", repo, "side", "root")
    assert [row["uuid"] for row in answer(capsys, "log", repo, "master")] == [child, "root"]
    status, out, _ = run(capsys, "log", repo)
    assert status == 0
    assert "the beginning" in out


def test_entries_name_who_did_it(repo: Path, capsys: pytest.CaptureFixture[str]):
    answer(capsys, "config", "user", "Grace")
    answer(capsys, "newversion", repo)
    answer(capsys, "branch", repo, "side", "root", "--user", "Ada")
    answer(capsys, "config", "user", "--unset")
    users = [entry["user"] for entry in answer(capsys, "log", repo, "--entries")]
    assert users[-2:] == ["Grace", "Ada"]


def test_show_lists_arrays(repo: Path, capsys: pytest.CaptureFixture[str]):
    shown = answer(capsys, "show", repo, "root")
    assert (shown["uuid"], shown["sealed"], shown["note"]) == ("root", True, "the beginning")
    assert [(a["path"], a["shape"], a["dtype"]) for a in shown["arrays"]] == [("volume", [4, 4, 4], "uint8")]
    status, out, _ = run(capsys, "show", repo)
    assert status == 0
    assert "volume uint8 4x4x4" in out


def test_diff_tells_what_was_done(repo: Path, capsys: pytest.CaptureFixture[str]):
    answer(capsys, "newversion", repo)
    with closing(vzarr.open(str(repo))) as opened:
        opened["master"].write("volume", (4, 0, 0), np.ones((4, 4, 4), "u1"))
        opened["master"].zarr["volume"].attrs["unit"] = "nm"
    found = answer(capsys, "diff", repo, "root", "master")["paths"]
    assert [(p["path"], p["kind"], p["chunks"]["boxes"]) for p in found] == [
        ("volume", "changed", [[[4, 0, 0], [8, 4, 4]]])
    ]
    assert "boxes" not in answer(capsys, "diff", repo, "root", "master", "--stat")["paths"][0]["chunks"]
    _, out, _ = run(capsys, "diff", repo, "root", "master")
    assert [line.split() for line in out.splitlines()] == [
        ["changed", "volume:", "chunks", "1", "added"],
        ["space", "0,0,0..4,4,4", "->", "0,0,0..8,4,4"],
        ["attribute", "unit:", "None", "->", "nm"],
        ["4,0,0..8,4,4"],
    ]
    assert run(capsys, "diff", repo, "root", "root") == (0, "no difference\n", "")


def test_blame_counts_the_chunks_of_each_version(repo: Path, capsys: pytest.CaptureFixture[str]):
    child = answer(capsys, "newversion", repo, "-m", "more")["uuid"]
    with closing(vzarr.open(str(repo))) as opened:
        opened["master"].write("volume", (4, 0, 0), np.ones((8, 4, 4), "u1"))
    found = answer(capsys, "blame", repo, "volume")
    assert [(row["uuid"], row["chunks"]) for row in found] == [("root", 1), (child, 2)]
    assert [row["uuid"] for row in answer(capsys, "blame", repo, "volume", "--version", "root")] == ["root"]


def test_verify_names_the_damage_and_fails(repo: Path, capsys: pytest.CaptureFixture[str]):
    assert run(capsys, "verify", repo) == (0, "all is well\n", "")
    chunk = repo / "nodes" / "root" / "zarr/volume/c/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    status, out, _ = run(capsys, "verify", repo, "--json")
    found = json.loads(out)
    assert (status, found["damaged"]) == (1, 1)
    assert [(f["name"], f["key"]) for f in found["findings"]] == [
        ("object-differs", f"{layout.zarr('root')}/volume/c/0/0/0")
    ]
    assert run(capsys, "verify", repo, "--version", "root")[0] == 1


def test_verify_rebuilds_pages_on_request(repo: Path, capsys: pytest.CaptureFixture[str]):
    pages = repo / "nodes" / "root" / "owners/pages"
    whole = pages.read_bytes()
    pages.write_bytes(b"")
    assert run(capsys, "verify", repo)[0] == 1
    assert answer(capsys, "verify", repo, "--rebuild") == {
        "damaged": 0,
        "rebuilt": [layout.owner_pages("root")],
        "findings": [],
    }
    assert pages.read_bytes() == whole
    pages.write_bytes(b"")
    (repo / "nodes" / "root" / "zarr/volume/c/0/0/0").unlink()
    status, out, _ = run(capsys, "verify", repo, "--rebuild", "--json")
    assert status == 1
    assert "not-rebuilt" in {f["name"] for f in json.loads(out)["findings"]}


def test_gc_lists_and_only_then_deletes(repo: Path, capsys: pytest.CaptureFixture[str]):
    left = repo / "tmp/left"
    left.write_bytes(b"12345")
    assert answer(capsys, "gc", repo)["garbage"] == []
    found = [{"kind": "unfinished", "place": "tmp/left", "objects": 1, "nbytes": 5}]
    assert answer(capsys, "gc", repo, "--grace", "0") == {"deleted": False, "garbage": found}
    assert left.exists()
    assert answer(capsys, "gc", repo, "--grace", "0", "--delete") == {"deleted": True, "garbage": found}
    assert not left.exists()
    assert run(capsys, "gc", repo, "--grace", "0") == (0, "nothing to remove\n", "")


def test_a_version_is_flattened_and_referred_to(repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    done = answer(capsys, "flatten", repo, "root", tmp_path / "flat")
    assert (done["version"], done["keys"], done["linked"]) == ("root", 3, 1)
    assert zarr.open_group(tmp_path / "flat", mode="r")["volume"][:].sum() == sum(range(64))
    status, _, err = run(capsys, "flatten", repo, "root", tmp_path / "flat")
    assert (status, "exists" in err) == (1, True)
    assert answer(capsys, "export-refs", repo, "root", tmp_path / "refs.json")["keys"] == 3
    assert run(capsys, "export-refs", repo, "root", tmp_path / "refs.yaml")[0] == 1


def test_du_adds_up_to_what_is_stored(repo: Path, capsys: pytest.CaptureFixture[str]):
    child = answer(capsys, "newversion", repo)["uuid"]
    side = answer(capsys, "branch", repo, "side", "root")["uuid"]
    with closing(vzarr.open(str(repo))) as opened:
        opened["side"].write("volume", (4, 0, 0), np.ones((4, 4, 4), "u1"))
    size = sum(p.stat().st_size for p in (repo / "nodes").rglob("*") if p.is_file())
    for by in ("version", "instance", "branch"):
        found = answer(capsys, "du", repo, "--by", by)
        assert found["bytes"] == size == sum(row["bytes"] for row in found["by"])
    assert [row["version"] for row in answer(capsys, "du", repo)["by"]] == ["root", side]
    assert [row["version"] for row in answer(capsys, "du", repo, child)["by"]] == ["root"]
    assert {row["instance"]: row["objects"] for row in answer(capsys, "du", repo, "--by", "instance")["by"]}[
        "volume"
    ] == 3


def test_merges_list_conflicts_and_decide_them(repo: Path, capsys: pytest.CaptureFixture[str]):
    left = answer(capsys, "newversion", repo)["uuid"]
    right = answer(capsys, "branch", repo, "side", "root")["uuid"]
    with closing(vzarr.open(str(repo))) as opened:
        for n, node in enumerate((left, right)):
            opened[node].write("volume", (0, 0, 0), np.full((4, 4, 4), n + 1, "u1"))
            opened[node].zarr.attrs["said"] = n
            opened[node].commit()
    expected = [
        {"path": "", "text": "/: attribute 'said'"},
        {"path": "volume", "box": [[0, 0, 0], [4, 4, 4]], "text": "volume 0,0,0..4,4,4"},
    ]
    for more in (("--dry-run",), ()):
        status, out, err = run(capsys, "merge", repo, "master", "side", *more, "--json")
        assert (status, json.loads(out)["conflicts"]) == (1, expected)
        assert ("2 conflicts" in err and "--strategy ours" in err) == (not more)
    status, out, _ = run(capsys, "merge", repo, "master", "side", "--dry-run")
    assert (status, "volume 0,0,0..4,4,4" in out.splitlines()) == (1, True)
    code, _, err = run(capsys, "merge", repo, "master", "side", "--strategy", "mine")
    assert (code, "--strategy is fail, ours or theirs, not 'mine'" in err) == (1, True)
    assert len(answer(capsys, "log", repo)) == 3
    answer(capsys, "merge", repo, "master", "side", "--strategy", "theirs")
    with closing(vzarr.open(str(repo))) as opened:
        merged = opened["master"]
        assert (merged.read("volume", (0, 0, 0), (1, 1, 1)).item(), merged.zarr.attrs["said"]) == (2, 1)
    assert run(capsys, "merge", repo, "root", "side", "--dry-run") == (0, "no conflicts\n", "")


def test_the_graph_shows_forks_and_merges(repo: Path, capsys: pytest.CaptureFixture[str]):
    answer(capsys, "newversion", repo)
    answer(capsys, "branch", repo, "side", "root")
    answer(capsys, "commit", repo, "master", "-m", "one")
    answer(capsys, "commit", repo, "side", "-m", "two")
    answer(capsys, "merge", repo, "master", "side", "-m", "both")
    _, out, _ = run(capsys, "log", repo, "--graph")
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["*", "|\\", "| *", "* |", "|/", "*"]
    assert [line.rpartition(") ")[2] for line in lines if "*" in line] == ["both", "two", "one", "the beginning"]
    assert len(answer(capsys, "log", repo, "--graph")) == 4


def test_config_keeps_the_user(capsys: pytest.CaptureFixture[str]):
    assert answer(capsys, "config", "user", "Ada Lovelace") == {"user": "Ada Lovelace"}
    assert run(capsys, "config") == (0, "user = Ada Lovelace\n", "")
    assert answer(capsys, "config", "user", "--unset") == {"user": ""}
    assert answer(capsys, "config") == {}


def test_ingest_reads_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    volume = np.random.default_rng(0).integers(0, 256, (5, 20, 30), dtype="u1")
    for z, plane in enumerate(volume):
        Image.fromarray(plane).save(tmp_path / f"{z}.png")
    answer(capsys, "init", tmp_path / "fly")
    slices = [tmp_path / f"{z}.png" for z in range(5)]
    made = answer(capsys, "ingest", tmp_path / "fly", "gray", *slices, "--voxel-size", "10", "--unit", "nm")
    assert (made["instance"], made["type"]) == ("gray", "uint8blk")
    with closing(vzarr.open(str(tmp_path / "fly"))) as repo:
        assert np.array_equal(repo["master"].read("gray/0", (0, 0, 0), (5, 20, 30)), volume)


def test_adopt_takes_a_zarr_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    volume = np.random.default_rng(0).integers(0, 256, (5, 20, 30), dtype="u1")
    zarr.create_array(tmp_path / "em.zarr", data=volume, chunks=(4, 4, 4))
    answer(capsys, "init", tmp_path / "fly")
    made = answer(capsys, "adopt", tmp_path / "fly", "em", tmp_path / "em.zarr", "--pin")
    assert made == {
        "instance": "em", "type": "uint8blk", "source": str(tmp_path / "em.zarr"), "pinned": True,
        "lo": [0, 0, 0], "hi": [5, 20, 30],
    }  # fmt: skip
    assert answer(capsys, "adopt", tmp_path / "fly", "raw", tmp_path / "em.zarr", "--type", "zarr")["type"] == "zarr"
    with closing(vzarr.open(str(tmp_path / "fly"))) as repo:
        for name in ("em", "raw"):
            assert np.array_equal(repo["master"].read(f"{name}/0", (0, 0, 0), (5, 20, 30)), volume)


@pytest.mark.parametrize(
    "words",
    [
        ("log", "nowhere"),
        ("commit", "REPO", "root"),
        ("show", "REPO", "no-such-ref"),
        ("newversion", "REPO", "no-such-ref"),
        ("merge", "REPO", "root"),
        ("tag", "REPO", "a/b"),
        ("config", "colour", "red"),
        ("ingest", "REPO", "gray", "missing.png", "--version", "root"),
        ("adopt", "REPO", "em", "missing.zarr"),
    ],
    ids=" ".join,
)
def test_an_error_is_one_line_and_status_1(words: tuple[str, ...], repo: Path, capsys: pytest.CaptureFixture[str]):
    status, out, err = run(capsys, *[repo if word == "REPO" else word for word in words])
    assert (status, out) == (1, "")
    assert err.startswith("vzarr: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["log"], ["nonsense"], ["log", "x", "--nonsense"], ["serve", ".", "--port", "x"]])
def test_a_command_that_is_not_understood_is_one_line_and_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
):
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("vzarr: ")
    assert err.count("\n") == 1


def test_without_a_verb_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]):
    status, out, err = run(capsys)
    assert (status, err) == (2, "")
    assert "newversion" in out


def test_the_process_passes_the_status_on():
    done = subprocess.run(
        [sys.executable, "-m", "vzarr", "log", "nowhere"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


def test_serve_makes_the_root_says_when_it_answers_and_stops_cleanly(tmp_path: Path):
    server = start(tmp_path / "repos", "--note", "a note")
    with urllib.request.urlopen(f"{server.url}/api/server/note") as got:
        assert got.read() == b"a note"
    assert (tmp_path / "repos").is_dir()
    assert server.url.startswith("http://127.0.0.1:")
    assert stop(server) == 0


def test_serve_ends_well_on_interrupt(tmp_path: Path):
    server = start(tmp_path)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0
    assert server.process.stdout.read() == ""
    server.process.stdout.close()


def test_served_repos_are_those_of_the_folder(repo: Path):
    with serving(repo.parent) as server:
        with urllib.request.urlopen(f"{server.url}/api/repos/info") as got:
            assert list(json.loads(got.read())) == ["root"]
        made = urllib.request.Request(f"{server.url}/api/repos?admintoken={TOKEN}", data=b"{}", method="POST")
        with urllib.request.urlopen(made) as got:
            assert json.loads(got.read())["root"]


def test_a_port_in_use_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, out, err = run(capsys, "serve", tmp_path, "--port", taken.getsockname()[1])
    assert (status, out) == (1, "")
    assert "cannot listen" in err
    assert err.count("\n") == 1


def test_what_is_missing_is_called_as_on_the_command_line(repo: Path, capsys: pytest.CaptureFixture[str]):
    status, _, err = run(capsys, "fetch", repo, repo)
    assert (status, "--as" in err) == (2, True)


@pytest.mark.parametrize("keys", ["postgresql://[bad/x", "bogus", "mysql://host/db"])
def test_keys_that_cannot_be_named_so_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: str):
    status, _, err = run(capsys, "init", tmp_path / "x", "--keys", keys)
    assert (status, err.count("\n"), "key" in err) == (1, 1, True)
    assert not (tmp_path / "x").exists()


def test_a_protocol_that_needs_more_than_a_url_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, _, err = run(capsys, "clone", "ftp://x/y", tmp_path / "x")
    assert (status, err) == (1, "vzarr: cannot open ftp://: it needs host, and so cannot hold a repo\n")


def test_nothing_is_cut_where_nobody_looks(repo: Path, capsys: pytest.CaptureFixture[str]):
    with closing(vzarr.open(str(repo))) as opened:
        opened["master"].branch("b" * 40, "a note that is rather long, " * 10)
        uuid = opened["b" * 40].uuid
    _, out, _ = run(capsys, "log", repo)
    line = next(line for line in out.splitlines() if uuid[:9] in line)
    assert "b" * 40 in line
    assert line.endswith(("a note that is rather long, " * 10).strip())
    (repo / layout.zarr("root") / "volume/c/0/0/0").write_bytes(b"?")
    _, out, _ = run(capsys, "verify", repo)
    assert f"{layout.zarr('root')}/volume/c/0/0/0" in out


def test_on_a_narrow_terminal_only_the_last_column_is_broken():
    table = columns("finding", "where", "what")
    table.add_row("object-differs", "nodes/" + "7a" * 16 + "/zarr/c/0/0/0", "its checksum differs from what was sealed")
    shown = io.StringIO()
    print_table(table, Console(file=shown, force_terminal=True, width=40, color_system=None))
    lines = shown.getvalue().splitlines()
    assert any("nodes/" + "7a" * 16 + "/zarr/c/0/0/0" in line for line in lines)
    assert " ".join(shown.getvalue().split()).endswith("was sealed")
    assert max(map(len, lines)) < 14 + 46 + 30


def test_the_log_and_its_graph_tell_of_one_version(repo: Path, capsys: pytest.CaptureFixture[str]):
    run(capsys, "branch", repo, "one")
    run(capsys, "branch", repo, "two")
    everything, of_root = answer(capsys, "log", repo, "--entries"), answer(capsys, "log", repo, "root", "--entries")
    assert (len(everything), len(of_root)) == (4, 2)
    assert [e["number"] for e in answer(capsys, "log", repo, "two", "--entries")] == [0, 1, 3]
    assert [row["uuid"] for row in answer(capsys, "log", repo, "root", "--graph")] == ["root"]


def test_conflicts_and_keys_are_named(repo: Path, capsys: pytest.CaptureFixture[str]):
    with closing(vzarr.open(str(repo))) as opened:
        made = opened["master"].newversion()
        opened_keys = registry.create(made, "notes", "keyvalue")
        for n in range(7):
            opened_keys.put(f"k{n}", b"1")
        made.zarr.create_array("point", shape=(), dtype="u1")[...] = 1
        made.commit()
        sides = [made.newversion(), made.branch("side")]
        for value, side in enumerate(sides, 2):
            side.write_chunks("volume", {(0, 0, 0): np.full((4, 4, 4), value, "u1")})
            side.zarr["point"][...] = value
            side.commit()
        assert "point its only voxel" in run(capsys, "merge", repo, "master", "side", "--dry-run")[1]
        merged = opened.merge(sides, keep_conflicts=True)
        merged.commit()
    _, out, _ = run(capsys, "diff", repo, "root", made.uuid)
    assert "keys     notes: 14 written, among them k0, k1, k2, k3, k4 and 2 more" in out
    assert "the only voxel" in out
    assert answer(capsys, "diff", repo, "root", made.uuid)["key_names"] == {"notes": [f"k{n}" for n in range(7)]}
    rows = answer(capsys, "blame", repo, "volume", "--version", merged.uuid)
    assert [(row["uuid"], row["chunks"], row["note"]) for row in rows] == [(None, 1, "in conflict")]
    assert "in conflict" in run(capsys, "blame", repo, "volume", "--version", merged.uuid)[1]
    status, _, err = run(capsys, "flatten", repo, merged.uuid, repo.parent / "flat")
    assert status == 1
    assert "conflict" in err


@pytest.mark.parametrize("hours", ["nan", "1e400", "-5"])
def test_a_grace_is_a_number_of_hours(repo: Path, capsys: pytest.CaptureFixture[str], hours: str):
    status, _, err = run(capsys, "gc", repo, "--grace", hours)
    assert status == 1
    assert "younger than" in err


@pytest.mark.parametrize(("url", "why"), [("s3://", "names no source"), ("ftp://x/y", "it needs host")])
def test_sources_that_cannot_be_opened_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str], url: str, why: str):
    main(["init", str(tmp_path / "r")])
    assert main(["adopt", str(tmp_path / "r"), "x", url]) == 1
    err = capfd.readouterr().err
    assert why in err
    assert "Traceback" not in err


def test_a_refused_init_leaves_nothing_and_names_the_place(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    status, _, err = run(capsys, "init", repo, "--keys", f"sqlite:///{tmp_path / 'keys.sqlite'}")
    assert status == 1
    assert "is a repo already" in err
    assert not (tmp_path / "keys.sqlite").exists()
    (tmp_path / "file").write_bytes(b"")
    status, _, err = run(capsys, "init", tmp_path / "file/x")
    assert status == 1
    assert str(tmp_path / "file/x") in err
