"""A stranger's datatype, installed in a fresh environment, works everywhere without an edit in vzarr."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.serving import TOKEN, serving
from vzarr.types import registry

PACKAGE = Path(__file__).parent / "vzarr-counter"

IN_PYTHON = """
import sys, vzarr
from vzarr.types import registry
repo = vzarr.create(sys.argv[1], root="root")
root = repo["root"]
registry.create(root, "clicks", "counter", config={"Start": "5"})
assert root["clicks"].add("left", 2) == 7
root.commit("counted")
child = root.newversion()
assert child["clicks"].add("left", 1) == 8
assert root["clicks"].counts() == {"left": 7}
repo.close()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a fresh environment that holds the plugin and sees what is installed here."""
    home = tmp_path_factory.mktemp("plugin")
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    python = home / "venv" / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    # addsitedir, since only that follows the link of an editable install.
    packages.joinpath("outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    source = home / "source"
    for file in PACKAGE.rglob("*.*"):
        copy = source / file.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        source,
    ]
    subprocess.run(install, check=True)
    return python


def _get(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def _post(url: str, value: object) -> str:
    request = urllib.request.Request(url, data=json.dumps(value).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


def test_nothing_here_knows_the_type():
    assert "counter" not in registry.names()


@pytest.mark.slow
def test_python_and_the_command_line_know_the_type(python: Path, tmp_path: Path):
    repo = tmp_path / "repo"
    subprocess.run([python, "-c", IN_PYTHON, repo], check=True)
    shown = subprocess.run(
        [python, "-m", "vzarr", "show", repo, "master", "--json"], capture_output=True, text=True, check=True
    )
    assert [(i["name"], i["type"]) for i in json.loads(shown.stdout)["instances"]] == [("clicks", "counter")]
    listed = subprocess.run([python, "-m", "vzarr", "types", "--json"], capture_output=True, text=True, check=True)
    assert {t["name"]: t["summary"] for t in json.loads(listed.stdout)}["counter"].startswith("Named counters")


@pytest.mark.slow
def test_http_help_and_openapi_know_the_type(python: Path, tmp_path: Path):
    with serving(tmp_path, python=python) as server:
        root = json.loads(_post(f"{server.url}/api/repos?admintoken={TOKEN}", {"alias": "x"}))["root"]
        _post(
            f"{server.url}/api/repo/{root}/instance",
            {"typename": "counter", "dataname": "clicks", "start": "5"},
        )
        node = f"{server.url}/api/node/{root}"
        assert json.loads(_post(f"{node}/clicks/add/left/2", None)) == 7
        assert json.loads(_get(f"{node}/clicks/count/left")) == 7
        assert json.loads(_get(f"{node}/clicks/info"))["Base"]["TypeName"] == "counter"
        _post(f"{node}/commit", {"note": "counted"})
        child = json.loads(_post(f"{node}/newversion", {}))["child"]
        assert json.loads(_post(f"{server.url}/api/node/{child}/clicks/add/left/1", None)) == 8
        assert json.loads(_get(f"{node}/clicks/counts")) == {"left": 7}
        with pytest.raises(urllib.error.HTTPError, match="400"):
            _post(f"{node}/clicks/add/left/1", None)
        assert "Named counters" in _get(f"{server.url}/api/help/counter")
        assert "/count/{counter}" in _get(f"{server.url}/api/help/counter")
        assert "counter" in json.loads(_get(f"{server.url}/api/server/compiled-types"))
        assert any("/add/{counter}/{step}" in path for path in json.loads(_get(f"{server.url}/openapi.json"))["paths"])
