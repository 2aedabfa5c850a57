"""Files that lead to a server, which must not be asked; the server is one on this machine."""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tile_server
from osgeo import gdal, ogr
from synthetic import reference, write_raster
from tile_server import TileServer

from plugin.engine.chips.sources import rasters_in
from plugin.engine.errors import InputError, without_key
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.strangers import elsewhere
from plugin.engine.strangers.addresses import host_asked
from plugin.engine.strangers.elsewhere import check_here
from plugin.engine.worker import JsonReporter


@pytest.fixture
def server() -> Iterator[TileServer]:
    gdal.VSICurlClearCache()
    with tile_server.serving() as found:
        yield found


def virtual(path: Path, source: str, relative: int = 0, more: str = "") -> Path:
    path.write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:3857</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>'
        f'<Metadata><MDI key="source">https://a.example/b</MDI></Metadata>{more}'
        '<VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def tiff(path: Path, overviews: str = "") -> Path:
    write_raster(path, np.full((1, 8, 8), 3, np.uint8))
    if overviews:
        opened = gdal.Open(str(path), gdal.GA_Update)
        opened.SetMetadataItem("OVERVIEW_FILE", overviews, "OVERVIEWS")
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def zipped(folder: Path, curl: str) -> str:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(virtual(folder / "in.vrt", curl), "in.vrt")
    return f"/vsizip/{folder}/a.zip/in.vrt"


def named_twice(folder: Path, curl: str) -> Path:
    virtual(folder / "inner.tif", curl)
    return virtual(folder / "outer.vrt", "inner.tif", relative=1)


def beside(folder: Path, ending: str, curl: str) -> Path:
    path = tiff(folder / "a.tif")
    virtual(Path(f"{path}{ending}"), curl)
    return path


def described(folder: Path, curl: str) -> Path:
    path = tiff(folder / "a.tif")
    item = f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{curl}</MDI></Metadata>'
    written(Path(f"{path}.aux.xml"), f"<PAMDataset>{item}</PAMDataset>")
    return path


def tile_index(path: Path, location: str) -> Path:
    opened = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    layer = opened.CreateLayer("tiles", reference(3857), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("location", ogr.OFTString))
    feature = ogr.Feature(layer.GetLayerDefn())
    feature["location"] = location
    feature.SetGeometry(ogr.CreateGeometryFromWkt("POLYGON ((0 0, 8 0, 8 -8, 0 -8, 0 0))"))
    layer.CreateFeature(feature)
    for name, value in {"RESX": 1, "RESY": 1, "BAND_COUNT": 1, "DATA_TYPE": "Byte"}.items():
        layer.SetMetadataItem(name, str(value))
    return path


def catalogue(path: Path, address: str) -> Path:
    """A STAC collection of one raster, with an address as written in JSON."""
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "stac_extensions": [],
            "properties": {"proj:epsg": 3857, "proj:transform": [1, 0, 0, 0, -1, 0], "proj:shape": [8, 8]},
            "assets": {"b": {"href": "HERE", "type": "image/tiff"}}}  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "stac_version": "1.0.0", "features": [item]})
    return written(path, text.replace("HERE", address))


def jpeg_2000(path: Path, overviews: str) -> Path:
    drawn = gdal.Translate("", str(tiff(path.with_suffix(".tif"))), format="MEM", width=64, height=64)
    drawn.SetMetadataItem("OVERVIEW_FILE", overviews, "OVERVIEWS")
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(path), drawn, options=["WRITE_METADATA=YES"])
    Path(f"{path}.aux.xml").unlink(missing_ok=True)
    return path


def database(path: Path, curl: str) -> Path:
    with sqlite3.connect(path) as opened:
        opened.execute("CREATE TABLE a (b)")
        opened.execute("PRAGMA writable_schema = ON")
        table = f"CREATE VIRTUAL TABLE c USING VirtualOGR('{curl}')"
        opened.execute("INSERT INTO sqlite_master VALUES ('table', 'c', 'c', 0, ?)", (table,))
    return path


def behind(folder: Path, curl: str) -> Path:
    """A virtual raster that leads away, for a file that names it."""
    return virtual(folder / "behind.tif", curl)


DIMAP = """<Dimap_Document><Metadata_Id><METADATA_FORMAT version="1.1">DIMAP</METADATA_FORMAT></Metadata_Id>
<Raster_Dimensions><NCOLS>8</NCOLS><NROWS>8</NROWS><NBANDS>1</NBANDS></Raster_Dimensions><Data_Access>
<DATA_FILE_FORMAT>TIFF</DATA_FILE_FORMAT><Data_File><DATA_FILE_PATH href="behind.tif"/></Data_File></Data_Access>
</Dimap_Document>"""

