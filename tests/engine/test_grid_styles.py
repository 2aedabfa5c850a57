"""Grids of answers contain their style, and never replace the style of another layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from heard import Heard
from known_classifier import SIZE, Known, header, mean
from osgeo import gdal, ogr
from synthetic import reference, write_raster

from plugin.engine.config import ClassifyScenesConfig
from plugin.engine.errors import InputError
from plugin.engine.mapping import scenes

THEIRS = "<qgis>the user's</qgis>"


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    use(monkeypatch)
    data = np.full((2 * SIZE, 3 * SIZE), 30, np.uint8)
    data[:, SIZE:] = 220
    return write_raster(tmp_path / "i.tif", data)


def use(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    monkeypatch.setattr(scenes, "load_classifier", lambda path: (Known(mean), header(**values)))


def classify(image: str, **settings: Any) -> Heard:
    heard = Heard()
    scenes.classify_scenes(ClassifyScenesConfig(**{"input": image, "model": "m", "device": "cpu", **settings}), heard)
    return heard


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def style_of(path: Path) -> ElementTree.Element:
    source = ogr.Open(str(path))
    layer = source.GetLayerByName("layer_styles")
    assert layer.GetFeatureCount() == 1
    row = layer.GetNextFeature().items()
    assert (row["f_table_name"], row["f_geometry_column"], row["useAsDefault"]) == ("scenes", "geom", 1)
    return ElementTree.fromstring(row["styleQML"])


def aliases(style: ElementTree.Element) -> dict[str, str]:
    return {str(alias.get("field")): str(alias.get("name")) for alias in style.iter("alias")}


TITLES = {"probability_0": "dark", "probability_7": "middling", "probability_9": "bright"}


def test_a_geopackage_holds_its_style_and_lies_beside_a_raster_of_its_name(tmp_path: Path, image: str) -> None:
    classify(image, output=str(tmp_path / "o.tif"), grid=str(tmp_path / "o.gpkg"))
    style = style_of(tmp_path / "o.gpkg")
    labels = [category.get("label") for category in style.iter("category")]
    assert labels == ["dark", "middling", "bright", "no class"]
    assert aliases(style) == TITLES
    assert "paletted" in (tmp_path / "o.qml").read_text()
    assert names(tmp_path) == {"i.tif", "o.tif", "o.tif.aux.xml", "o.qml", "o.gpkg"}
    source = ogr.Open(str(tmp_path / "o.gpkg"))
    assert source.GetLayer(0).GetName() == "scenes"


def test_several_classes_have_titles_and_no_drawing_of_their_own(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, task="multilabel")
    classify(image, grid=str(tmp_path / "g.gpkg"))
    style = style_of(tmp_path / "g.gpkg")
    assert aliases(style) == TITLES and style.find("renderer-v2") is None


@pytest.mark.parametrize("grid", ["i.gpkg", "i.geojson", "i.csv"])
def test_the_style_of_the_users_image_stays(tmp_path: Path, image: str, grid: str) -> None:
    (tmp_path / "i.qml").write_text(THEIRS)
    heard = classify(image, grid=str(tmp_path / grid))
    assert (tmp_path / "i.qml").read_text() == THEIRS
    assert any("i.qml already exists" in text for text in heard.logs) == (grid != "i.gpkg")


def test_a_style_of_an_earlier_grid_of_that_name_is_replaced_but_not_that_of_another(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = str(tmp_path / "g.geojson")
    classify(image, grid=grid)
    assert "renderer-v2" in (tmp_path / "g.qml").read_text()
    heard = classify(image, grid=str(tmp_path / "g.csv"))
    assert any("g.qml already exists" in text for text in heard.logs)
    use(monkeypatch, task="multilabel")
    classify(image, grid=grid)
    assert "renderer-v2" not in (tmp_path / "g.qml").read_text()
    ElementTree.parse(tmp_path / "g.qml")


def test_a_raster_of_the_same_name_keeps_the_style_file(tmp_path: Path, image: str) -> None:
    heard = classify(image, output=str(tmp_path / "o.tif"), grid=str(tmp_path / "o.geojson"))
    assert "paletted" in (tmp_path / "o.qml").read_text()
    assert any("o.qml is the style of" in text for text in heard.logs)


def geopackage(path: Path, *layers: str) -> str:
    target = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    for name in layers:
        target.CreateLayer(name, reference(32633), ogr.wkbPolygon)
    return str(path)


def test_a_geopackage_with_other_layers_is_not_replaced(tmp_path: Path, image: str) -> None:
    user = geopackage(tmp_path / "user.gpkg", "parcels", "Scenes", "roads")
    with pytest.raises(InputError, match=r"user.gpkg is a GeoPackage with other data \(parcels, roads\)"):
        classify(image, grid=user)
    assert ogr.Open(user).GetLayerCount() == 3


def test_an_earlier_grid_is_replaced(tmp_path: Path, image: str) -> None:
    grid = str(tmp_path / "g.gpkg")
    classify(image, grid=grid)
    classify(image, grid=grid)
    style_of(tmp_path / "g.gpkg")
    assert names(tmp_path) == {"i.tif", "g.gpkg"}
