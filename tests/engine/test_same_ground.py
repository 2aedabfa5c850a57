"""Which CRSs give the same positions; the vertical part of a CRS changes no values."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import numpy as np
import pytest
from heard import Heard
from osgeo import gdal, osr
from synthetic import LEFT, TOP, write_raster

from plugin.engine.chips.formats.images import look_at
from plugin.engine.chips.label_rasters import LabelRaster, label_mosaic
from plugin.engine.chips.labels import RasterLabels, RasterTargets
from plugin.engine.chips.sources import open_sources
from plugin.engine.config import ExportChipsConfig
from plugin.engine.rasters.raster_io import RasterReader, crs_text, same_crs

BESSEL = "+proj=tmerc +lon_0=9 +x_0=3500000 +ellps=bessel +towgs84={},73.7,418.2,0.202,0.045,-2.455,6.7"


def crs(text: Union[str, int]) -> osr.SpatialReference:
    found = osr.SpatialReference()
    found.SetFromUserInput(text if isinstance(text, str) else f"EPSG:{text}")
    found.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return found


def wkt(reference: osr.SpatialReference) -> str:
    return str(reference.ExportToWkt(["FORMAT=WKT2_2019"]))


def by_esri(code: int) -> str:
    """A CRS as Esri's files have it: with other names, and always east before north."""
    return wkt(crs(crs(code).ExportToWkt(["FORMAT=WKT1_ESRI"])))


def site(name: str) -> str:
    return wkt(crs(f'LOCAL_CS["{name}",UNIT["metre",1]]'))


def with_shift(code: int) -> str:
    found = crs(code)
    found.SetTOWGS84(598.1, 73.7, 418.2, 0.202, 0.045, -2.455, 6.7)
    return wkt(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (wkt(crs(32633)), wkt(crs("EPSG:32633+5773"))),  # heights above the geoid
        (wkt(crs("EPSG:32633+5773")), wkt(crs("EPSG:32633+6360"))),
        (wkt(crs(4326)), wkt(crs(4979))),  # heights above the ellipsoid
        (wkt(crs(4326)), wkt(crs("OGC:CRS84"))),  # the order of axes
        *((wkt(crs(code)), by_esri(code)) for code in (32633, 31467, 2180, 3035, 3857, 2193, 27700, 3031, 4326)),
        (wkt(crs(31467)), with_shift(31467)),  # a way to WGS 84 beside the same datum
        (wkt(crs(32633)), wkt(crs("+proj=utm +zone=33 +datum=WGS84"))),
        (site("quarry"), site("quarry")),
        ("", wkt(crs(32633))),
    ],
)
def test_crss_of_the_same_ground(one: str, other: str) -> None:
    assert same_crs(one, other) and same_crs(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (wkt(crs(32633)), wkt(crs(25833))),  # WGS 84 and ETRS89
        (wkt(crs(26910)), wkt(crs(32610))),  # NAD83 and WGS 84
        (wkt(crs(4326)), wkt(crs(9755))),  # a realisation of WGS 84
        (wkt(crs(32633)), wkt(crs(32634))),
        (wkt(crs(31467)), wkt(crs(BESSEL.format(598.1)))),
        (wkt(crs(BESSEL.format(598.1))), wkt(crs(BESSEL.format(500)))),
        (site("quarry"), site("harbour")),
        (site("quarry"), wkt(crs(32633))),
    ],
)
def test_crss_of_other_ground(one: str, other: str) -> None:
    assert not same_crs(one, other) and not same_crs(other, one)


def test_an_epoch_moves_no_pixels() -> None:
    early, late = crs(9000), crs(9000)
    if not hasattr(early, "SetCoordinateEpoch"):
        pytest.skip("GDAL before 3.4 knows no epochs")
    early.SetCoordinateEpoch(2010.0)
    late.SetCoordinateEpoch(2020.5)
    assert same_crs(wkt(early), wkt(late))


# --- values


def raised(path: Path, data: np.ndarray, code: str = "EPSG:32633+5773", **raster: float) -> str:
    """A raster whose CRS has heights."""
    name = write_raster(path, data, **raster)  # type: ignore[arg-type]
    gdal.Open(name, gdal.GA_Update).SetSpatialRef(crs(code))
    return name


def readers(*paths: str, combine: str) -> list[RasterReader]:
    return open_sources(ExportChipsConfig(input=paths, output="unused", combine=combine), Heard())


def test_heights_in_the_crs_leave_values_as_they_are(tmp_path: Path) -> None:
    height = np.tile(np.arange(100, 132, dtype=np.float32), (32, 1))
    plain, above = write_raster(tmp_path / "a.tif", height), raised(tmp_path / "b.tif", height)
    feet = raised(tmp_path / "c.tif", height, "EPSG:32633+6360")
    for first, other in ((plain, above), (above, plain), (above, feet)):
        pair = readers(first, other, combine="separate")
        assert [reader.source for reader in pair] == [first, other], "nothing to resample"
        assert crs_text(pair[0].info.crs) == "EPSG:32633 (WGS 84 / UTM zone 33N)"
        (stack,) = readers(first, other, combine="stack")
        assert (stack.read(stack.info.grid.window) == height).all()
        (mosaic,) = readers(first, other, combine="mosaic")
        assert (mosaic.read(mosaic.info.grid.window) == height).all()


def test_chips_of_others_lose_the_heights_of_their_crs(tmp_path: Path) -> None:
    facts = look_at(Path(raised(tmp_path / "a.tif", np.zeros((16, 16), np.uint8))))
    assert facts.crs.startswith("PROJCRS") and "VERTCRS" not in facts.crs


def test_a_warp_into_another_zone_leaves_heights_as_they_are(tmp_path: Path) -> None:
    plain = write_raster(tmp_path / "a.tif", np.zeros((32, 32), np.float32))
    degrees = osr.CoordinateTransformation(crs(32633), crs(4326))
    left, top, _ = degrees.TransformPoint(LEFT, TOP)
    above = raised(
        tmp_path / "b.tif", np.full((32, 32), 100, np.float32), "EPSG:4326+5773", left=left, top=top, step=1e-5
    )
    _, reader = readers(plain, above, combine="separate")
    found = reader.read(reader.info.grid.window)
    assert (found[~np.isnan(found)] == 100).all() and (found == 100).mean() > 0.8


@pytest.mark.parametrize("code", ["EPSG:32633+5773", "EPSG:32634+5773"])
def test_labels_with_heights_in_their_crs_keep_their_classes(tmp_path: Path, code: str) -> None:
    info = RasterReader(write_raster(tmp_path / "a.tif", np.zeros((32, 32), np.uint8))).info
    move = osr.CoordinateTransformation(crs(32633), crs(code[:10]))
    left, top, _ = move.TransformPoint(LEFT - 8, TOP + 8)
    classes = np.ones((64, 64), np.uint8)
    classes[:, 24:] = 2
    path = raised(tmp_path / "l.tif", classes, code, left=left, top=top)
    values, labelled = RasterLabels(LabelRaster.of(path), info, None).read(info.grid.window)
    assert set(np.unique(values[labelled])) == {1, 2} and labelled.mean() > 0.9
    targets, labelled = RasterTargets(LabelRaster.of(path), info, None).read(info.grid.window)
    assert targets[labelled].min() == 1 and targets[labelled].max() == 2
    flat = write_raster(tmp_path / "f.tif", classes)
    if code.startswith("EPSG:32633"):
        both = label_mosaic([LabelRaster.of(flat), LabelRaster.of(path)])
        values, _ = RasterLabels(both, info, None).read(info.grid.window)
        assert set(np.unique(values)) == {1, 2}
