"""Paint the made-up countryside as an aerial image, and write its polygons as labels.

    python3 make_scene.py FOLDER [--size 2048] [--pixel 0.5] [--seed 3]

writes `scene.tif` (red, green, blue and near infrared, Byte) and `labels.gpkg` (polygons with the text field
"landcover" and a style). Needs numpy and GDAL; the same seed gives the same scene.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from landscape import CLASSES, Feature, Landscape
from osgeo import gdal, ogr, osr
from shapes import BOTTOM, EPSG, LEFT
from style import categorised_style

gdal.UseExceptions()

SUN_AZIMUTH, SUN_HEIGHT = math.radians(140), math.radians(48)  # late morning in June
SHADOW = np.array([0.42, 0.46, 0.56, 0.30], np.float32)  # what the sky alone lights
MARKING = np.array([205, 205, 200, 190], np.float32)


def main() -> None:
    """Make the scene that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=2048, help="pixels a side")
    parser.add_argument("--pixel", type=float, default=0.5, help="metres a pixel")
    parser.add_argument("--seed", type=int, default=3)
    wanted = parser.parse_args()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    landscape = Landscape(wanted.size * wanted.pixel, wanted.seed)
    image = paint(landscape, wanted.size, wanted.pixel, wanted.seed)
    write_image(wanted.folder / "scene.tif", image, wanted.pixel)
    write_labels(wanted.folder / "labels.gpkg", landscape)
    print(f"{wanted.folder / 'scene.tif'}: {wanted.size} × {wanted.size} pixels of {wanted.pixel:g} m, 4 bands")
    print(f"{wanted.folder / 'labels.gpkg'}: {len(landscape.features)} polygons in {len(CLASSES)} classes")


