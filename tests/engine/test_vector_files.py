"""Lists are written without GDAL, because some builds have no driver for them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from osgeo import gdal, ogr

from plugin.engine.mapping.outputs.tables import Table
from plugin.engine.mapping.pipeline.loop import finish
from plugin.engine.vector_files import INTEGER, NUMBER, TEXT, Field, create_vector_file, keeps_style

FIELDS = [Field("value", INTEGER), Field("class", TEXT, "What it is"), Field("share", NUMBER)]
ROWS: list[tuple[Any, ...]] = [
    (1, "oak, old", 0.25), (None, 'say "x"\nÄ', None), (3, "", 1 / 3), (4, "7", 1e-20), (5, "b", 2.0),
]  # fmt: skip
SQUARE = "POLYGON ((0 0,5 0,5 1,0 1,0 0))"


@pytest.mark.parametrize("crs", [None, ""])
def test_a_list_is_what_gdal_would_write(tmp_path: Path, crs: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ogr.CreateGeometryFromWkt(SQUARE) if crs is not None else None
    driver = gdal.GetDriverByName("CSV")
    monkeypatch.setattr(gdal, "GetDriverByName", lambda name: None)
    file = create_vector_file(tmp_path / "ours.csv", "list", FIELDS, crs)
    for row in ROWS:
        file.add(row, shape)
    file.commit()
    file.close()
    found = (tmp_path / "ours.csv").read_text(encoding="utf-8")
    with open(tmp_path / "ours.csv", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["class"] for row in rows] == [row[1] for row in ROWS]
    assert [row["share"] for row in rows] == ["0.25", "", "0.333333333333333", "1e-20", "2"]
    assert crs is None or {row["WKT"] for row in rows} == {SQUARE}
    if driver is None:
        pytest.skip("this GDAL has no driver for CSV to compare with")
    options = ["STRING_QUOTING=IF_NEEDED", *([] if crs is None else ["GEOMETRY=AS_WKT"])]
    target = driver.Create(str(tmp_path / "theirs.csv"), 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("list", None, ogr.wkbNone if crs is None else ogr.wkbPolygon, options)
    for name, kind in (("value", ogr.OFTInteger), ("class", ogr.OFTString), ("share", ogr.OFTReal)):
        layer.CreateField(ogr.FieldDefn(name, kind))
    for values in ROWS:
        feature = ogr.Feature(layer.GetLayerDefn())
        for place, value in enumerate(values):
            if value is not None:
                feature.SetField(place, value)
        if shape is not None:
            feature.SetGeometry(shape)
        layer.CreateFeature(feature)
    layer = target = None
    theirs = (tmp_path / "theirs.csv").read_text(encoding="utf-8")
    assert found == theirs


def test_a_list_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    with Table(str(tmp_path / "t.csv"), "list", FIELDS) as table:
        table.add(ROWS)
    assert list(tmp_path.iterdir()) == []
    with Table(str(tmp_path / "t.csv"), "list", FIELDS) as table:
        table.add(ROWS)
        finish([table])
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_only_a_geopackage_keeps_its_style() -> None:
    assert [keeps_style(f"a.{kind}") for kind in ("gpkg", "GPKG", "geojson", "csv")] == [True, True, False, False]
