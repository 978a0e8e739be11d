"""What keeps the code readable: style, sizes, one place for each concern, and no traces of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "vzarr").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 400, 50

# Exceptions by name.  Each one needs a reason.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()

# Lines that would tie the text to one machine, one package index or somebody else's rights.
TRACES = re.compile(
    r"/root/|/home/\w+/|/Users/\w+/|/work/(main|shared)|/tmp/brief|/opt/wheels|pypi\.org/simple|files\.pythonhosted"
    r"|index-url|find-links\s*=|[Cc]opyright (?!\(c\) 2026, The vzarr developers|holder|notice|HOLDER|OWNER)"
)
# The pin recipe names the options that keep addresses out; the licence and this file name what they forbid.
TRACES_ALLOWED = {"Makefile", "LICENSE", "tests/architecture/test_manners.py"}


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_files_and_functions_fit_a_reader(path: Path):
    text = path.read_text()
    if _id(path) not in LONG_FILES:
        assert text.count("\n") <= LONGEST_FILE
    long = [
        f"{node.lineno} {name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
        and (name := node.name)
        and f"{_id(path)}:{name}" not in LONG_FUNCTIONS
    ]
    assert not long


def _holders(pattern: str) -> set[str]:
    return {_id(path) for path in MODULES if re.search(pattern, path.read_text(), re.M)}


def test_http_errors_are_made_in_one_file():
    assert _holders(r"\bHTTPException\b") <= {"vzarr/api/errors.py"}


def test_the_environment_is_read_in_one_file():
    assert _holders(r"\bos\.environ\b|\bgetenv\(|import environ\b") <= {"vzarr/config.py"}


def test_the_web_framework_is_imported_only_by_the_api():
    users = _holders(r"^\s*(?:from|import) (?:fastapi|starlette|uvicorn)\b")
    assert not {name for name in users if not name.startswith("vzarr/api/")}


def test_nothing_is_left_for_later():
    unfinished = r"#.*\b(?:TODO|FIXME|XXX|HACK)\b|raise NotImplementedError|^\s*(?:import pdb|breakpoint\()"
    assert not _holders(unfinished)


def test_no_text_names_a_machine_an_index_or_a_stranger():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: the list of files is not known")
    found = []
    for name in sorted(set(listed.stdout.split("\n")) - TRACES_ALLOWED - {""}):
        path = ROOT / name
        if not path.is_file() or name.startswith("tests/conformance/golden/"):
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{n}: {line.strip()[:100]}" for n, line in enumerate(lines, 1) if TRACES.search(line)]
    assert not found


def test_constraints_hold_pins_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pin = re.compile(r"[a-z0-9][a-z0-9._-]*==[\w.]+(\.post\d+)?( ; [^@/]+)?")
    assert [line for line in lines if not pin.fullmatch(line)] == []


@pytest.mark.parametrize(
    "command", [["ruff", "check", "--quiet"], ["ruff", "format", "--check", "--quiet"]], ids=" ".join
)
def test_style(command: list[str]):
    done = subprocess.run([sys.executable, "-m", *command, "."], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


@pytest.mark.slow
def test_every_type_holds():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