def paint(landscape: Landscape, size: int, pixel: float, seed: int) -> np.ndarray:
    """The landscape from above: (4, size, size) uint8."""
    rng = np.random.default_rng(seed + 1)
    ids = burn([(f.geometry, number) for number, f in enumerate(landscape.features)], size, pixel, gdal.GDT_Int32)
    looks = landscape.features
    names = list(CLASSES)
    kind = np.array([names.index(f.name) for f in looks], np.uint8)[ids]
    is_kind = {name: kind == number for number, name in enumerate(names)}

    rows, cols = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = (cols + 0.5) * pixel, (size - rows - 0.5) * pixel
    slow, medium, fine = (fractal(rng, size, power) for power in (2.6, 1.7, 0.9))

    image = np.array([f.color for f in looks], np.float32).T[:, ids]
    patchy = np.array([f.patchiness for f in looks], np.float32)[ids]
    light = 1 + patchy * (0.55 * slow + 0.60 * medium + 0.35 * fine) + 0.02 * fine
    light += rows_of_crops(looks, ids, x + 0.25 * medium, y + 0.25 * slow) * np.where(is_kind["crops"], 1, 0)

    crowns, dome = tree_crowns(rng, size, pixel)
    is_trees = is_kind["trees"]
    light = np.where(is_trees, light * crowns, light)
    height = np.array([f.height for f in looks], np.float32)[ids] * np.where(is_trees, 0.55 + 0.45 * dome, 1)

    roof_light, roof_height = roofs(looks, ids, x, y)
    light = np.where(is_kind["building"], light * roof_light, light)
    height += np.where(is_kind["building"], roof_height, 0)

    light = np.where(is_kind["grass"], light + 0.05 * rng.normal(0, 1, light.shape), light)
    image *= light
    image[:, is_kind["grass"]] *= np.array([1.0, 0.985, 0.93, 1.04])[:, None] ** (1.2 * medium[is_kind["grass"]])
    # Hardly anything in nature has one hue: woods go to yellow and blue-green, fields dry out in patches.
    hue = np.array([0.045, 0.015, -0.03, -0.02], np.float32)[:, None, None]
    image *= 1 + hue * (
        np.where(is_kind["water"] | is_kind["building"] | is_kind["road"], 0.2, 1.0) * (0.8 * slow + 0.5 * medium)
    )
    ripples = 1 + 0.05 * medium + 0.03 * fine
    image = np.where(is_kind["water"], image * ripples, image)

    painted = burn([(line, 1) for line in landscape.markings], size, pixel, gdal.GDT_Byte).astype(bool)
    image = np.where(painted & is_kind["road"], 0.35 * image + 0.65 * MARKING[:, None, None], image)

    shade = soften(cast_shadows(height + 2.0 * slow, pixel), 1)
    image *= 1 - shade * (1 - SHADOW[:, None, None])
    image *= 1 + 0.05 * slow  # thin haze and the lie of the land
    image = soften(image, 1) + np.array([9, 11, 16, 4], np.float32)[:, None, None]  # the lens and the air
    image += rng.normal(0, 2.2, image.shape).astype(np.float32)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def rows_of_crops(looks: list[Feature], ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W): what rows of plants and the tracks of the sprayer add to the brightness of fields."""
    angle, spacing, contrast = (
        np.array([getattr(f, name) for f in looks], np.float32)[ids] for name in ("angle", "spacing", "contrast")
    )
    across = y * np.cos(angle) - x * np.sin(angle)
    rows = contrast * np.sin(2 * math.pi * across / np.maximum(spacing, 0.5))
    lane = np.abs(np.mod(across, 24.0) - 12)  # a sprayer is 24 m wide, its wheels 1.8 m apart
    wheels = np.abs(lane - 0.9) < 0.35
    return rows - 0.16 * wheels


def tree_crowns(rng: np.random.Generator, size: int, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and height (0 to 1) of a closed canopy, (H, W) each.

    Each tree is the nearest of a jittered grid of points (Worley noise), a dome that is bright towards the sun.
    """
    cell = 5.2 / pixel
    count = int(size / cell) + 3
    seeds = (np.indices((count, count)).transpose(1, 2, 0) - 1 + rng.uniform(0.05, 0.95, (count, count, 2))) * cell
    seeds = seeds.astype(np.float32)
    tone = rng.normal(1, 0.13, (count, count)).astype(np.float32)
    reach = rng.uniform(0.75, 1.25, (count, count)).astype(np.float32)
    rows, cols = np.mgrid[0:size, 0:size].astype(np.float32)
    cell_row, cell_col = (rows / cell).astype(int) + 1, (cols / cell).astype(int) + 1
    nearest = np.full((size, size), np.inf, np.float32)
    towards_sun, tones = np.zeros_like(nearest), np.zeros_like(nearest)
    sun_row, sun_col = -math.cos(SUN_AZIMUTH), math.sin(SUN_AZIMUTH)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            at = (cell_row + down).clip(0, count - 1), (cell_col + right).clip(0, count - 1)
            off_row, off_col = rows - seeds[at][..., 0], cols - seeds[at][..., 1]
            distance = np.hypot(off_row, off_col) / reach[at]
            closer = distance < nearest
            nearest[closer] = distance[closer]
            towards_sun[closer] = ((off_row * sun_row + off_col * sun_col) / cell)[closer]
            tones[closer] = tone[at][closer]
    dome = np.sqrt(np.clip(1 - (nearest / (0.85 * cell)) ** 2, 0, 1))
    leaves = 1 + 0.10 * rng.normal(0, 1, (size, size)).astype(np.float32)
    return tones * (0.50 + 0.45 * dome + 0.62 * towards_sun) * leaves, dome


