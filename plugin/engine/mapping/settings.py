"""The settings of a map, in groups."""

from __future__ import annotations

from fractions import Fraction

from ..errors import InputError
from ..settings import Choice, Settings, setting, written

# Bytes hold shares in steps of 1 / 200 = 0.005; 255 is nodata.
BYTE_STEPS, BYTE_NODATA = 200, 255
SHARE_TYPES = {
    "float32": Choice("four bytes per value, exact."),
    "float16": Choice("two bytes, three digits; read as Float32 by GDAL and QGIS."),
    "uint8": Choice("one byte, in steps of 0.005; QGIS applies the scale that the file declares."),
}
RASTER_FORMATS = {
    "GTiff": Choice("a tiled GeoTIFF."),
    "COG": Choice("a Cloud Optimized GeoTIFF, which is read over the web in parts; written in a second pass."),
}
MAP_GRIDS = {
    "read": Choice("those that the network sees, of PIXEL_SIZE."),
    "input": Choice("those of the input; each takes what the nearest pixel has that the network sees."),
}
CONNECTEDNESS = {
    "4": Choice("pixels with a common edge belong together."),
    "8": Choice("also pixels that only touch at a corner."),
}
AREA_UNITS = ("pixels", "square_metres", "hectares")


class FormSettings(Settings):
    """How rasters are stored."""

    raster_format: str = setting("GTiff", choices=RASTER_FORMATS)
    overviews: bool = True  # smaller copies inside the file, for a raster of more than a screen

    def copies(self) -> float:
        """How many times the disk holds a raster's pixels in the end: a COG lies beside what it is made of."""
        return 1 + self.overviews / 3 + (self.raster_format == "COG")


class RasterSettings(FormSettings):
    """How the rasters of a map are stored."""

    # Of probabilities, confidence, entropy and margin.
    probability_type: str = setting("float32", choices=SHARE_TYPES)


class RefiningSettings(Settings):
    """What is done to a raster of classes, in this order."""

    majority_filter: int | None = setting(None, low=3, high=15)  # side of the square in pixels, odd
    min_mapping_unit: float | None = setting(None, low=0)  # smaller regions join a neighbour; in `area_unit`
    area_unit: str = setting("pixels", choices=AREA_UNITS)
    connectedness: str = setting("4", choices=CONNECTEDNESS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.majority_filter is not None and self.majority_filter % 2 == 0:
            raise InputError(f"MAJORITY_FILTER is {self.majority_filter}.", "Give an odd number, such as 3 or 5.")

    def given(self) -> list[str]:
        """The names of the settings that change anything."""
        names = ("min_confidence", "majority_filter", "min_mapping_unit")
        return [name.upper() for name in names if getattr(self, name, None)]


class ClassSettings(RefiningSettings):
    """What is done to the classes of pixels."""

    min_confidence: float | None = setting(None, low=0, high=1)  # before all: pixels below it get no class


class SureSettings(Settings):
    """Rasters that tell how sure the network is."""

    confidence: str | None = written(None)
    entropy: str | None = written(None)
    margin: str | None = written(None)

    def wanted(self) -> dict[str, str]:
        """The path of each measure to write, by its name."""
        found = {name: getattr(self, name) for name in self.declared()}
        return {name: path for name, path in found.items() if path}


class MeasureSettings(SureSettings):
    """Rasters that tell how sure a network, or an ensemble, is."""

    disagreement: str | None = written(None)  # of the models of an ensemble


class PolygonSettings(Settings):
    """The regions of classes as polygons. Areas are in the `area_unit` of `RefiningSettings`."""

    polygons: str | None = written(None)  # a GeoPackage
    polygon_classes: str = ""  # values or names, separated by commas; empty = all
    min_polygon_area: float | None = setting(None, low=0)  # smaller polygons are left out
    fill_holes: float | None = setting(None, low=0)  # smaller holes are filled
    simplify: float | None = setting(None, low=0, high=100)  # distance from the edges of pixels, in pixels


SYMMETRIES = {
    "none": Choice("Each place is seen once, as it is."),
    "mirror": Choice("Also mirrored left to right: for photographs with a sky. Takes twice as long."),
    "flips": Choice("Also mirrored left to right, top to bottom, and both. Takes four times as long."),
    "symmetries": Choice(
        "All eight symmetries of the square: mirrored, and in quarter turns. For images from above; takes eight times "
        "as long."
    ),
}
SMALLEST_SCALE, LARGEST_SCALE = 0.25, 4.0
DENOMINATOR = 8  # of a scale as a fraction, at most


class AveragingSettings(Settings):
    """Which mirror images and turns of an image the network sees, and which other networks see it."""

    ensemble: tuple[str, ...] = ()  # more model files
    test_time_augmentation: str = setting("none", choices=SYMMETRIES)

    @property
    def times(self) -> int:
        """How often the network sees an image."""
        return {"none": 1, "mirror": 2, "flips": 4, "symmetries": 8}[self.test_time_augmentation]


class SegmentationAveragingSettings(AveragingSettings):
    """As `AveragingSettings`, and in which sizes."""

    test_time_scales: tuple[float, ...] = ()  # magnifications; empty = 1 only

    def __post_init__(self) -> None:
        super().__post_init__()
        for scale in self.test_time_scales:
            if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
                raise InputError(
                    f"TEST_TIME_SCALES has {scale:g}.",
                    f"Give numbers from {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}, such as 0.75, 1, 1.25.",
                )

    @property
    def times(self) -> int:
        """As of `AveragingSettings`."""
        return super().times * len(self.scales)

    @property
    def scales(self) -> tuple[Fraction, ...]:
        """Magnifications as fractions of small numbers, each once."""
        found = [Fraction(scale).limit_denominator(DENOMINATOR) for scale in self.test_time_scales or (1.0,)]
        return tuple(dict.fromkeys(found))
