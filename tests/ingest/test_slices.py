"""Image stacks: order, checks before a pixel is read, and messages that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vzarr.errors import InvalidInputError, NotFoundError
from vzarr.ingest import open_source
from vzarr.ingest.slices import expand, natural_key


def save_slices(folder: Path, volume: np.ndarray, suffix: str = "png") -> list[str]:
    files = [str(folder / f"s{z}.{suffix}") for z in range(len(volume))]
    for file, plane in zip(files, volume, strict=True):
        Image.fromarray(plane).save(file)
    return files


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (12, 5, 7), dtype=np.uint8)


def test_numbers_in_names_sort_as_numbers():
    assert sorted(["s10", "s9", "s1b", "s1a"], key=natural_key) == ["s1a", "s1b", "s9", "s10"]
    assert sorted(["10.png", "b.png", "9.png"], key=natural_key) == ["9.png", "10.png", "b.png"]


@pytest.mark.parametrize("how", ["pattern", "folder", "shuffled list"])
def test_a_stack_is_read_in_natural_order(tmp_path: Path, volume: np.ndarray, how: str):
    files = save_slices(tmp_path, volume)
    (tmp_path / "notes.txt").write_text("not a slice")
    spec = {"pattern": str(tmp_path / "s*.png"), "folder": tmp_path, "shuffled list": sorted(files)}[how]
    source = open_source(spec)
    assert (source.shape, source.dtype) == ((12, 5, 7), np.uint8)
    assert np.array_equal(source.read(0, 12), volume)
    assert np.array_equal(source.read(9, 11), volume[9:11])


@pytest.mark.parametrize(("suffix", "dtype"), [("tif", "u1"), ("tif", "u2"), ("png", "u2"), ("tiff", "i4")])
def test_other_formats_and_depths(tmp_path: Path, suffix: str, dtype: str):
    volume = np.random.default_rng(2).integers(0, 250, (3, 4, 6)).astype(dtype) * (1 if dtype == "u1" else 200)
    source = open_source(save_slices(tmp_path, volume, suffix))
    assert source.dtype == np.dtype(dtype)
    assert np.array_equal(source.read(0, 3), volume)


def test_a_slice_of_another_size_is_named_with_both_sizes(tmp_path: Path, volume: np.ndarray):
    files = save_slices(tmp_path, volume)
    Image.fromarray(np.zeros((5, 8), np.uint8)).save(files[6])
    with pytest.raises(InvalidInputError, match=r"s6\.png: 8 x 5 pixels of uint8, but .*s0\.png is 7 x 5 pixels"):
        open_source(files)


def test_a_slice_of_another_depth_is_named(tmp_path: Path, volume: np.ndarray):
    files = save_slices(tmp_path, volume)
    Image.fromarray(volume[3].astype(np.uint16)).save(files[3])
    with pytest.raises(InvalidInputError, match=r"s3\.png: 7 x 5 pixels of uint16"):
        open_source(files)


def test_colour_is_refused(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "c.png")
    with pytest.raises(InvalidInputError, match=r"c\.png: pixels of kind RGB"):
        open_source(tmp_path / "c.png")


def test_several_pages_are_refused(tmp_path: Path):
    pages = [Image.new("L", (4, 4), n) for n in range(3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InvalidInputError, match=r"p\.tif: 3 pages"):
        open_source(tmp_path / "p.tif")


def test_a_file_that_is_no_image_is_named(tmp_path: Path, volume: np.ndarray):
    files = save_slices(tmp_path, volume)
    Path(files[4]).write_bytes(b"nonsense")
    with pytest.raises(InvalidInputError, match=r"s4\.png"):
        open_source(files)


def test_truncated_pixels_are_an_error_and_not_gray(tmp_path: Path, volume: np.ndarray):
    files = save_slices(tmp_path, np.random.default_rng(3).integers(0, 256, (2, 99, 99), dtype=np.uint8))
    Path(files[1]).write_bytes(Path(files[1]).read_bytes()[:3000])
    source = open_source(files)
    with pytest.raises(InvalidInputError, match=r"s1\.png"):
        source.read(0, 2)


def test_a_slice_that_changes_size_later_is_an_error(tmp_path: Path, volume: np.ndarray):
    files = save_slices(tmp_path, volume)
    source = open_source(files)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(files[2])
    with pytest.raises(InvalidInputError, match=r"s2\.png: changed while"):
        source.read(0, 4)


def test_what_is_not_there_is_not_found(tmp_path: Path):
    with pytest.raises(NotFoundError, match="no image there"):
        open_source(str(tmp_path / "*.png"))
    with pytest.raises(NotFoundError, match=r"gone\.png: no such file"):
        open_source([str(tmp_path / "gone.png")])


def test_a_slice_named_twice_is_refused(tmp_path: Path, volume: np.ndarray):
    files = save_slices(tmp_path, volume)
    with pytest.raises(InvalidInputError, match=r"s5\.png: named twice"):
        expand([*files, files[5]])


def test_brackets_in_a_real_name_are_no_pattern(tmp_path: Path):
    Image.new("L", (4, 4)).save(tmp_path / "a[1].png")
    assert open_source(tmp_path / "a[1].png").shape == (1, 4, 4)


def test_slices_larger_than_pillows_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(np.ones((50, 50), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_source(tmp_path / "large.png").read(0, 1).sum() == 2500
    assert Image.MAX_IMAGE_PIXELS == 100
