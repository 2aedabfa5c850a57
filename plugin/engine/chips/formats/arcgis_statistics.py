"""The four description files of an ArcGIS folder, from statistics accumulated chip by chip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...classes import ClassTable
from ...rasters.raster_io import spatial_reference
from ..dataset import DatasetInfo
from ..statistics import BandStatistics

# Placeholders for users to replace; readers ignore them.
PLACEHOLDERS = {
    "Framework": "e.g. PyTorch",
    "ModelConfiguration": "e.g. a configuration file",
    "ModelType": "e.g. ImageClassification",
    "ModelFile": "e.g. a path to the trained model",
    "Description": "e.g. what the model finds",
}
MODEL_PLACEHOLDERS = {
    "ExtractBands": "e.g. [0, 1, 2]",
    "DataRange": "e.g. [0.0, 1.0]",
    "ModelPadding": "e.g. 64",
    "BatchSize": "e.g. 8",
    "PerProcessGPUMemoryFraction": "e.g. 0.8",
}


@dataclass
class Spread:
    """Running minimum, maximum, mean, sum and count."""

    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    count: int = 0

    def add(self, values: Sequence[float]) -> None:
        """Include values."""
        for value in values:
            self.low, self.high = min(self.low, value), max(self.high, value)
            self.total += value
            self.count += 1

    @property
    def mean(self) -> float:
        """The mean; 0 if there are no values."""
        return self.total / self.count if self.count else 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """Minimum and maximum; 0 if there are no values."""
        return (self.low, self.high) if self.count else (0.0, 0.0)

    def to_json(self) -> dict[str, float]:
        """The statistics with ArcGIS's names."""
        low, high = self.ends
        return {"Min": low, "Max": high, "Mean": self.mean, "Sum": self.total, "Count": self.count}


@dataclass
class Tally:
    """The statistics of one class."""

    pixels: Spread = field(default_factory=Spread)  # per chip with the class
    areas: Spread = field(default_factory=Spread)  # per feature, in squared CRS units


