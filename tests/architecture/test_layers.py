"""Imports go one way, and what is not needed is not loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "vzarr").rglob("*.py"))

# Imports inside a function, by file: optional extras and what only one verb of the CLI needs.
LATE_IMPORTS: dict[str, set[str]] = {
    "vzarr/overlay/kv/lmdb.py": {"lmdb"},  # an optional extra
    "vzarr/overlay/kv/postgresviews.py": {"psycopg"},  # an optional extra
    "vzarr/kafka/broker.py": {"aiokafka"},  # an optional extra
    "vzarr/overlay/export/references.py": {"pyarrow", "pyarrow.parquet"},  # an optional extra
    "vzarr/types/labelmap/bodies.py": {"zmesh"},  # an optional extra
    "vzarr/ingest/index.py": {"dask.base", "dask.delayed"},  # an optional extra
    "vzarr/ingest/mapping.py": {"pyarrow.parquet"},  # an optional extra
    "vzarr/types/keyvalue.py": {"pandas"},  # slow to load, and comes with xarray
    "vzarr/types/mutations.py": {"pandas"},
    "vzarr/types/neuronjson/frames.py": {"pandas"},
    "vzarr/types/labelmap/frames.py": {"pandas"},  # slow to load, and comes with xarray
}


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_linter_finds_no_broken_contract():
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_overlay_loads_no_datatype_and_no_web_framework():
    loaded = _loaded_by("import vzarr.overlay")
    strangers = {"fastapi", "starlette", "uvicorn", "typer", "xarray", "dask"}
    assert not {m for m in loaded if m.split(".")[0] in strangers}
    # `vzarr` itself brings the registry, which finds datatypes by name; no datatype may come with it.
    registry = {"vzarr.types", "vzarr.types.base", "vzarr.types.registry", "vzarr.types.settings"}
    assert not {m for m in loaded if m.startswith(("vzarr.types", "vzarr.api", "vzarr.cli"))} - registry


def test_the_python_face_loads_no_web_framework_and_nothing_heavy():
    loaded = {m.partition(".")[0] for m in _loaded_by("import vzarr")}
    assert not loaded & {"fastapi", "starlette", "uvicorn", "typer", "rich"}
    assert not loaded & {"PIL", "h5py", "dask", "xarray", "pandas", "s3fs", "aiohttp", "obstore", "pyarrow"}


def test_no_module_of_ours_imports_another_in_a_circle():
    graph = {_name(path): _imports(path) for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "import cycle: " + " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_stand_at_the_top(path: Path):
    late = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    late |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    late.add("." * node.level + (node.module or ""))
    allowed = LATE_IMPORTS.get(path.relative_to(ROOT).as_posix(), set())
    assert late == allowed, f"imports inside functions: {sorted(late)}, allowed here: {sorted(allowed)}"


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    """Modules of vzarr that this one imports when it runs, wherever the statement stands."""
    known = {_name(p) for p in MODULES}
    package = _name(path) if path.name == "__init__.py" else _name(path).rpartition(".")[0]
    found = set()
    for node in _runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            submodules = {f"{module}.{alias.name}" for alias in node.names} & known
            found |= submodules or {module}
    return (found & known) - {_name(path)}


def _runtime_nodes(tree: ast.AST):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _runtime_nodes(node)
