"""Agglomeration tables from every kind of file, and what is refused in them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.ingest.mapping import read_mapping

ROWS = [[7, 3], [3, 3], [0, 0], [9, 4], [7, 3]]
CHECKED = [[3, 3], [7, 3], [9, 4]]


def saved(folder: Path, kind: str) -> str:
    if kind == "h5":
        with h5py.File(folder / "m.h5", "w") as file:
            file["transforms"] = np.array(ROWS, np.uint64)
        return f"{folder / 'm.h5'}:transforms"
    if kind == "npy":
        np.save(folder / "m.npy", np.array(ROWS, np.int32))
        return str(folder / "m.npy")
    header = "supervoxel,body\n" if kind == "csv with header" else ""
    (folder / "m.csv").write_text(header + "".join(f"{sv}, {body}\r\n" for sv, body in ROWS) + "\n")
    return str(folder / "m.csv")


@pytest.mark.parametrize("kind", ["h5", "npy", "csv", "csv with header"])
def test_a_table_is_sorted_and_rows_said_twice_count_once(tmp_path: Path, kind: str):
    table = read_mapping(saved(tmp_path, kind))
    assert table.dtype == np.uint64
    assert table.tolist() == CHECKED


def test_an_array_is_a_table():
    assert read_mapping(ROWS).tolist() == CHECKED


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1, 2], [1, 3]], "supervoxel 1 belongs to body 2 and to body 3"),
        ([[0, 5]], "supervoxel 0 is background and cannot belong to body 5"),
        ([[5, 5], [6, 0]], "supervoxel 6 cannot belong to body 0"),
        ([[1, -2]], "-2 is negative"),
        ([[1, 2, 3]], r"2 columns .* shape \(1, 3\)"),
        ([1, 2], r"2 columns .* shape \(2,\)"),
        ([[1.0, 2.0]], "holds integers, this holds float64"),
    ],
)
def test_what_cannot_hold_is_refused(table, message: str):
    with pytest.raises(InvalidInputError, match=message):
        read_mapping(np.array(table))


@pytest.mark.parametrize("line", ["1,2,3", "1", "1,x", "1,-2", f"1,{2**64}"])
def test_a_bad_row_of_a_csv_is_shown(tmp_path: Path, line: str):
    (tmp_path / "m.csv").write_text(f"5,5\n{line}\n")
    with pytest.raises(InvalidInputError, match=rf"m\.csv: row '{line}' is not SUPERVOXEL,BODY"):
        read_mapping(tmp_path / "m.csv")


def test_large_ids_survive(tmp_path: Path):
    (tmp_path / "m.csv").write_text(f"{2**64 - 2},{2**63 + 1}\n")
    assert read_mapping(tmp_path / "m.csv").tolist() == [[2**64 - 2, 2**63 + 1]]


def test_files_of_other_kinds_and_missing_ones(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="a mapping comes from"):
        read_mapping(tmp_path / "m.xlsx")
    with pytest.raises(NotFoundError, match=r"m\.csv: no such file"):
        read_mapping(tmp_path / "m.csv")


def _parquet(path: Path, columns: dict[str, np.ndarray]) -> str:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


@pytest.mark.parametrize("kind", ["npz", "parquet", "csv"])
def test_columns_by_name(tmp_path: Path, kind: str):
    rows = np.array(ROWS, np.uint64)
    columns = {"score": rows[:, 1] * 2, "body": rows[:, 1], "sv": rows[:, 0]}
    path = tmp_path / f"m.{kind}"
    if kind == "npz":
        np.savez(path, **columns)
    elif kind == "parquet":
        _parquet(path, columns)
    else:
        path.write_text("score,body,sv\n" + "".join(f"{b * 2},{b},{sv}\n" for sv, b in ROWS))
    assert read_mapping(path).tolist() == CHECKED
    assert read_mapping(path, columns=["sv", "score"]).tolist() == [[sv, 2 * b] for sv, b in CHECKED]
    with pytest.raises(InvalidInputError, match=r"no columns 'sv' and 'root'; it has 'score', 'body', 'sv'"):
        read_mapping(path, columns=["sv", "root"])


def test_two_columns_need_no_names_and_an_npz_may_hold_one_table(tmp_path: Path):
    rows = np.array(ROWS, np.uint64)
    assert read_mapping(_parquet(tmp_path / "m.parquet", {"x": rows[:, 0], "y": rows[:, 1]})).tolist() == CHECKED
    np.savez(tmp_path / "m.npz", rows)
    assert read_mapping(tmp_path / "m.npz").tolist() == CHECKED


def test_columns_of_other_things(tmp_path: Path):
    ids = np.arange(3, dtype=np.uint64)
    with pytest.raises(InvalidInputError, match=r"column 'body' should hold integers, it holds float64"):
        read_mapping(_parquet(tmp_path / "f.parquet", {"sv": ids, "body": ids / 2}))
    with pytest.raises(InvalidInputError, match=r"column 'body' has 1 empty rows"):
        read_mapping(_parquet(tmp_path / "n.parquet", {"sv": [1, 2], "body": [1, None]}))
    with pytest.raises(InvalidInputError, match="-1 in column 'body' is negative"):
        read_mapping(_parquet(tmp_path / "m.parquet", {"sv": [1], "body": [-1]}))
    np.savez(tmp_path / "m.npz", sv=ids, body=ids[:2])
    with pytest.raises(InvalidInputError, match="3 and 2 rows"):
        read_mapping(tmp_path / "m.npz")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    with pytest.raises(InvalidInputError, match=r"bad\.parquet"):
        read_mapping(tmp_path / "bad.parquet")
    (tmp_path / "bad.npz").write_bytes(b"PK and then nothing of the kind")
    with pytest.raises(InvalidInputError, match=r"bad\.npz"):
        read_mapping(tmp_path / "bad.npz")


def test_edges(tmp_path: Path):
    (tmp_path / "e.csv").write_text("a,b\n3,7\n7,9\n")
    assert read_mapping(tmp_path / "e.csv", edges=True).tolist() == [[3, 7], [7, 9]]
    with pytest.raises(InvalidInputError, match="belongs together with nothing"):
        read_mapping([[0, 3]], edges=True)