class Statistics:
    """The statistics of a folder, accumulated chip by chip.

    Args:
        info: The dataset's description.
        mode: ArcGIS's name of the kind of labels.
        written: The value written for each class.
    """

    def __init__(self, info: DatasetInfo, mode: str, written: Sequence[int]) -> None:
        self.info, self.mode = info, mode
        # ArcGIS sorts classes by value, and some values may have changed.
        order = sorted(range(len(written)), key=lambda place: written[place])
        self.order, self.written = order, [written[place] for place in order]
        self.table = ClassTable(info.classes.classes)
        self.tallies = [Tally() for _ in written]
        self.bands = BandStatistics.empty(len(info.band_names))
        self.classes_per_chip, self.features_per_chip = Spread(), Spread()
        self.chips = 0

    def add(self, bands: BandStatistics, pixels: np.ndarray, areas: Sequence[Sequence[float]]) -> None:
        """Include a chip: its band statistics, (C,) pixels per class, and the areas of the features of each class."""
        self.chips += 1
        self.bands.add(bands)
        for tally, count, sizes in zip(self.tallies, pixels.tolist(), areas):
            if count:
                tally.pixels.add([count])
            tally.areas.add(sizes)
        self.classes_per_chip.add([int((pixels > 0).sum())])
        self.features_per_chip.add([sum(map(len, areas))])

    def map_line(self, image: str, label: str) -> str:
        """The line of a chip in `map.txt`."""
        names = [name.replace("/", "\\") for name in (image, label) if name]
        return "  ".join(names) + " \r\n"

    def stats_text(self) -> str:
        """The text of `stats.txt`."""
        size, bands = self.info.chip_size, len(self.info.band_names)
        lines = [f"images = {self.chips} *{bands}*{size}*{size}"]
        if self.written:
            header = f"{'cls name':<24}{'cls value':>15}{'images':>11}{{}}"
            header += f"{'min size':>12}{'mean size':>13}{'max size':>12}"
            lines += [f"classes = {len(self.written)}", _range("classes per image", self.classes_per_chip)]
            lines += [header.format(f"{'pixels':>11}"), *(self._row(place, "pixels") for place in self.order)]
            features = int(sum(tally.areas.count for tally in self.tallies))
            lines += ["", "Class feature statistics:", f"features = {features}"]
            lines += [_range("features per image", self.features_per_chip)]
            lines += [header.format(f"{'features':>11}"), *(self._row(place, "areas") for place in self.order)]
        return "".join(f"{line}\r\n" for line in lines)

    def _row(self, place: int, kind: str) -> str:
        tally, name = self.tallies[place], " ".join(self.table.names[place].split())
        spread: Spread = getattr(tally, kind)
        count = int(spread.total) if kind == "pixels" else spread.count
        low, high = spread.ends
        value = self.written[self.order.index(place)]
        figures = f"{low:>12.2f}{spread.mean:>13.2f}{high:>12.2f}"
        return f"{name:<24}{value:>15}{tally.pixels.count:>11}{count:>11}{figures}"

    def accumulated(self) -> dict[str, Any]:
        """The contents of `esri_accumulated_stats.json`."""
        info, count = self.info, len(self.written)
        tallies = [self.tallies[place] for place in self.order]
        images = [tally.pixels.count for tally in tallies]
        values: dict[str, Any] = {
            "Version": 1,
            "NumBands": len(info.band_names),
            "TileSizeX": info.chip_size,
            "TileSizeY": info.chip_size,
            "NumClasses": count,
            "NumTiles": self.chips,
            "NumTilesAsDouble": float(self.chips),
            "NextTileIndex": self.chips,
            "OutputFeatures": False,
            "MetaDataMode": self.mode,
            "Classes": [
                {"ClassValue": value, "ClassName": info_of.name, "Color": list(info_of.rgb)}
                for value, info_of in self._listed()
            ],
            "ClassPixelStats": {
                "NumClasses": count,
                "NumImagesTotal": self.chips,
                "NumImagesPerClass": images,
                "NumPixelsPerClass": [int(tally.pixels.total) for tally in tallies],
                "NumClassesPerImage": self.classes_per_chip.to_json(),
                "PixelsPerClass": [tally.pixels.to_json() for tally in tallies],
            },
            "FeatureStats": {
                "NumClasses": count,
                "NumImagesTotal": self.chips,
                "NumFeaturesTotal": sum(tally.areas.count for tally in tallies),
                "NumImagesPerClass": images,
                "NumFeaturesPerClass": [tally.areas.count for tally in tallies],
                "NumFeaturesPerImage": self.features_per_chip.to_json(),
                "FeatureAreaPerClass": [tally.areas.to_json() for tally in tallies],
            },
            **self._cells(),
            "InputRastersProps": self._rasters(),
            "BandStatsState": [
                {"Min": low, "Max": high, "Mean": 0, "StdDev": 0, "M1": mean, "M2": squares, "Num": int(pixels)}
                for low, high, mean, squares, pixels in self._bands()
            ],
        }
        return values

    def definition(self) -> dict[str, Any]:
        """The contents of `esri_model_definition.emd`."""
        info = self.info
        return {
            **PLACEHOLDERS,
            "ImageHeight": info.chip_size,
            "ImageWidth": info.chip_size,
            **MODEL_PLACEHOLDERS,
            "MetaDataMode": self.mode,
            "BlackenAroundFeature": False,
            "CropTileMode": "Fixed_Size",
            "ImageSpaceUsed": "MAP_SPACE",
            "IsMultidimensional": False,
            **self._cells(),
            "Classes": [
                {"Value": value, "Name": info_of.name, "Color": list(info_of.rgb)} for value, info_of in self._listed()
            ],
            "InputRastersProps": self._rasters(),
            "AllTilesStats": [
                {"BandName": name, "Min": low, "Max": high, "Mean": mean, "StdDev": (squares / max(pixels, 1)) ** 0.5}
                for name, (low, high, mean, squares, pixels) in zip(info.band_names, self._bands())
            ],
        }

    def _listed(self) -> list[tuple[int, Any]]:
        return [(value, self.table.classes[place]) for value, place in zip(self.written, self.order)]

    def _bands(self) -> list[tuple[float, ...]]:
        """Minimum, maximum, mean, sum of squares and pixel count of each band; zeros for bands without data."""
        found, seen = self.bands, self.bands.count > 0
        columns = (found.minimum, found.maximum, found.mean, found.squares, found.count)
        return [tuple(row) for row in np.stack([np.where(seen, column, 0) for column in columns], axis=1).tolist()]

    def _rasters(self) -> dict[str, Any]:
        names = list(self.info.band_names)
        return {"RasterCount": max(1, len(self.info.sources)), "SensorName": "", "BandNames": names}

    def _cells(self) -> dict[str, Any]:
        size = {"x": self.info.pixel_size, "y": self.info.pixel_size, "spatialReference": _reference(self.info.crs)}
        return {"MinCellSize": size, "MaxCellSize": size}


def _range(name: str, spread: Spread) -> str:
    low, high = spread.ends
    return f"{name} = [min = {low:g}, mean = {spread.mean:.2f}, max = {high:g}]"


def _reference(crs: str) -> dict[str, Any]:
    """A CRS in ArcGIS's notation: its code, or its WKT if it has none."""
    reference = spatial_reference(crs)
    if reference is None:
        return {}
    code = reference.GetAuthorityCode(None)
    if code and code.isdecimal():
        return {"wkid": int(code), "latestWkid": int(code)}
    return {"wkt": reference.ExportToWkt(["FORMAT=WKT1_ESRI"])}


def to_text(values: dict[str, Any]) -> str:
    """JSON text formatted as in ArcGIS's files."""
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
