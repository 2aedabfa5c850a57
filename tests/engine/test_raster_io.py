from __future__ import annotations

import http.server
import math
import re
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from synthetic import write_raster

from plugin.engine.errors import InputError
from plugin.engine.rasters import raster_io
from plugin.engine.rasters.block_cache import LARGEST, LARGEST_IN_WORKER, SMALLEST, limited_cache
from plugin.engine.rasters.opening import virtual_text
from plugin.engine.rasters.raster_io import RasterReader, crs_text, missing_values, spatial_reference, value_text
from plugin.engine.windows import Grid, Window

ALL = Window(0, 0, 4, 4)


def create(path: Path, bands: int, code: int, options: tuple[str, ...] = ()) -> gdal.Dataset:
    """A GeoTIFF of 4 × 4 pixels, to be filled and let go."""
    target = gdal.GetDriverByName("GTiff").Create(str(path), 4, 4, bands, code, list(options))
    target.SetGeoTransform((0, 1, 0, 0, 0, -1))
    return target


def test_a_window_is_read_with_all_its_bands(tmp_path: Path) -> None:
    data = np.arange(3 * 20 * 30, dtype=np.int16).reshape(3, 20, 30)
    reader = RasterReader(write_raster(tmp_path / "a.tif", data))
    assert (reader.read(Window(5, 6, 7, 8)) == data[:, 6:14, 5:12]).all()
    assert reader.info.pixel_size == 1.0
    assert crs_text(reader.info.crs) == "EPSG:32633 (WGS 84 / UTM zone 33N)"


def test_bands_are_chosen_by_number_and_keep_their_order(tmp_path: Path) -> None:
    data = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    reader = RasterReader(write_raster(tmp_path / "a.tif", data), (3, 1))
    assert reader.read(Window(0, 0, 1, 1)).ravel().tolist() == [30, 10]


@pytest.mark.parametrize("interleave", ["BAND", "PIXEL"])
@pytest.mark.parametrize("bands", [(2, 3), (3, 1), (3, 2, 1), (2, 2), (1, 2)])
def test_bands_are_those_asked_for_when_gdal_reads_with_threads(
    tmp_path: Path, bands: tuple[int, ...], interleave: str
) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 100, 130)).astype(np.uint8)
    path = write_raster(tmp_path / "r.tif", data, options=[f"INTERLEAVE={interleave}", "BLOCKYSIZE=16"])
    gdal.SetThreadLocalConfigOption("GDAL_NUM_THREADS", "ALL_CPUS")  # as mapping does
    try:
        window, reader = Window(5, 7, 110, 80), RasterReader(path, bands)
        around = np.full((len(bands) + 6, 80, 110), 77, np.uint8)
        reader.read(window, around[3:-3])
    finally:
        gdal.SetThreadLocalConfigOption("GDAL_NUM_THREADS", None)
    assert np.array_equal(around[3:-3], data[[band - 1 for band in bands], 7:87, 5:115])
    assert (around[:3] == 77).all() and (around[-3:] == 77).all()


def test_a_pixel_is_valid_while_one_band_has_data(tmp_path: Path) -> None:
    data = np.ones((2, 1, 3), np.int16)
    data[0, 0, 1] = data[:, 0, 2] = -99
    reader = RasterReader(write_raster(tmp_path / "a.tif", data, nodata=-99))
    window = Window(0, 0, 3, 1)
    missing = reader.read_marked(window)[1]
    assert missing is not None and missing[:, 0].tolist() == [[False, True, True], [False, False, True]]
    valid = reader.valid(window, missing)
    assert valid is not None and valid.tolist() == [[True, True, False]]


def test_nan_is_missing_without_a_word_on_nodata(tmp_path: Path) -> None:
    data = np.array([[[1.0, np.nan]]], np.float32)
    reader = RasterReader(write_raster(tmp_path / "a.tif", data))
    missing = reader.read_marked(Window(0, 0, 2, 1))[1]
    assert missing is not None and missing.ravel().tolist() == [False, True]