RASTERS: dict[str, Callable[[Path, str, str], Path | str]] = {
    "virtual": lambda folder, curl, http: virtual(folder / "a.vrt", curl),
    "with an address": lambda folder, curl, http: virtual(folder / "a.vrt", http),
    "in a text": lambda folder, curl, http: virtual(
        folder / "a.vrt", f"&lt;GDAL_WMS&gt;&lt;Service name='TMS'&gt;&lt;ServerUrl&gt;{http}&lt;/ServerUrl&gt;"
        "&lt;/Service&gt;&lt;/GDAL_WMS&gt;"),
    "named by another": lambda folder, curl, http: named_twice(folder, curl),
    "in an archive": lambda folder, curl, http: zipped(folder, curl),
    "by a prefix": lambda folder, curl, http: f"vrt://{virtual(folder / 'a.vrt', curl)}?bands=1",
    "inside a name": lambda folder, curl, http: virtual(folder / "a.vrt", f"/vsizip/{{{curl}}}/a.tif"),
    "as an attribute": lambda folder, curl, http: written(folder / "a.vrt",
        f'<VRTDataset subClass="VRTWarpedDataset"><GDALWarpOptions SourceDataset="{curl}"/></VRTDataset>'),
    "behind a comment": lambda folder, curl, http: written(folder / "a.vrt",
        f"<!-- a --><VRTDataset><VRTRasterBand><SimpleSource><SourceFilename><a/>{curl}</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"),
    "its mask": lambda folder, curl, http: beside(folder, ".msk", curl),
    "its overviews": lambda folder, curl, http: beside(folder, ".ovr", curl),
    "overviews named inside": lambda folder, curl, http: tiff(folder / "a.tif", curl),
    "overviews named beside": lambda folder, curl, http: described(folder, curl),
    "the mask of its source": lambda folder, curl, http: virtual(
        folder / "b.vrt", str(beside(folder, ".msk", curl))),
    "a copy of an MRF": lambda folder, curl, http: written(folder / "a.mrf",
        f"<MRF_META><CachedSource><Source>{curl}</Source></CachedSource></MRF_META>"),
    "with one slash": lambda folder, curl, http: virtual(folder / "a.vrt", http.replace("http://", "ftp:/")),
    "with percent signs": lambda folder, curl, http: virtual(
        folder / "a.vrt", "/vsicached?file=" + curl.replace(":", "%3A").replace("/", "%2F")),
    "behind a prefix": lambda folder, curl, http: virtual(
        folder / "a.vrt", f"DERIVED_SUBDATASET:AMPLITUDE:{behind(folder, curl)}"),
    "a database behind a prefix": lambda folder, curl, http: virtual(
        folder / "a.vrt", f"DERIVED_SUBDATASET:AMPLITUDE:PG:host={http[7:].partition(':')[0]} dbname=127.0.0.1:1"),
    "heights": lambda folder, curl, http: virtual(folder / "a.vrt", "a.tif", more="<GDALWarpOptions><Transformer>"
        f"<RPCTransformer><DEMPath>{behind(folder, curl)}</DEMPath></RPCTransformer></Transformer></GDALWarpOptions>"),
    "the overviews of its source": lambda folder, curl, http: virtual(
        folder / "a.vrt", str(tiff(folder / "a.tif", curl))),
    "overviews named in a JPEG 2000": lambda folder, curl, http: jpeg_2000(folder / "a.jp2", curl),
    "a tile index": lambda folder, curl, http: tile_index(folder / "a.gti.gpkg", curl),
    "a tile index by a prefix": lambda folder, curl, http: f"GTI:{tile_index(folder / 'a.gpkg', curl)}",
    "a tile index in a virtual raster": lambda folder, curl, http: virtual(
        folder / "a.vrt", f"GTI:{tile_index(folder / 'a.gpkg', curl)}"),
    "a described tile index": lambda folder, curl, http: written(folder / "a.gti", "<GDALTileIndexDataset>"
        f"<IndexDataset>{tile_index(folder / 'a.gpkg', curl).name}</IndexDataset></GDALTileIndexDataset>"),
    "what a tile index names": lambda folder, curl, http: tile_index(
        folder / "a.gti.gpkg", behind(folder, curl).name),
    "a catalogue": lambda folder, curl, http: catalogue(folder / "a.json", f"{http}/a.tif"),
    "a catalogue with escapes": lambda folder, curl, http: catalogue(
        folder / "a.json", f"{http}/a.tif".replace("http", "\\u0068ttp")),
    "a catalogue after a space": lambda folder, curl, http: written(folder / "a.json",
        "{" + " " * 5000 + catalogue(folder / "b.json", f"{http}/a.tif").read_text()[1:]),
    "a catalogue that another names": lambda folder, curl, http: virtual(
        folder / "a.vrt", str(catalogue(folder / "a.json", f"{http}/a.tif"))),
    "DIMAP": lambda folder, curl, http: behind(folder, curl) and written(folder / "a.dim", DIMAP),
    "OziExplorer": lambda folder, curl, http: written(folder / "a.map",
        f"OziExplorer Map Data File Version 2.2\na\n{curl}\n1 ,Map Code,\nWGS 84,WGS 84,0,0,WGS 84\nR\nR\n"
        "Magnetic Variation,,,E\nMap Projection,Latitude/Longitude,PolyCal,No,AutoCalOnly,No,BSBUseWPX,No\n"),
    "WMTS": lambda folder, curl, http: written(folder / "a.xml",
        f"<GDAL_WMTS><GetCapabilitiesUrl>{http}/wmts.xml</GetCapabilitiesUrl></GDAL_WMTS>"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RASTERS)
def test_a_raster_that_leads_to_a_server_is_refused_before_it_is_asked(
    server: TileServer, tmp_path: Path, kind: str
) -> None:
    curl = f"/vsicurl/{server.address}/{kind.replace(' ', '_')}.tif"
    if "JPEG 2000" in kind and gdal.GetDriverByName("JP2OpenJPEG") is None:
        pytest.skip("GDAL without JPEG 2000")
    path = str(RASTERS[kind](tmp_path, curl, server.address))
    with pytest.raises(InputError, match=r"leads to a server \(.*127\.0\.0\.1.*\), which is not asked") as error:
        RasterReader(path).read_marked(RasterReader(path).info.grid.window)
    assert "Give that address itself, or save the data on this computer." in str(error.value)
    assert server.asked == []


VECTORS = {
    "OGR VRT": "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/vsicurl/ADDRESS/a.gpkg</SrcDataSource>"
    "</OGRVRTLayer></OGRVRTDataSource>",
    "a database": "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>PG:host=127.0.0.1</SrcDataSource>"
    "</OGRVRTLayer></OGRVRTDataSource>",
    "WFS": "<OGRWFSDataSource><URL>ADDRESS/wfs</URL></OGRWFSDataSource>",
    "GeoJSON by another key": '{"type": "FeatureCollection", "crs": {"type": "url", "properties": {"url": '
    '"ADDRESS/crs"}}}',
    "GeoJSON with more": '{"type": "FeatureCollection", "crs": {"a": {}, "type": "link", "properties": {"b": {}, '
    '"href": "ADDRESS/crs"}}}',
    "GeoJSON with escapes": '{"type": "FeatureCollection", "\\u0063rs": {"type": "link", "properties": {"href": '
    '"ADDRESS/crs"}}}',
    "GeoJSON": '{"type": "FeatureCollection", "crs": {"type": "link", "properties": {"href": "ADDRESS/crs"}}}',
}


@pytest.mark.parametrize("kind", VECTORS)
def test_a_vector_file_that_leads_to_a_server_is_refused(server: TileServer, tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "a", VECTORS[kind].replace("ADDRESS", server.address))
    with pytest.raises(InputError, match="leads to a server"):
        check_here(str(path))


def test_a_database_whose_virtual_table_leads_to_a_server_is_refused(server: TileServer, tmp_path: Path) -> None:
    path = database(tmp_path / "a.sqlite", f"/vsicurl/{server.address}/a.gpkg")
    with pytest.raises(InputError, match="leads to a server"):
        check_here(str(path))


def test_a_file_read_through_others_is_not_looked_through(server: TileServer, tmp_path: Path) -> None:
    part = f"<SubfileRegion><Filename>/vsicurl/{server.address}/a.tif</Filename><RegionLength>9</RegionLength>"
    written(tmp_path / "a.xml", f"<VSISparseFile><Length>9</Length>{part}</SubfileRegion></VSISparseFile>")
    for path in (f"/vsisparse/{tmp_path}/a.xml", str(virtual(tmp_path / "a.vrt", f"/vsisparse/{tmp_path}/a.xml"))):
        with pytest.raises(InputError, match="/vsisparse is not looked through"):
            RasterReader(path)
    assert server.asked == []


def test_paths_of_windows_that_lead_to_another_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "WINDOWS", True)
    names = (r"\\server\share\a.tif", "//server/share/a.tif", r"\\?\UNC\server\share\a.tif")
    for number, name in enumerate(names):
        with pytest.raises(InputError, match=r"leads to a server \(server\)"):
            check_here(str(virtual(tmp_path / f"{number}.vrt", name)))
    check_here(str(virtual(tmp_path / "a.vrt", r"\\?\C:\a.tif")))
    check_here(r"\\server\share\a.vrt")


