"""How fast chips are exported, as ratios to two references timed in the same run.

Makes a raster (uint8, deflate, blocks of 512) and polygons of several classes, exports 256-pixel chips at stride 256,
and compares with
- the limit: reading the raster once and writing the same chips, as bare GDAL calls on one thread;
- a plain script: read, rasterise and write chip by chip.

    python3 benchmarks/export_chips.py [--side 10000] [--polygons 5000] [--folder /tmp/export_benchmark]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from osgeo import gdal, ogr, osr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
gdal.UseExceptions()

CHIP, BANDS, CLASSES, LEFT, TOP = 256, 4, 6, 400000.0, 5500000.0


def make_raster(path: Path, side: int) -> None:
    """Smooth noise, so that deflate has about the work it has with an orthophoto."""
    rng = np.random.default_rng(0)
    target = gdal.GetDriverByName("GTiff").Create(
        str(path),
        side,
        side,
        BANDS,
        gdal.GDT_Byte,
        ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "COMPRESS=DEFLATE"],
    )
    target.SetGeoTransform((LEFT, 1, 0, TOP, 0, -1))
    target.SetSpatialRef(reference())
    for row in range(0, side, 512):
        height = min(512, side - row)
        coarse = rng.integers(40, 200, (BANDS, height // 8 + 1, side // 8 + 1), dtype=np.uint8)
        rows = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :side]
        target.WriteArray(rows + rng.integers(0, 8, rows.shape, dtype=np.uint8), 0, row)
    target.FlushCache()


def make_polygons(path: Path, side: int, count: int) -> None:
    """Octagons of several classes, spread evenly."""
    rng = np.random.default_rng(1)
    target = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("labels", reference(), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("value", ogr.OFTInteger))
    target.StartTransaction()
    angles = np.linspace(0, 2 * np.pi, 9)
    radius = side / np.sqrt(count) * 0.6
    for _ in range(count):
        x, y, r = LEFT + rng.random() * side, TOP - rng.random() * side, radius * (0.3 + rng.random())
        ring = ",".join(f"{x + r * np.cos(angle):.2f} {y + r * np.sin(angle):.2f}" for angle in angles[:-1])
        ring += "," + ring.split(",", 1)[0]
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField("value", int(rng.integers(1, CLASSES + 1)))
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(f"POLYGON(({ring}))"))
        layer.CreateFeature(feature)
    target.CommitTransaction()


def reference() -> osr.SpatialReference:
    """The CRS of everything here."""
    found = osr.SpatialReference()
    found.ImportFromEPSG(32633)
    found.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return found


def terrazzo(image: str, labels: str, folder: Path) -> int:
    """The exporter itself."""
    from plugin.engine.chips.export import export_chips
    from plugin.engine.config import ExportChipsConfig
    from plugin.engine.events import Reporter

    return export_chips(ExportChipsConfig(input=(image,), labels=labels, output=str(folder / "chips")), Reporter())[
        "chips"
    ]


def write_chip(path: Path, data: np.ndarray, col: int, row: int, options: list[str]) -> None:
    """One chip with its georeference, as bare GDAL calls."""
    data = data if data.ndim == 3 else data[None]
    target = gdal.GetDriverByName("GTiff").Create(str(path), CHIP, CHIP, len(data), gdal.GDT_Byte, options)
    target.SetGeoTransform((LEFT + col, 1, 0, TOP - row, 0, -1))
    target.SetSpatialRef(SRS)
    target.WriteArray(data)
    target.FlushCache()


SRS = reference()


def positions(side: int) -> list[int]:
    """Chip offsets along one axis, the last one shifted inside."""
    found = list(range(0, side - CHIP + 1, CHIP))
    return found if found[-1] + CHIP == side else [*found, side - CHIP]


def limit(image: str, labels: str, folder: Path) -> int:
    """Read each pixel once, write each chip once; nothing else."""
    source = gdal.Open(image)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    empty, count = np.zeros((CHIP, CHIP), np.uint8), 0
    for row in positions(source.RasterYSize):
        strip = source.ReadAsArray(0, row, source.RasterXSize, CHIP)
        for col in positions(source.RasterXSize):
            name = f"{count:07d}.tif"
            write_chip(folder / "images" / name, strip[:, :, col : col + CHIP], col, row, ["INTERLEAVE=BAND"])
            write_chip(folder / "labels" / name, empty, col, row, ["COMPRESS=PACKBITS"])
            count += 1
    return count


def plain(image: str, labels: str, folder: Path) -> int:
    """What one writes in an afternoon: for each chip, read, rasterise, write."""
    source, vector = gdal.Open(image), gdal.OpenEx(labels, gdal.OF_VECTOR)
    layer = vector.GetLayer(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    count = 0
    for row in positions(source.RasterYSize):
        for col in positions(source.RasterXSize):
            data = source.ReadAsArray(col, row, CHIP, CHIP)
            mask = gdal.GetDriverByName("MEM").Create("", CHIP, CHIP, 1, gdal.GDT_Byte)
            mask.SetGeoTransform((LEFT + col, 1, 0, TOP - row, 0, -1))
            mask.SetSpatialRef(SRS)
            gdal.RasterizeLayer(mask, [1], layer, options=["ATTRIBUTE=value"])
            name = f"{count:07d}.tif"
            write_chip(folder / "images" / name, data, col, row, ["INTERLEAVE=BAND"])
            write_chip(folder / "labels" / name, mask.ReadAsArray(), col, row, ["COMPRESS=PACKBITS"])
            count += 1
    return count


def main() -> None:
    """Time each way in a process of its own, in turn, and print the ratios of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10000)
    parser.add_argument("--polygons", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/export_benchmark"))
    parser.add_argument("--way", choices=("terrazzo", "limit", "plain"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    image, labels = (
        given.folder / f"image_{given.side}.tif",
        given.folder / f"labels_{given.side}_{given.polygons}.gpkg",
    )
    if given.way:
        begun = time.perf_counter()
        chips = globals()[given.way](str(image), str(labels), given.folder / "out")
        taken = time.perf_counter() - begun
        print(chips, taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    if not image.exists():
        make_raster(image, given.side)
    if not labels.exists():
        make_polygons(labels, given.side, given.polygons)
    found: dict[str, list[list[float]]] = {"terrazzo": [], "limit": [], "plain": []}
    for _ in range(given.runs):
        for way, results in found.items():
            shutil.rmtree(given.folder / "out", ignore_errors=True)
            again = [
                sys.executable,
                __file__,
                "--way",
                way,
                "--side",
                str(given.side),
                "--polygons",
                str(given.polygons),
            ]
            done = subprocess.run([*again, "--folder", str(given.folder)], check=True, capture_output=True, text=True)
            results.append([float(word) for word in done.stdout.split()])
    medians = {way: np.median(results, axis=0) for way, results in found.items()}
    for way, (chips, seconds, memory) in medians.items():
        print(f"{way:9} {chips:6.0f} chips  {seconds:7.2f} s  {chips / seconds:6.0f} chips/s  peak {memory:5.0f} MB")
    rates = {way: chips / seconds for way, (chips, seconds, _) in medians.items()}
    print(f"terrazzo / limit  {rates['terrazzo'] / rates['limit']:.2f}")
    print(f"terrazzo / plain  {rates['terrazzo'] / rates['plain']:.2f}")
    shutil.rmtree(given.folder / "out", ignore_errors=True)


if __name__ == "__main__":
    main()
