"""Files that lead to a server, which must not be asked; the server is one on this machine."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tile_server
from osgeo import gdal
from synthetic import write_raster
from tile_server import TileServer

from plugin.engine.chips.sources import rasters_in
from plugin.engine.errors import InputError, without_key
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.strangers.elsewhere import check_here, host_asked


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
    "WMTS": lambda folder, curl, http: written(folder / "a.xml",
        f"<GDAL_WMTS><GetCapabilitiesUrl>{http}/wmts.xml</GetCapabilitiesUrl></GDAL_WMTS>"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RASTERS)
def test_a_raster_that_leads_to_a_server_is_refused_before_it_is_asked(
    server: TileServer, tmp_path: Path, kind: str
) -> None:
    curl = f"/vsicurl/{server.address}/{kind.replace(' ', '_')}.tif"
    path = str(RASTERS[kind](tmp_path, curl, server.address))
    with pytest.raises(InputError, match=r"leads to a server \(127\.0\.0\.1:\d+\), which is not asked") as error:
        RasterReader(path).read_marked(RasterReader(path).info.grid.window)
    assert "Give that address itself, or save the data on this computer." in str(error.value)
    assert server.asked == []


VECTORS = {
    "OGR VRT": "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/vsicurl/ADDRESS/a.gpkg</SrcDataSource>"
    "</OGRVRTLayer></OGRVRTDataSource>",
    "a database": "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>PG:host=127.0.0.1</SrcDataSource>"
    "</OGRVRTLayer></OGRVRTDataSource>",
    "WFS": "<OGRWFSDataSource><URL>ADDRESS/wfs</URL></OGRWFSDataSource>",
    "GeoJSON": '{"type": "FeatureCollection", "crs": {"type": "link", "properties": {"href": "ADDRESS/crs"}}}',
}


@pytest.mark.parametrize("kind", VECTORS)
def test_a_vector_file_that_leads_to_a_server_is_refused(server: TileServer, tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "a", VECTORS[kind].replace("ADDRESS", server.address))
    with pytest.raises(InputError, match="leads to a server"):
        check_here(str(path))


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
    assert without_key("https://a.example/a@b") == "https://a.example/a@b"