def roofs(looks: list[Feature], ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness of gable roofs, and their height above the eaves in metres, (H, W) each."""
    angle, half = (np.array([getattr(f, n) for f in looks], np.float32)[ids] for n in ("angle", "half_width"))
    center = np.array([f.center for f in looks], np.float32)[ids]
    across = (y - center[..., 1]) * np.cos(angle) - (x - center[..., 0]) * np.sin(angle)
    # The side that faces the sun is bright; the ridge is a thin light line.
    facing = -np.sin(angle) * math.sin(SUN_AZIMUTH) + np.cos(angle) * math.cos(SUN_AZIMUTH)
    light = 1 + 0.27 * np.sign(across) * facing + 0.12 * (np.abs(across) < 0.3)
    tiles = 0.04 * np.sin(2 * math.pi * across / 1.1)
    return light + tiles, 2.5 * (1 - np.abs(across) / half)


def cast_shadows(height: np.ndarray, pixel: float) -> np.ndarray:
    """(H, W) float32: 1 where something between here and the sun is higher than the ray."""
    shade = np.zeros(height.shape, bool)
    padded = np.pad(height, 80, mode="edge")
    steps = int(17 / math.tan(SUN_HEIGHT) / pixel)
    for step in range(1, steps + 1):
        row = 80 - round(step * math.cos(SUN_AZIMUTH))
        col = 80 + round(step * math.sin(SUN_AZIMUTH))
        towards_sun = padded[row : row + height.shape[0], col : col + height.shape[1]]
        shade |= towards_sun - step * pixel * math.tan(SUN_HEIGHT) > height + 0.4
    return shade.astype(np.float32)


def fractal(rng: np.random.Generator, size: int, power: float) -> np.ndarray:
    """(size, size) noise whose spectrum falls with frequency to `power`/2; mean 0, standard deviation 1."""
    spectrum = np.fft.rfft2(rng.normal(size=(size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    spectrum *= np.maximum(frequency, 4 / size) ** (-power / 2 - 0.5)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return (noise / noise.std()).astype(np.float32)


def soften(image: np.ndarray, times: int) -> np.ndarray:
    """Blur the last two axes with the kernel 1-2-1, `times` over."""
    for _ in range(times):
        for axis in (-1, -2):
            padded = np.pad(image, [(0, 0)] * (image.ndim + axis) + [(1, 1)] + [(0, 0)] * (-1 - axis), mode="edge")
            middle = np.take(padded, range(1, padded.shape[axis] - 1), axis)
            before, after = (np.take(padded, range(s, s + middle.shape[axis]), axis) for s in (0, 2))
            image = 0.25 * (before + after) + 0.5 * middle
    return image


def burn(shapes: list[tuple[ogr.Geometry, int]], size: int, pixel: float, kind: int) -> np.ndarray:
    """(size, size): the number of the last shape that covers the middle of each pixel, 0 where none does."""
    raster = gdal.GetDriverByName("MEM").Create("", size, size, 1, kind)
    raster.SetGeoTransform(transform(size, pixel))
    raster.SetProjection(reference().ExportToWkt())
    source = ogr.GetDriverByName("Memory").CreateDataSource("")
    layer = source.CreateLayer("shapes", reference())
    layer.CreateField(ogr.FieldDefn("number", ogr.OFTInteger))
    for geometry, number in shapes:
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(geometry)
        feature["number"] = number
        layer.CreateFeature(feature)
    gdal.RasterizeLayer(raster, [1], layer, options=["ATTRIBUTE=number"])
    return raster.ReadAsArray()


def transform(size: int, pixel: float) -> tuple[float, ...]:
    """GDAL's geotransform of the scene."""
    return LEFT, pixel, 0.0, BOTTOM + size * pixel, 0.0, -pixel


def reference() -> osr.SpatialReference:
    """The CRS of the scene, x before y."""
    crs = osr.SpatialReference()
    crs.ImportFromEPSG(EPSG)
    crs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return crs


def write_image(path: Path, image: np.ndarray, pixel: float) -> None:
    """Write a (4, H, W) image as a tiled GeoTIFF."""
    size = image.shape[1]
    options = ["TILED=YES", "COMPRESS=DEFLATE", "PREDICTOR=2", "PHOTOMETRIC=RGB", "ALPHA=NO"]
    raster = gdal.GetDriverByName("GTiff").Create(str(path), size, size, 4, gdal.GDT_Byte, options)
    raster.SetGeoTransform(transform(size, pixel))
    raster.SetProjection(reference().ExportToWkt())
    colors = (gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand, gdal.GCI_Undefined)
    for number, (name, color) in enumerate(zip(("red", "green", "blue", "near infrared"), colors), 1):
        band = raster.GetRasterBand(number)
        band.SetDescription(name)
        band.SetColorInterpretation(color)
        band.WriteArray(image[number - 1])
    raster.FlushCache()


def write_labels(path: Path, landscape: Landscape) -> None:
    """Write the polygons with their class names, and a style that QGIS takes by itself."""
    path.unlink(missing_ok=True)
    source = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0)
    layer = source.CreateLayer(path.stem, reference(), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("landcover", ogr.OFTString))
    layer.StartTransaction()
    for shape in landscape.features:
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(shape.geometry)
        feature["landcover"] = shape.name
        layer.CreateFeature(feature)
    layer.CommitTransaction()
    source.FlushCache()
    del layer, source
    path.with_suffix(".qml").write_text(categorised_style("landcover", CLASSES), encoding="utf-8")


if __name__ == "__main__":
    main()