def test_an_alpha_band_masks_and_is_no_channel(tmp_path: Path) -> None:
    data = np.full((4, 2, 2), 200, np.uint8)
    data[3, 0, 0] = 0
    path = write_raster(tmp_path / "a.tif", data, options=["PHOTOMETRIC=RGB", "ALPHA=YES"])
    reader = RasterReader(path)
    assert reader.info.bands == (1, 2, 3) and reader.info.band_names == ("red", "green", "blue")
    valid = reader.valid(Window(0, 0, 2, 2), None)
    assert valid is not None and valid.tolist() == [[False, True], [True, True]]


def test_what_is_no_raster_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("text")
    with pytest.raises(InputError, match="cannot be opened"):
        RasterReader(str(tmp_path / "a.tif"))


def test_rotated_rasters_and_absent_bands_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "r.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="Band 4"):
        RasterReader(path, (4,))
    gdal.Open(path, gdal.GA_Update).SetGeoTransform((0, 1, 0.5, 0, 0.5, -1))
    with pytest.raises(InputError, match="rotated"):
        RasterReader(path)


# --- data types


@pytest.mark.parametrize(
    ("code", "dtype", "values"),
    [
        ("Byte", "uint8", (0, 255)),
        ("UInt16", "uint16", (0, 65535)),
        ("Int16", "int16", (-32768, 32767)),
        ("UInt32", "uint32", (0, 2**32 - 1)),
        ("Int32", "int32", (-(2**31), 2**31 - 1)),
        ("UInt64", "uint64", (0, 2**64 - 1)),
        ("Int64", "int64", (-(2**63), 2**63 - 1)),
        ("Float32", "float32", (-1.5, 3e38)),
        ("Float64", "float64", (-1.5, 1e300)),
    ],
)
def test_every_data_type_is_read_to_its_last_value(
    tmp_path: Path, code: str, dtype: str, values: tuple[float, float]
) -> None:
    kind = gdal.GetDataTypeByName(code)
    if not kind:
        pytest.skip(f"this GDAL has no {code}")
    target = create(tmp_path / "a.tif", 2, kind)
    target.GetRasterBand(1).SetNoDataValue(values[1])
    data = np.full((2, 4, 4), values[0], dtype)
    data[:, 0, 1] = values[1]
    target.WriteArray(data)
    target = None
    reader = RasterReader(str(tmp_path / "a.tif"))
    found, missing = reader.read_marked(ALL)
    assert found.dtype == dtype == reader.info.dtype and (found == data).all()
    assert missing is not None and missing[0].sum() == 1 and missing[0, 0, 1]


def test_signed_bytes_keep_their_sign(tmp_path: Path) -> None:
    values = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    if hasattr(gdal, "GDT_Int8"):
        target = create(tmp_path / "a.tif", 1, gdal.GDT_Int8)
        target.WriteArray(values)
    else:
        target = create(tmp_path / "a.tif", 1, gdal.GDT_Byte, ("PIXELTYPE=SIGNEDBYTE",))
        target.WriteArray(values.view(np.uint8))
    target = None
    reader = RasterReader(str(tmp_path / "a.tif"))
    assert reader.info.dtype == np.int16
    assert (reader.read(ALL)[0] == values).all()


@pytest.mark.parametrize("code", [gdal.GDT_CInt16, gdal.GDT_CInt32, gdal.GDT_CFloat32, gdal.GDT_CFloat64])
def test_complex_bands_are_refused_and_real_ones_beside_them_not(tmp_path: Path, code: int) -> None:
    create(tmp_path / "c.tif", 1, code)
    with pytest.raises(InputError, match="complex"):
        RasterReader(str(tmp_path / "c.tif"))
    target = gdal.GetDriverByName("VRT").Create("", 4, 4, 0)
    target.SetGeoTransform((0, 1, 0, 0, 0, -1))
    target.AddBand(gdal.GDT_Float32)
    target.AddBand(code)
    text = virtual_text(target)
    with pytest.raises(InputError, match=f"Band 2 of it holds complex numbers .{gdal.GetDataTypeName(code)}"):
        RasterReader(text, name="it")
    assert RasterReader(text, (1,)).read(ALL).dtype == np.float32


# --- what is no data


