"""Harmful changes to an image, and to the files beside it or in its place."""

from __future__ import annotations

import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from mutators import Mutator, Target, flip, truncate
from osgeo import gdal
from synthetic import write_raster


def image_instead(path: Path, rng: random.Random, target: Target) -> str:
    """Another kind of file under its name, that may read elsewhere."""
    secret = target.outside / "secret.tif"
    band = (
        '<VRTRasterBand dataType="Byte" band="{}"><SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource>'
        "</VRTRasterBand>"
    )
    size = rng.choice([32, 24, 16, 60000])
    head = f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">'
    bands = rng.choice([1, 3])
    source = rng.choice([str(secret), f"/vsicurl/{target.address}/x.tif", "/dev/zero", str(path)])
    python = (
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">'
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode><![CDATA[\n"
        f"open('{target.outside}/new.txt', 'w')\n]]></PixelFunctionCode></VRTRasterBand>"
    )
    asset = {"href": f"{target.address}/x.tif", "proj:transform": [1, 0, 0, 0, -1, 0], "proj:shape": [9, 9]}
    item = {"type": "Feature", "stac_version": "1.0.0", "properties": {"proj:epsg": 32633}, "assets": {"a": asset}}
    texts = {
        "VRT": head + "".join(band.format(number + 1, source) for number in range(bands)) + "</VRTDataset>",
        "VRT with code": f"{head}{python}</VRTDataset>",
        "VRT of itself": head + band.format(1, path) + "</VRTDataset>",
        "WMS": f"<GDAL_WMS><Service name='TMS'><ServerUrl>{target.address}/${{z}}/${{x}}/${{y}}</ServerUrl></Service>"
        "<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY><LowerRightX>9</LowerRightX><LowerRightY>0"
        f"</LowerRightY><SizeX>{size}</SizeX><SizeY>{size}</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>",
        "WMTS": f"<GDAL_WMTS><GetCapabilitiesUrl>{target.address}</GetCapabilitiesUrl></GDAL_WMTS>",
        "WCS": f"<WCS_GDAL><ServiceURL>{target.address}</ServiceURL><CoverageName>x</CoverageName></WCS_GDAL>",
        "MRF": f"<MRF_META><CachedSource><Source>{source}</Source></CachedSource><Raster><Size x='{size}' y='{size}' "
        "c='3'/></Raster></MRF_META>",
        "mrf": f"<mrf_meta><cachedsource><source>{source}</source></cachedsource><raster><size x='{size}' y='{size}' "
        f"c='3'/><datafile>{secret}</datafile></raster></mrf_meta>",
        "STAC": json.dumps({"type": "FeatureCollection", "stac_version": "1.0.0", "features": [item]}),
        "an address": f"{target.address}/x.tif",
        "PNM": f"P6 {size} {size} 255\n",
        "XPM": '/* XPM */ static char *x[] = {"60000 60000 1 1", "a c #000000"};',
        "AAIGrid": f"ncols {size}\nnrows {size}\nxllcorner 0\nyllcorner 0\ncellsize 1\n0",
        "nothing": "",
    }
    what = rng.choice(list(texts))
    path.unlink()
    path.write_text(texts[what])
    return f"is {what} ({size} pixels)"


def image_of_other_kind(path: Path, rng: random.Random, target: Target) -> str:
    """A whole image that is not what it should be: of another size, type or number of bands, or a giant in little."""
    path.unlink()
    png = path.suffix == ".png"
    kinds = ["giant", "giant", "wide", "bomb", "bands", "type", "size", "pixel", "palette", "not a number", "alpha"]
    what = rng.choice(kinds)
    kind = gdal.GetDriverByName("GTiff")
    if what in ("giant", "wide", "bands"):
        sizes = {"giant": (60000, 60000, 3), "wide": (2_000_000_000, 1, 1), "bands": (32, 32, 60000)}
        width, height, bands = sizes[what]
        options = ["SPARSE_OK=YES", "COMPRESS=DEFLATE", *(["TILED=YES", "BIGTIFF=YES"] if what == "giant" else [])]
        kind.Create(str(path), width, height, bands, gdal.GDT_Byte, options).FlushCache()
    elif what == "bomb":
        path.write_bytes(_png_bomb(*rng.choice([(40000, 60000), (16000, 16000)])))
    elif what == "type":
        code = rng.choice([gdal.GDT_Float64, gdal.GDT_CFloat32, gdal.GDT_UInt32, gdal.GDT_Int16])
        kind.Create(str(path), 32, 32, 3, code).FlushCache()
    elif what == "palette":
        made = kind.Create(str(path), 32, 32, 1)
        table = gdal.ColorTable()
        table.SetColorEntry(0, (1, 2, 3, 255))
        made.GetRasterBand(1).SetColorTable(table)
        made.FlushCache()
    else:
        shape = {"size": (3, 33, 31), "pixel": (1, 1, 1), "alpha": (4, 32, 32), "not a number": (3, 32, 32)}[what]
        data = np.full(shape, np.nan, np.float32) if what == "not a number" else np.zeros(shape, np.uint8)
        write_raster(path, data)
    return f"an image of another kind: {what}{' in a .png' if png else ''}"


def _png_bomb(width: int, height: int) -> bytes:
    """A PNG of zeros with one bit a pixel: small, and large when it is read."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    squeezed = zlib.compressobj(1)
    row = bytes(1 + width // 8)
    data = b"".join(squeezed.compress(row * 100) for _ in range(height // 100)) + squeezed.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def image_beside(path: Path, rng: random.Random, target: Target) -> str:
    """What GDAL reads beside an image."""
    secret = target.outside / "secret.tif"
    crs = target.crs(rng)[:1000].replace("\0", "")
    overview = (
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{secret}</MDI></Metadata>'
        f"<Metadata><MDI key='AREA_OR_POINT'>{'x' * 1000}</MDI></Metadata><SRS>{crs}</SRS></PAMDataset>"
    )
    texts = {
        ".aux.xml": overview,
        ".ovr": f"<VRTDataset rasterXSize='9' rasterYSize='9'><VRTRasterBand dataType='Byte' band='1'><SimpleSource>"
        f"<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
        ".msk": secret.as_uri(),
    }
    ending = rng.choice([*texts, "link"])
    if ending == "link":
        beside = Path(f"{path}{rng.choice(list(texts))}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(secret)
        return f"{beside.suffix} is a link"
    Path(f"{path}{ending}").write_text(texts[ending])
    for name in ("tfw", "pgw", "wld", "prj"):
        path.with_suffix(f".{name}").write_text(rng.choice(["1e308\n" * 6, "nan\n" * 6, "0\n" * 6, crs]))
    return f"{ending} and world files beside it"


IMAGES: tuple[Mutator, ...] = (
    *(image_instead,) * 8, *(image_of_other_kind,) * 8, *(image_beside,) * 3, flip, flip, truncate,
)  # fmt: skip