def test_a_folder_with_such_a_raster_is_refused(server: TileServer, tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif")
    virtual(tmp_path / "b.vrt", f"/vsicurl/{server.address}/folder.tif")
    with pytest.raises(InputError, match=r"b\.vrt leads to a server"):
        [RasterReader(path) for path in rasters_in(str(tmp_path))]
    assert server.asked == []


def test_files_of_this_computer_and_addresses_of_the_user_are_fine(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", ":::BASE:::a.tif.ovr")
    beside(tmp_path, ".msk", "a.tif")
    path = virtual(tmp_path / "b.vrt", "a.tif", relative=1, more="<Description>see https://a.example/</Description>")
    assert (RasterReader(str(path)).read(RasterReader(str(path)).info.grid.window) == 3).all()
    check_here("/vsicurl/https://a.example/a.vrt")
    check_here(str(tmp_path / "not there.tif"))
    check_here(str(tile_index(tmp_path / "a.gti.gpkg", "a.tif")))
    check_here(str(catalogue(tmp_path / "a.json", "a.tif")))
    place = '"crs": {"type": "name", "properties": {"name": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}}'
    feature = '{"type": "Feature", "properties": {"crs": "a", "url": "https://a.example/"}, "geometry": null}'
    check_here(
        str(written(tmp_path / "a.geojson", f'{{"type": "FeatureCollection", {place}, "features": [{feature}]}}'))
    )
    check_here(str(tmp_path))
    assert host_asked("/vsicurl/https://u:p@a.example:80/a.vrt?key=1") == "a.example:80"
    assert host_asked(str(path)) == ""


def test_what_changed_is_looked_at_again(server: TileServer, tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif")
    path = virtual(tmp_path / "b.vrt", "a.tif", relative=1)
    check_here(str(path))
    virtual(path, f"/vsicurl/{server.address}/later.tif")
    with pytest.raises(InputError, match="leads to a server"):
        check_here(str(path))


@pytest.mark.parametrize("text", ["<VRTDataset><a></VRTDataset>", "<!DOCTYPE a [<!ENTITY b 'c'>]><VRTDataset/>"])
def test_a_virtual_raster_that_cannot_be_looked_at_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"What other files .*a\.vrt names cannot be read"):
        RasterReader(str(written(tmp_path / "a.vrt", text)))


def test_logins_in_addresses_are_not_shown() -> None:
    assert without_key("/vsicurl/https://me:secret@a.example/a.tif?b=1 x") == "/vsicurl/https://…@a.example/a.tif?… x"
    assert without_key("https://a.example/a@b#c") == "https://a.example/a@b#c"


@pytest.mark.parametrize(
    "text",
    [
        "/vsicurl/https://me:se@cret@a.example/a.tif", "/vsicurl/ftp://me:secret@a.example/a.tif",
        "socks5://me:secret@a.example:80", "https://a.example/a.tif#key=secret", "s3://a/b?sig=secret",
        "/vsicurl?url=https%3A%2F%2Fme%3Asecret%40a.example", "PG:host=a.example password=secret dbname=b",
        "PG:host=a.example password='a secret' dbname=b", "MSSQL:server=a;PWD=secret;database=b",
        "MYSQL:a,user=me,password=secret,port=1",
    ],
)  # fmt: skip
def test_no_message_shows_a_secret(text: str) -> None:
    shown = without_key(f"a {text} cannot be read")
    assert "cret" not in shown and shown.startswith("a ") and shown.endswith(" cannot be read")
    assert "cret" not in str(InputError(f"a {text} cannot be read", f"See {text}."))
    events = io.StringIO()
    JsonReporter(events).log(text)
    JsonReporter(events).warning(text)
    assert events.getvalue().count("event") == 2 and "cret" not in events.getvalue()
