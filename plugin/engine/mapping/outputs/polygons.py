"""The regions of chosen classes as polygons, taken from the finished raster of classes.

GDAL outlines the regions of the whole raster line by line, so that they do not end at tiles. The outlines go to a
temporary file in pixels, and from there one by one to the result.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from osgeo import gdal, ogr

from ...classes import ClassTable
from ...vector_files import INTEGER, NUMBER, TEXT, Field
from ...windows import Window
from ...xml_elements import Element, SubElement, tostring
from ..answers.chosen import chosen_classes
from ..settings import PolygonSettings, RefiningSettings
from .borders import Borders, planar_area
from .class_rasters import ClassRaster
from .refining import SQUARE_METRES, pixel_unit
from .style import polygons_style
from .tables import POLYGON_LAYER, Table

ogr.UseExceptions()

FIELDS = (
    Field("value", INTEGER), Field("class", TEXT), Field("square_metres", NUMBER, "area (m²)"),
    Field("hectares", NUMBER, "area (ha)"),
)  # fmt: skip
# The outer ring of a polygon and those of its holes, each (n, 2).
Part = list[np.ndarray]


class PolygonsFile(Table):
    """A GeoPackage of the regions of a class raster, styled like it.

    Args:
        path: Final name of the file.
        raster: The raster of classes.
        settings: How polygons are made.
        classes: How regions are measured and connected.

    Raises:
        InputError: A setting cannot be used.
        ResourceError: The file cannot be created.
    """

    def __init__(self, path: str, raster: ClassRaster, settings: PolygonSettings, classes: RefiningSettings) -> None:
        table = raster.classes
        self._indices = chosen_classes(settings.polygon_classes, table)
        self._raster, self._settings, self._ground = raster, settings, raster.ground
        self._names = {kind.value: kind.name for kind in table.classes}
        self._connectedness = int(classes.connectedness)
        self._unit = SQUARE_METRES.get(classes.area_unit)  # None = pixels
        pixel_unit(classes.area_unit, raster.ground, Window(0, 0, *raster.window[2:]))
        self._transform = raster.like.grid.geotransform(raster.window)
        kinds = ClassTable(tuple(table.classes[index] for index in self._indices))
        titles = {field.name: field.title for field in FIELDS if field.title}
        style = polygons_style("value", kinds, titles)
        raster.form.phases.plan(2)
        super().__init__(path, POLYGON_LAYER, FIELDS, raster.like.crs or "", style, several=True)

    def finish(self) -> None:
        """Outline the regions of the raster, which must be complete, and write them.

        Raises:
            ResourceError: The disk is full or no longer available.
            Cancelled: The user cancelled the job, or QGIS has ended.
        """
        work = self.draft.folder / "terrazzo.outlines.gpkg"
        phases = self._raster.form.phases
        try:
            with phases.one("Outlining regions") as phase:
                outlines = gdal.GetDriverByName("GPKG").Create(str(work), 0, 0, 0, gdal.GDT_Unknown)
                layer = outlines.CreateLayer("outlines", None, ogr.wkbPolygon, ["SPATIAL_INDEX=NO"])
                layer.CreateField(ogr.FieldDefn("value", ogr.OFTInteger))
                layer.StartTransaction()
                image = gdal.Open(self._masked(self._raster.draft.path))
                options = ["8CONNECTED=8"] if self._connectedness == 8 else []
                band, mask = image.GetRasterBand(1), image.GetRasterBand(2)
                gdal.Polygonize(band, mask, layer, 0, options, callback=phase.callback)
                layer.CommitTransaction()
            with phases.one("Writing polygons") as phase:
                count, borders = max(1, layer.GetFeatureCount()), self._borders(image)
                for number, feature in enumerate(layer):
                    self._add(feature.GetField(0), feature.GetGeometryRef(), borders)
                    phase.reach((number + 1) / count)
        except RuntimeError as error:
            raise self._failure(error) from error
        finally:
            borders = feature = layer = image = outlines = None  # an open file would be written again
        work.unlink()
        super().finish()

    def _masked(self, source: Path) -> str:
        """Return a virtual raster in pixels: the classes, and a mask of the chosen ones."""
        size = self._raster.window
        root = Element("VRTDataset", rasterXSize=str(size.width), rasterYSize=str(size.height))
        chosen = set(self._raster.classes.values[self._indices].tolist())
        near = sorted({value + step for value in chosen for step in (-1, 0, 1)})
        # GDAL interpolates between the values listed, which are neighbours.
        lookup = ",".join(f"{value}:{255 if value in chosen else 0}" for value in near)
        for number, kind in ((1, "SimpleSource"), (2, "ComplexSource")):
            data_type = "Int32" if number == 1 else "Byte"
            band = SubElement(root, "VRTRasterBand", dataType=data_type, band=str(number))
            read = SubElement(band, kind)
            SubElement(read, "SourceFilename", relativeToVRT="0").text = str(source)
            SubElement(read, "SourceBand").text = "1"
            if number == 2:
                SubElement(read, "LUT").text = lookup
        return tostring(root, encoding="unicode")

    def _borders(self, image: gdal.Dataset) -> Borders | None:
        """Return what simplifies the outlines; None if they are not simplified."""
        if not self._settings.simplify:
            return None

        classes, band = self._raster.classes, image.GetRasterBand(1)
        label = np.full(256, len(classes), np.int32)  # of each class index; one for all that are not outlined
        label[self._indices] = self._indices

        def labels(window: Window) -> np.ndarray:
            found: np.ndarray = label[classes.to_indices(band.ReadAsArray(*window).astype(dtype, copy=False))]
            return found

        dtype = classes.mask_dtype(int(self._raster.nodata))
        size = self._raster.window
        return Borders(labels, (size.height, size.width), self._settings.simplify)

    def _add(self, value: int, outline: ogr.Geometry, borders: Borders | None) -> None:
        """Write a region unless it is too small."""
        settings = self._settings
        parts = _parts(outline.MakeValid() if self._connectedness == 8 else outline)
        if settings.fill_holes:
            parts = [
                [part[0], *(hole for hole in part[1:] if self._size([hole]) >= settings.fill_holes)] for part in parts
            ]
        if settings.min_polygon_area and sum(map(self._size, parts)) < settings.min_polygon_area:
            return
        if borders is not None:
            parts = _simplified(parts, borders)
        if not parts:
            return
        placed = [[self._placed(ring) for ring in part] for part in parts]
        area = None if self._ground is None else sum(map(self._ground.polygon, placed))
        self.add([[value, self._names[value], area, None if area is None else area / 1e4]], [_wkb(placed)])

    def _size(self, part: Part) -> float:
        """Return the area of a polygon in the unit of the settings."""
        if self._unit is None or self._ground is None:
            return planar_area(part[0]) - sum(map(planar_area, part[1:]))
        return self._ground.polygon([self._placed(ring) for ring in part]) / self._unit

    def _placed(self, ring: np.ndarray) -> np.ndarray:
        """Turn columns and rows into coordinates."""
        left, x_col, x_row, top, y_col, y_row = self._transform
        col, row = ring.T
        return np.stack([left + col * x_col + row * x_row, top + col * y_col + row * y_row], 1)


def _parts(shape: ogr.Geometry) -> list[Part]:
    """Return the polygons of a geometry in pixels; lines and points of it are left out."""
    kind = ogr.GT_Flatten(shape.GetGeometryType())
    if kind == ogr.wkbPolygon:
        return [[np.array(ring.GetPoints())[:, :2] for ring in shape]]
    if kind in (ogr.wkbMultiPolygon, ogr.wkbGeometryCollection):
        return [part for one in shape for part in _parts(one)]
    return []


def _simplified(parts: list[Part], borders: Borders) -> list[Part]:
    """Simplify the polygons of a region; they may vanish, or fall apart where lines cross."""
    found = []
    for part in parts:
        outer, *holes = (borders.simplified(ring.astype(np.int64)) for ring in part)
        if outer is not None:
            found.append([outer, *(hole for hole in holes if hole is not None)])
    shape = ogr.CreateGeometryFromWkb(_wkb(found))
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # GEOS describes each fault
    try:
        return found if shape.IsValid() else _parts(shape.MakeValid())
    finally:
        gdal.PopErrorHandler()


def _wkb(parts: list[Part]) -> bytes:
    """Return polygons as a multipolygon, in well-known binary."""
    pieces = [struct.pack("<BII", 1, ogr.wkbMultiPolygon, len(parts))]
    for part in parts:
        pieces.append(struct.pack("<BII", 1, ogr.wkbPolygon, len(part)))
        for ring in part:
            pieces += [struct.pack("<I", len(ring)), np.ascontiguousarray(ring, "<f8").tobytes()]
    return b"".join(pieces)
