"""QGIS can read the style that the engine writes beside a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qgis.core import QgsPalettedRasterRenderer, QgsRasterLayer
from synthetic import write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.mapping.outputs.style import write_qml

ROWS = [(-3, 'water & "ice"', "#3366cc"), (0, "Wälder", "#116622"), (40000, "rest", "#ffffff")]


def test_qgis_reads_values_names_and_colours_of_the_style(qgis_app: object, tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "map.tif", np.zeros((5, 5), np.int32))
    write_qml(tmp_path / "map.qml", ClassTable.from_rows(ROWS))
    layer = QgsRasterLayer(raster, "map")
    renderer = layer.renderer()
    assert isinstance(renderer, QgsPalettedRasterRenderer)
    assert [(kind.value, kind.label, kind.color.name()) for kind in renderer.classes()] == ROWS
