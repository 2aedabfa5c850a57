"""The areas of the classes of a map as a table."""

from __future__ import annotations

from ...vector_files import INTEGER, NUMBER, TEXT, Field
from .class_rasters import ClassRaster
from .tables import AREA_LAYER, Table

FIELDS = (
    Field("value", INTEGER), Field("class", TEXT), Field("pixels", INTEGER), Field("share", NUMBER),
    Field("hectares", NUMBER),
)  # fmt: skip


class AreaTable(Table):
    """A table with a row per class: its pixels, its share of the mapped ground, and its hectares.

    Without a known ground, shares are those of the pixels, and hectares are empty.

    Args:
        path: Final name of the file.
        raster: The raster of classes.

    Raises:
        ResourceError: The file cannot be created.
    """

    def __init__(self, path: str, raster: ClassRaster) -> None:
        self._raster = raster
        super().__init__(path, AREA_LAYER, FIELDS)

    def finish(self) -> None:
        """Write the rows of the raster, which must be complete.

        Raises:
            ResourceError: The disk is full or no longer available.
        """
        pixels, hectares = self._raster.counts.tolist(), self._raster.hectares
        sizes = pixels if hectares is None else hectares
        whole = sum(sizes) or 1
        self.add(
            [kind.value, kind.name, count, size / whole, None if hectares is None else size]
            for kind, count, size in zip(self._raster.classes.classes, pixels, sizes)
        )
        super().finish()
