"""Coordinate reference systems and rectangles of QGIS."""

from __future__ import annotations

from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle

WKT2 = QgsCoordinateReferenceSystem.WktVariant.WKT2_2019


def ground_crs(crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    """Return a CRS without its vertical part, which does not affect positions and may need transformation grids."""
    if not crs.isValid():
        return crs
    from ..plugin.engine.rasters.raster_io import ground_crs

    wkt = crs.toWkt(WKT2)
    ground = QgsCoordinateReferenceSystem.fromWkt(ground_crs(wkt))
    return ground if ground.isValid() and ground != crs else crs


def same_ground(one: QgsCoordinateReferenceSystem, other: QgsCoordinateReferenceSystem) -> bool:
    """Return whether two CRSs give the same positions; an unknown CRS equals only another unknown one."""
    if one == other or not (one.isValid() and other.isValid()):
        return one == other
    from ..plugin.engine.rasters.raster_io import same_crs

    return same_crs(one.toWkt(WKT2), other.toWkt(WKT2))


def bounds(rectangle: QgsRectangle) -> tuple[float, float, float, float]:
    """Return (left, bottom, right, top)."""
    return rectangle.xMinimum(), rectangle.yMinimum(), rectangle.xMaximum(), rectangle.yMaximum()


def place_text(rectangle: QgsRectangle, crs: QgsCoordinateReferenceSystem) -> str:
    """Describe an extent: "x 1 to 2, y 3 to 4 in EPSG:4326 (WGS 84)"."""
    if rectangle.isNull() or not rectangle.isFinite():  # a null rectangle has the largest possible numbers
        return f"an unknown place in {crs_text(crs)}"
    left, bottom, right, top = (f"{value:.7g}" for value in bounds(rectangle))
    return f"x {left} to {right}, y {bottom} to {top} in {crs_text(crs)}"


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """Describe a CRS: "EPSG:4326 (WGS 84)"."""
    if not crs.isValid():
        return "an unknown CRS"
    name = crs.description() or "without a name"
    return f"{crs.authid()} ({name})" if crs.authid() else name
