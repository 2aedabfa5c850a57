"""Photographs as cameras and card readers leave them: rotated, truncated, with pixels without data."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from foreign import bring_in, photo, pixels, write_image
from heard import Heard
from known_classifier import SIZE, header
from osgeo import gdal
from synthetic import write_raster

from plugin.engine.chips.formats.images import look_at, read_image
from plugin.engine.chips.formats.squares import square, square_with_gaps
from plugin.engine.errors import InputError
from plugin.engine.mapping.reading.photograph_chips import PhotographReader
from plugin.engine.strangers.images import STRICT_JPEG, Unreadable

# What shows "abc" over "def", as a camera stores it that was held in each of EXIF's eight ways.
STORED = {
    1: ("abc", "def"), 2: ("cba", "fed"), 3: ("fed", "cba"), 4: ("def", "abc"),
    5: ("ad", "be", "cf"), 6: ("cf", "be", "ad"), 7: ("fc", "eb", "da"), 8: ("da", "eb", "fc"),
}  # fmt: skip
BLOCK = 16  # pixels of a letter


def tones(rows: tuple[str, ...]) -> np.ndarray:
    """(1, H, W) uint8: a tone for each letter."""
    letters = np.array([[40 * "abcdef".index(letter) + 20 for letter in row] for row in rows], np.uint8)
    return letters.repeat(BLOCK, 0).repeat(BLOCK, 1)[None]


def write_photo(path: Path, data: np.ndarray, orientation: int = 0) -> Path:
    """Write a JPEG, with EXIF that says how it is to be turned."""
    write_image(path, data, "JPEG", options=["QUALITY=100"])
    Path(f"{path}.aux.xml").unlink(missing_ok=True)
    if orientation:
        exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        raw = path.read_bytes()
        path.write_bytes(raw[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + raw[2:])
    return path


def cut_in_half(path: Path) -> Path:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    return path


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.abs(one.astype(int) - other.astype(int)).max() <= 6)


# --- how the camera was held


@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_seen_as_it_is_to_be_turned(tmp_path: Path, orientation: int) -> None:
    path = write_photo(tmp_path / "a.jpg", tones(STORED[orientation]), orientation)
    shown = tones(STORED[1])
    facts = look_at(path)
    assert (facts.height, facts.width) == shown.shape[1:]
    assert close(read_image(facts, 1, np.dtype(np.uint8)), shown)
    reader = PhotographReader(str(tmp_path), header(1, chip_size=32), ())
    got = reader.read([path])
    assert got is not None and close(got.data[0], square(shown, 32)) and not reader.remarks.failures


def test_the_import_writes_photographs_upright(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for orientation, rows in STORED.items():
        write_photo(folder / "ab"[orientation % 2] / f"{orientation}.jpg", tones(rows), orientation)
    found = bring_in(folder)
    shown = square(tones(STORED[1]), 2 * BLOCK)[0]
    assert len(found.images) == 8 and all(close(pixels(found.folder / name), shown) for name in found.images)


def test_only_upright_photographs_are_copied_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    upright, turned = tones(("ab", "de")), tones(("ed", "ba"))
    write_photo(folder / "a/1.jpg", upright, 1)
    write_photo(folder / "b/3.jpg", turned, 3)
    heard = Heard()
    found = bring_in(folder, heard)
    assert [Path(name).suffix for name in found.images] == [".jpg", ".tif"]
    assert "1 image copied byte for byte." in heard.logs
    assert all(close(pixels(found.folder / name), upright[0]) for name in found.images)


def test_numbers_that_exif_does_not_know_turn_nothing(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.jpg", tones(STORED[1]), 9)
    assert look_at(path).orientation == 1


def test_what_has_a_place_on_the_ground_is_not_turned(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.jpg", tones(STORED[1]), 6)
    path.with_suffix(".jgw").write_text("1\n0\n0\n-1\n5\n5\n")
    facts = look_at(path)
    assert (facts.width, facts.height, facts.orientation) == (48, 32, 1)


@pytest.mark.parametrize("drawn_on", ["shown", "stored"])
def test_a_mask_lies_on_the_pixels_that_it_was_drawn_on(tmp_path: Path, drawn_on: str) -> None:
    folder = tmp_path / "voc"
    data = tones(STORED[1] if drawn_on == "shown" else STORED[6])
    for name in ("1", "2"):
        write_photo(folder / f"JPEGImages/{name}.jpg", tones(STORED[6]), 6)
        write_image(folder / f"SegmentationClass/{name}.png", (data > 100).astype(np.uint8) + 1, "PNG")
    found = bring_in(folder)
    for image, label in zip(found.images, found.labels):
        chip, mask = pixels(found.folder / image), pixels(found.folder / label)
        assert close(chip, square(data, 32)[0]) and ((chip > 100) + 1 == mask).all()


@pytest.mark.parametrize("shown", [True, False])
def test_coco_outlines_lie_on_the_pixels_whose_size_the_file_says(tmp_path: Path, shown: bool) -> None:
    folder = tmp_path / "coco"
    outline = [[0, 0, 16, 0, 16, 16, 0, 16]]  # "a" as it is shown, "c" as it is stored
    size = {"width": 48, "height": 32} if shown else {"width": 32, "height": 48}
    write_photo(folder / "images/1.jpg", tones(STORED[6]), 6)
    write_photo(folder / "images/2.jpg", tones(STORED[1]))
    values = {
        "images": [{"id": 1, "file_name": "1.jpg", **size}, {"id": 2, "file_name": "2.jpg", "width": 48, "height": 32}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": outline, "area": 256}],
        "categories": [{"id": 1, "name": "thing"}, {"id": 2, "name": "other"}],
    }  # fmt: skip
    (folder / "annotations").mkdir()
    (folder / "annotations/instances_train.json").write_text(json.dumps(values))
    found = bring_in(folder)
    expected = tones(STORED[1] if shown else STORED[6])
    assert close(pixels(found.folder / found.images[0]), square(expected, 32)[0])


# --- files that break off


@pytest.mark.parametrize("length", ["half", 700])
def test_half_a_photograph_is_told_and_left_out(tmp_path: Path, length: str | int) -> None:
    data = photo(0, 64, 64)
    path = write_photo(tmp_path / "photos/half.jpg", data)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2 if length == "half" else int(length)])
    write_photo(tmp_path / "photos/whole.jpg", data)
    reader = PhotographReader(str(tmp_path / "photos"), header(3), ())
    got = reader.read(sorted((tmp_path / "photos").iterdir()))
    failures = reader.remarks.failures
    assert got is not None and got.names == ["whole.jpg"] and len(failures) == 1 and "half.jpg" in failures[0]
    assert gdal.GetThreadLocalConfigOption(STRICT_JPEG) is None and gdal.GetConfigOption(STRICT_JPEG) is None


def test_half_a_photograph_is_not_imported(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        write_photo(folder / name, photo(0))
    cut_in_half(folder / "a/2.jpg")
    heard = Heard()
    found = bring_in(folder, heard)
    assert len(found.images) == 2 and any("2.jpg" in text for text in heard.warnings)


def test_bytes_that_some_cameras_leave_over_do_no_harm(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.jpg", photo(0))
    before = read_image(look_at(path), 3, np.dtype(np.uint8))
    raw = path.read_bytes()
    begin = raw.index(b"\xff\xda")
    path.write_bytes(raw[:begin] + bytes(7) + raw[begin:])
    assert (read_image(look_at(path), 3, np.dtype(np.uint8)) == before).all()
    cut_in_half(path)
    path.write_bytes(path.read_bytes().replace(bytes(7) + b"\xff\xda", b"\xff\xda"))
    with pytest.raises(Unreadable):
        read_image(look_at(path), 3, np.dtype(np.uint8))


# --- pixels without data


def test_nodata_is_not_blended_into_data(tmp_path: Path) -> None:
    data = np.full((40, 40), 100, np.float32)
    data[:, 20:] = -9999
    path = Path(write_raster(tmp_path / "a.tif", data, nodata=-9999))
    got = PhotographReader(str(tmp_path), header(1, dtype="float32"), ()).read([path])
    assert got.missing is not None and got.data.shape == (1, 1, SIZE, SIZE)
    assert (got.data[~got.missing] == 100).all() and (got.data[got.missing] == -9999).all()
    assert got.missing[0, 0].tolist() == [[False] * 4 + [True] * 4] * SIZE


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
@pytest.mark.parametrize("size", [7, 10, 40, 90])
def test_missing_pixels_weigh_nothing(dtype: str, size: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(90, 110, (2, 40, 52)).astype(dtype)
    missing = rng.random(data.shape) < 0.2
    missing[1] = False
    values, gaps = square_with_gaps(np.where(missing, 0, data).astype(dtype), missing, size, 0)
    other, _ = square_with_gaps(np.where(missing, 250, data).astype(dtype), missing, size, 0)
    assert values.dtype == dtype and values.shape == (2, size, size) and not gaps[1].any()
    assert values[~gaps].min() >= 90 - 1e-3 and values[~gaps].max() <= 110 + 1e-3
    if size != 40:
        assert (values == other).all() and (values[gaps] == 0).all()
    assert np.abs(values[1].astype(float) - square(data, size)[1]).max() <= (1 if dtype != "float32" else 1e-3)


def test_the_import_does_not_blend_nodata_into_data(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name, side in (("a/1", 24), ("b/1", 24), ("b/2", 120)):
        data = np.full((1, side, side), 100, np.float32)
        data[:, :, side // 2 + 1 :] = np.nan
        write_image(folder / f"{name}.tif", data)
    found = bring_in(folder)
    chip = pixels(found.folder / found.images[2])
    assert (chip[:, :12] == 100).all() and np.isnan(chip[:, 12:]).all()


# --- bands


@pytest.mark.parametrize("bands, least", [((0, 1, 2), 0), ((-1, 1, 2), -1)])
def test_there_is_no_band_below_the_first(tmp_path: Path, bands: tuple[int, ...], least: int) -> None:
    with pytest.raises(InputError, match=f"BANDS is {','.join(map(str, bands))}, but there is no band {least}"):
        PhotographReader(str(tmp_path), header(3), bands)
