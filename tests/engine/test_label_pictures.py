"""Label rasters with several bands: pictures whose colours are classes, and rasters of which only one band is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from heard import Heard
from osgeo import gdal
from synthetic import LEFT, TOP, reference, scene, write_raster

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import InputError

RED, YELLOW, MAGENTA = 0xFF0000, 0xFFFF00, 0xFF00FF
GROUND = np.where(np.indices((64, 64))[0] < 32, RED, YELLOW)
GROUND[:, 40:] = MAGENTA


def picture(path: Path, colors: np.ndarray = GROUND, alpha: Optional[np.ndarray] = None, **raster: Any) -> str:
    """A label picture; alike in red."""
    bands = [colors >> 16, colors >> 8 & 255, colors & 255, *([] if alpha is None else [alpha])]
    options = ["ALPHA=YES"] if alpha is not None else []
    return write_raster(path, np.stack(bands).astype(np.uint8), options=["PHOTOMETRIC=RGB", *options], **raster)


def exported(folder: Path, *labels: str, heard: Optional[Heard] = None, **settings: Any) -> tuple[Any, np.ndarray]:
    """The classes, and the masks side by side as they lie."""
    image = write_raster(folder / "image.tif", scene(np.ones((64, 64), np.uint8)))
    usual: dict[str, Any] = {"input": (image,), "chip_size": 16, "output": str(folder / "chips"), "overwrite": True}
    config = ExportChipsConfig(label_rasters=labels, **{**usual, **settings})
    export_chips(config, heard or Heard())
    dataset = open_dataset(config.output)
    mask = np.full((64, 64), -1, np.int64)
    for name in dataset.labels:
        chip = gdal.Open(str(dataset.folder / name))
        left, _, _, top, _, _ = chip.GetGeoTransform()
        row, col = round(TOP - top), round(left - LEFT)
        mask[row : row + 16, col : col + 16] = chip.ReadAsArray()
    return [(kind.value, kind.name, kind.color) for kind in dataset.info.classes.classes], mask


def test_the_colours_of_a_picture_are_its_classes(tmp_path: Path) -> None:
    heard = Heard()
    classes, mask = exported(tmp_path, picture(tmp_path / "l.tif"), heard=heard)
    assert classes == [(1, "#ff0000", "#ff0000"), (2, "#ff00ff", "#ff00ff"), (3, "#ffff00", "#ffff00")]
    assert (mask == np.select([GROUND == RED, GROUND == MAGENTA], [1, 2], 3)).all()
    assert any("The labels are a colour image; each of its 3 colours is a class." in line for line in heard.logs)


def test_colours_of_a_picture_are_never_mixed(tmp_path: Path) -> None:
    other = picture(tmp_path / "l.tif", GROUND[::4, ::4], step=4)
    gdal.Warp(str(tmp_path / "z.tif"), other, dstSRS="EPSG:32634", resampleAlg="near", dstAlpha=True)
    for path in (other, str(tmp_path / "z.tif")):
        classes, _ = exported(tmp_path, path)
        assert len(classes) == 3


def test_alpha_and_label_nodata_leave_ground_unlabelled(tmp_path: Path) -> None:
    alpha = np.where(np.indices((64, 64))[0] < 8, 0, 255)
    _, mask = exported(tmp_path, picture(tmp_path / "l.tif", alpha=alpha))
    assert ((mask <= 0) == (alpha == 0)).all()
    _, mask = exported(tmp_path, picture(tmp_path / "l.tif"), label_nodata=float(MAGENTA))
    assert ((mask <= 0) == (GROUND == MAGENTA)).all()


def test_a_class_table_speaks_of_colours(tmp_path: Path) -> None:
    path = picture(tmp_path / "l.tif")
    classes, mask = exported(
        tmp_path, path, class_map=((RED, 3), (YELLOW, None)), classes=((3, "roof", None), (5, "pool", "#FF00FF"))
    )
    assert classes == [(3, "roof", "#ff0000"), (5, "pool", "#ff00ff")]
    assert (np.maximum(mask, 0) == np.select([GROUND == RED, GROUND == MAGENTA], [3, 5], 0)).all()


def test_added_chips_keep_the_classes_of_their_colours(tmp_path: Path) -> None:
    exported(tmp_path, picture(tmp_path / "l.tif"))
    other = picture(tmp_path / "m.tif", np.where(GROUND == RED, YELLOW, MAGENTA))
    classes, mask = exported(tmp_path, other, overwrite=False, append=True)
    assert len(classes) == 3 and set(np.unique(mask)) == {2, 3}


def test_a_photograph_is_no_label_raster(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**24, (64, 64))
    with pytest.raises(InputError, match=r"noise.tif is a colour image with more than 254 colours"):
        exported(tmp_path, picture(tmp_path / "noise.tif", noise))
    assert not (tmp_path / "chips").exists()


def test_pictures_and_numbers_do_not_mix(tmp_path: Path) -> None:
    numbers = write_raster(tmp_path / "n.tif", np.ones((64, 64), np.uint8))
    images = tuple(write_raster(tmp_path / f"{n}.tif", np.ones((3, 64, 64), np.uint8)) for n in "ab")
    for combine in ("separate", "mosaic"):
        with pytest.raises(InputError, match=r"l.tif is a colour image, but .*n.tif holds numbers"):
            exported(tmp_path, picture(tmp_path / "l.tif"), numbers, input=images, combine=combine)
    with pytest.raises(InputError, match="is a colour image, but TASK is regression"):
        exported(tmp_path, picture(tmp_path / "l.tif"), task="regression")


def test_pictures_side_by_side_make_a_mosaic(tmp_path: Path) -> None:
    left = picture(tmp_path / "l.tif", GROUND[:, :32])
    right = picture(tmp_path / "r.tif", GROUND[:, 32:], left=LEFT + 32)
    images = tuple(
        write_raster(tmp_path / f"{n}.tif", np.ones((3, 64, 32), np.uint8), left=LEFT + 32 * n) for n in range(2)
    )
    classes, mask = exported(tmp_path, left, right, input=images, combine="mosaic")
    assert len(classes) == 3
    assert (mask == np.select([GROUND == RED, GROUND == MAGENTA], [1, 2], 3)).all()


def test_it_is_said_which_of_several_bands_holds_the_labels(tmp_path: Path) -> None:
    data = np.stack([np.where(GROUND == RED, 1, 2), np.zeros((64, 64))]).astype(np.uint16)
    heard = Heard()
    _, mask = exported(tmp_path, write_raster(tmp_path / "l.tif", data), heard=heard)
    assert (mask == data[0]).all()
    assert "l.tif has 2 bands; only the first is used as labels" in heard.warnings[0]


def test_the_crs_that_label_rasters_are_given_holds(tmp_path: Path) -> None:
    wanted = reference(32633).ExportToWkt(["FORMAT=WKT2_2019"])
    data = np.where(GROUND == RED, 1, 2).astype(np.uint8)
    for epsg in (None, 32632):
        path = write_raster(tmp_path / "l.tif", data, epsg=epsg)
        _, mask = exported(tmp_path, path, label_crs=(wanted,))
        assert (mask == data).all()