@pytest.mark.parametrize("internal", [True, False])
def test_masks_inside_and_beside_the_file_count(tmp_path: Path, internal: bool) -> None:
    path = write_raster(tmp_path / "a.tif", np.full((3, 4, 4), 9, np.uint8))
    shown = np.full((4, 4), 255, np.uint8)
    shown[1, 2] = 0
    with _option("GDAL_TIFF_INTERNAL_MASK", "YES" if internal else "NO"):
        dataset = gdal.Open(path, gdal.GA_Update if internal else gdal.GA_ReadOnly)
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(shown)
        dataset = None
    assert (tmp_path / "a.tif.msk").exists() != internal
    reader = RasterReader(path)
    valid = reader.valid(ALL, reader.read_marked(ALL)[1])
    assert valid is not None and (valid == (shown != 0)).all()
    assert reader.valid(Window(0, 2, 4, 2), None) is None, "a window without a hole costs nothing"


class _option:
    """One of GDAL's options for a while."""

    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value

    def __enter__(self) -> None:
        self.before = gdal.GetConfigOption(self.name)
        gdal.SetConfigOption(self.name, self.value)

    def __exit__(self, *_: object) -> None:
        gdal.SetConfigOption(self.name, self.before)


@pytest.mark.parametrize("code", [gdal.GDT_Byte, gdal.GDT_UInt16, gdal.GDT_Int16, gdal.GDT_Float32])
@pytest.mark.parametrize("bands", [2, 4, 5])
def test_alpha_hides_whatever_the_type_and_number_of_bands(tmp_path: Path, bands: int, code: int) -> None:
    target = create(tmp_path / "a.tif", bands, code)
    target.GetRasterBand(bands).SetColorInterpretation(gdal.GCI_AlphaBand)
    for band in range(1, bands):
        target.GetRasterBand(band).Fill(7)
    target.GetRasterBand(bands).WriteArray(np.eye(4) * 100)
    target = None
    reader = RasterReader(str(tmp_path / "a.tif"))
    assert reader.info.bands == tuple(range(1, bands))
    valid = reader.valid(ALL, None)
    assert valid is not None and (valid == np.eye(4, dtype=bool)).all()


def test_an_alpha_band_that_is_asked_for_is_a_channel(tmp_path: Path) -> None:
    data = np.full((4, 4, 4), 200, np.uint8)
    path = write_raster(tmp_path / "a.tif", data, options=["PHOTOMETRIC=RGB", "ALPHA=YES"])
    assert RasterReader(path, (1, 4)).read(ALL).shape == (2, 4, 4)


def test_nodata_of_float32_is_found_in_bands_that_are_read_as_float64(tmp_path: Path) -> None:
    """-3.4e38 as GeoTIFFs say it is another number as float32."""
    target = gdal.GetDriverByName("VRT").Create("", 4, 4, 0)
    target.SetGeoTransform((0, 1, 0, 0, 0, -1))
    single = write_raster(tmp_path / "s.tif", np.full((4, 4), -3.4e38, np.float32), nodata=-3.4e38)
    target = gdal.BuildVRT("", [single])
    target.AddBand(gdal.GDT_Float64)
    reader = RasterReader(virtual_text(target))
    assert reader.info.dtype == np.float64
    missing = reader.read_marked(ALL)[1]
    assert missing is not None and missing[0].all() and not missing[1].any()


@pytest.mark.parametrize("nodata", [-9999.0, 0.5, math.inf, 256.0, math.nan])
def test_a_nodata_value_that_bytes_cannot_have_marks_nothing(nodata: float) -> None:
    assert missing_values(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (nodata,)) is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("nodata", [None, math.nan, -math.inf, 7.0])
def test_what_is_not_finite_is_missing(value: float, nodata: float | None) -> None:
    found = missing_values(np.array([[[1.0, value, 5.0]]], np.float32), (nodata,))
    assert found is not None and found.ravel().tolist() == [False, True, False]
    assert missing_values(np.array([[[1.0, 5.0]]], np.float32), (nodata,)) is None


