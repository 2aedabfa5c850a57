"""Make the sample layers that the plugin ships: an image, and polygons on its western two thirds.

    python3 make_sample.py [FOLDER]

writes `image.tif` (red, green and blue, as JPEG in a GeoTIFF) and `landcover.gpkg` (polygons with the text field
"landcover", and a style beside them) into `resources/sample`, or into the folder. Needs numpy and GDAL.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from landscape import Landscape
from make_scene import paint, write_image, write_labels
from osgeo import gdal
from shapes import make_polygon, parts

gdal.UseExceptions()

SIZE, PIXEL, SEED = 1280, 0.5, 8
LABELLED = 0.68  # the share of the ground, from the west
TOLERANCE = 0.1  # metres by which outlines may be simpler
JPEG = ["COMPRESS=JPEG", "JPEG_QUALITY=85", "PHOTOMETRIC=YCBCR", "TILED=YES"]


def main() -> None:
    """Write the sample."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "sample")
    folder.mkdir(parents=True, exist_ok=True)
    landscape = Landscape(SIZE * PIXEL, SEED)
    with tempfile.TemporaryDirectory() as made:
        write_image(Path(made) / "scene.tif", paint(landscape, SIZE, PIXEL, SEED), PIXEL)
        gdal.Translate(
            str(folder / "image.tif"), str(Path(made) / "scene.tif"), bandList=[1, 2, 3], creationOptions=JPEG
        )
    side = SIZE * PIXEL
    west = make_polygon([(0, 0), (LABELLED * side, 0), (LABELLED * side, side), (0, side)])
    kept = []
    for feature in landscape.features:
        for part in parts(feature.geometry.Intersection(west)):
            if part.Area() > 1:
                kept.append(replace(feature, geometry=part.SimplifyPreserveTopology(TOLERANCE)))
    landscape.features = kept
    write_labels(folder / "landcover.gpkg", landscape)


if __name__ == "__main__":
    main()
