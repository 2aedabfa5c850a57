"""The log at the end of a mapping job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heard import Heard
from synthetic import reference, write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.mapping.answers.answers import Answers
from plugin.engine.mapping.answers.outcome import area_text, class_areas, number_of, shares_text, tell_answers
from plugin.engine.rasters.raster_io import RasterInfo, RasterReader

THREE = ClassTable.from_rows([(1, "land", None), (2, "road", None), (5, "water", None)])


@pytest.fixture
def info(tmp_path: Path) -> RasterInfo:
    return RasterReader(write_raster(tmp_path / "i.tif", np.zeros((4, 4), np.uint8))).info


@pytest.mark.parametrize(
    ("area", "unit", "text"),
    [
        (812.4, "metre", "812 m²"),
        (9999, "metre", "9,999 m²"),
        (12345, "metre", "1.23 ha"),
        (9.9e6, "metre", "990 ha"),
        (1.234e7, "Meter", "12.3 km²"),
        (5e10, "metre", "50,000 km²"),
        (500, "US survey foot", "500 square US survey foot"),
    ],
)
def test_areas_are_in_units_that_people_use(area: float, unit: str, text: str) -> None:
    assert area_text(area, unit) == text


def test_one_is_not_many() -> None:
    assert [number_of(count, "step") for count in (0, 1, 12000)] == ["0 steps", "1 step", "12,000 steps"]


def test_classes_come_with_their_shares_and_areas_those_with_most_first(info: RasterInfo) -> None:
    assert shares_text(THREE, [4, 0, 12], 16, info) == "water 75 % (12 m²), land 25 % (4 m²)"
    assert shares_text(THREE, [4, 0, 12], 16) == "water 75 %, land 25 %"
    found = class_areas(info, THREE, [4, 0, 12])
    assert found["area_unit"] == "metre" and [kind["area"] for kind in found["classes"]] == [4.0, 0.0, 12.0]


def test_degrees_give_no_areas(info: RasterInfo) -> None:
    info = replace(info, crs=reference(4326).ExportToWkt())
    assert class_areas(info, THREE, [4, 0, 12])["area_unit"] is None
    assert shares_text(THREE, [4, 0, 12], 16, info) == "water 75 %, land 25 %"


def test_the_area_on_the_ground_comes_before_that_on_the_plane(info: RasterInfo) -> None:
    ground = [0.05, 0.0, 25.0]
    assert shares_text(THREE, [4, 0, 12], 16, info, ground) == "water 75 % (25 ha), land 25 % (500 m²)"
    info = replace(info, crs=reference(4326).ExportToWkt())
    assert shares_text(THREE, [4, 0, 12], 16, info, ground) == "water 75 % (25 ha), land 25 % (500 m²)"


def test_many_classes_are_not_all_named() -> None:
    many = ClassTable.from_rows([(value, f"c{value}", None) for value in range(1, 12)])
    assert shares_text(many, [1] * 11, 11).endswith("c8 9.09 % and 3 others")


def test_what_reaches_no_class_is_told() -> None:
    heard = Heard()
    tell_answers(heard, "step", 20, 3, Answers(THREE, False, 0.9), [4, 0, 12])
    assert heard.logs == [
        "Classified 20 steps in 3 s: water 60 %, land 20 %.",
        "4 steps of them reach no class at THRESHOLD 0.9.",
    ]
    tell_answers(heard, "step", 20, 3, Answers(THREE, False, 0.99), [0, 0, 0])
    assert heard.warnings == [
        "Classified 20 steps in 3 s: none reaches a class at THRESHOLD 0.99. Choose a smaller threshold."
    ]


def test_of_several_classes_a_chip_each_has_its_own_share() -> None:
    heard = Heard()
    tell_answers(heard, "photograph", 10, 3, Answers(THREE, True, 0.5), [10, 5, 0])
    assert heard.logs == ["Classified 10 photographs in 3 s: land 100 %, road 50 %."]