@pytest.mark.parametrize("value", [-3.4028234663852886e38, 0.1, -9999, 255.0, 1e20, 2**40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_that_was_written_down_is_the_same_when_typed_again(value: float, dtype: type) -> None:
    text = value_text(dtype(value))
    assert not text.endswith(".0") and dtype(float(text)) == dtype(value)


# --- where rasters come from


def test_a_raster_without_a_place_lies_where_qgis_shows_it(tmp_path: Path) -> None:
    made = gdal.GetDriverByName("MEM").Create("", 6, 4, 3, gdal.GDT_Byte)
    made.GetRasterBand(1).WriteArray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    gdal.GetDriverByName("PNG").CreateCopy(str(tmp_path / "photo.png"), made)
    reader = RasterReader(str(tmp_path / "photo.png"))
    assert reader.info.grid == Grid(0, 0, 1, -1, 6, 4) and reader.info.crs == ""
    assert reader.info.path == str(tmp_path / "photo.png")
    assert reader.read(Window(1, 2, 2, 1))[0].tolist() == [[13, 14]]


def test_south_up_rasters_are_read_as_they_are(tmp_path: Path) -> None:
    data = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    path = write_raster(tmp_path / "a.tif", data)
    gdal.Open(path, gdal.GA_Update).SetGeoTransform((0, 1, 0, 0, 0, 1))
    reader = RasterReader(path)
    assert reader.info.grid.step_y == 1 and (reader.read(ALL) == data).all()


def test_a_container_of_several_rasters_names_them(tmp_path: Path) -> None:
    path = str(tmp_path / "two.gpkg")
    for table in ("spring", "autumn"):
        options = [f"RASTER_TABLE={table}", "APPEND_SUBDATASET=YES"]
        source = gdal.Open(write_raster(tmp_path / f"{table}.tif", np.zeros((3, 4, 4), np.uint8)))
        gdal.GetDriverByName("GPKG").CreateCopy(path, source, options=options)
    with pytest.raises(InputError, match=f"contains several rasters.*GPKG:{re.escape(path)}:spring, .*:autumn"):
        RasterReader(path)
    assert len(RasterReader(f"GPKG:{path}:autumn").info.bands) >= 3


@pytest.mark.parametrize("service", ["TMS", "VirtualEarth"])
def test_map_tiles_from_the_web_are_refused(service: str) -> None:
    server = "https://127.0.0.1:9/" + ("${quadkey}" if service == "VirtualEarth" else "${z}/${x}/${y}") + ".png"
    text = (
        f'<GDAL_WMS><Service name="{service}"><ServerUrl>{server}</ServerUrl></Service><DataWindow>'
        "<UpperLeftX>-20037508</UpperLeftX><UpperLeftY>20037508</UpperLeftY><LowerRightX>20037508</LowerRightX>"
        "<LowerRightY>-20037508</LowerRightY><TileLevel>18</TileLevel><TileCountX>1</TileCountX>"
        "<TileCountY>1</TileCountY><YOrigin>top</YOrigin></DataWindow><Projection>EPSG:3857</Projection>"
        "<BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    # Without the driver the text is taken for a file's name, and no server is asked either.
    with pytest.raises(InputError, match="is a web map" if gdal.GetDriverByName("WMS") else "tiles cannot be opened"):
        RasterReader(text, name="tiles")


def test_a_format_that_this_gdal_does_not_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.lst").write_text("a format of tomorrow")
    with pytest.raises(InputError, match=r"a.lst cannot be opened.*If QGIS can show it, save it as a GeoTIFF"):
        RasterReader(str(tmp_path / "a.lst"))
    with pytest.raises(InputError, match="Check that the file exists and is intact"):
        RasterReader(str(tmp_path / "none.tif"))


def test_a_raster_in_a_zip_file_is_read(tmp_path: Path) -> None:
    data = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(write_raster(tmp_path / "a.tif", data), "inner/a.tif")
    reader = RasterReader(f"/vsizip/{tmp_path}/a.zip/inner/a.tif")
    assert (reader.read(ALL) == data).all()


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as stores of remote rasters do."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        total = len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, total - 1
        if asked:
            status, first = 206, int(asked[1])
            last = min(int(asked[2] or total - 1), total - 1)
        self.send_response(status)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        self.end_headers()
        if body:
            self.wfile.write(data[first : last + 1])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address at which a server gives out the test's folder."""

    class Handler(_Ranges):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(tmp_path), **kwargs)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_remote_raster_is_read_window_by_window(tmp_path: Path, served: str) -> None:
    if "/vsicurl/" not in gdal.GetFileSystemsPrefixes():
        pytest.skip("this GDAL was built without curl")
    data = np.random.default_rng(0).integers(0, 255, (3, 300, 300)).astype(np.uint8)
    write_raster(tmp_path / "a.tif", data, options=["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"])
    with _option("no_proxy", "127.0.0.1"):
        reader = RasterReader(f"/vsicurl/{served}/a.tif")
        assert (reader.read(Window(100, 50, 80, 70)) == data[:, 50:120, 100:180]).all()
        with pytest.raises(InputError, match="cannot be opened"):
            RasterReader(f"/vsicurl/{served}/absent.tif")


# --- threads and memory


def test_a_reader_may_go_from_thread_to_thread(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    readers = [RasterReader(write_raster(tmp_path / f"{number}.tif", data)) for number in range(4)]

    def read(number: int) -> bool:
        window = Window(number % 50, number % 40, 14, 24)
        return bool(
            (readers[number % 4].read(window) == data[(slice(None), *window.slices_in(Window(0, 0, 64, 64)))]).all()
        )

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:  # each reader in one thread at a time
            for first in range(0, 200, 4):
                assert all(pool.map(read, range(first, first + 4)))


@pytest.mark.parametrize("text", ["FILE", "EPSG:32633", "+proj=utm +zone=33", "PROJCS[", "x" * 5000])
def test_a_crs_is_wkt_and_never_the_name_of_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "crs.wkt"
    file.write_text(RasterReader(write_raster(tmp_path / "a.tif", np.zeros((1, 4, 4), np.uint8))).info.crs)
    with pytest.raises(InputError, match="is not a CRS in WKT") as caught:
        spatial_reference(str(file) if text == "FILE" else text)
    assert len(str(caught.value)) < 1000


def test_only_some_readers_keep_their_rasters_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster_io, "MOST_OPEN", 2)
    readers = [
        RasterReader(write_raster(tmp_path / f"{number}.tif", np.full((4, 4), number, np.uint8))) for number in range(5)
    ]
    assert [int(reader.read(ALL)[0, 0, 0]) for reader in readers] == [0, 1, 2, 3, 4]
    assert sum(reader._dataset is not None for reader in readers) == 2
    assert int(readers[0].read(ALL)[0, 0, 0]) == 0, "a closed one opens again"


def test_reading_keeps_gdals_cache_small_and_gives_it_back(tmp_path: Path) -> None:
    options = ["TILED=YES", "COMPRESS=DEFLATE", "ZLEVEL=1"]
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 6000, 6000), np.uint8), options=options)
    before = gdal.GetCacheMax()
    reader = RasterReader(path)
    with limited_cache([reader], 1000):
        assert gdal.GetCacheMax() == SMALLEST
        with limited_cache([reader], 1000):
            pass
        assert gdal.GetCacheMax() == SMALLEST
        for row in range(0, 6000, 1000):
            for col in range(0, 6000, 1000):
                reader.read(Window(col, row, 1000, 1000))
        assert gdal.GetCacheUsed() <= SMALLEST
    assert gdal.GetCacheMax() == before


def test_a_raster_in_strips_is_kept_for_one_row_of_windows(tmp_path: Path) -> None:
    target = gdal.GetDriverByName("GTiff").Create(
        str(tmp_path / "a.tif"), 30000, 3000, 2, gdal.GDT_Byte, ["SPARSE_OK=TRUE", "COMPRESS=DEFLATE"]
    )
    target.SetGeoTransform((0, 1, 0, 0, 0, -1))
    target = None
    reader, before = RasterReader(str(tmp_path / "a.tif")), gdal.GetCacheMax()
    with limited_cache([reader], 2000):
        assert min(before, 30000 * 2000 * 2) <= gdal.GetCacheMax()
    with limited_cache([reader], 100_000):
        assert gdal.GetCacheMax() == min(before, LARGEST)
        with limited_cache([reader], 100_000, in_worker=True):
            assert gdal.GetCacheMax() == LARGEST_IN_WORKER
    assert gdal.GetCacheMax() == before
