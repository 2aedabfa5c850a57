"""Refused file names, and free disk space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from plugin.engine import files
from plugin.engine.errors import InputError, ResourceError
from plugin.engine.files import check_kept, check_names, check_space, why_not_written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of sorts, and a raster."""
    (tmp_path / "chips" / "images").mkdir(parents=True)
    (tmp_path / "chips" / "dataset.json").write_text("{}")
    (tmp_path / "raster.tif").write_text("pixels")
    return tmp_path


def kept(folder: Path, **outputs: str) -> None:
    read = {"a dataset": [folder / "chips" / "dataset.json", folder / "chips" / "images"]}
    check_kept({name: str(folder / path) for name, path in outputs.items()}, {
        **read, "the raster": [folder / "raster.tif", "WMS:nowhere", "x" * 5000],
    })  # fmt: skip


@pytest.mark.parametrize(
    "outputs, words",
    [
        ({"OUTPUT": "raster.tif"}, "is the raster, which would be overwritten"),
        ({"OUTPUT": "link.tif"}, "is the raster, which would be overwritten"),
        ({"OUTPUT": "hard.tif"}, "is the raster, which would be overwritten"),
        ({"OUTPUT": "there/raster.tif"}, "is the raster, which would be overwritten"),
        ({"REPORT": "chips/dataset.json"}, "is a dataset, which would be overwritten"),
        ({"REPORT": "chips/images/new.html"}, "is inside .*images, which is a dataset"),
        ({"OUTPUT": "chips"}, "contains .*dataset.json, which is a dataset and would be overwritten"),
        ({"OUTPUT": "new.tif", "GRID": "there/new.tif"}, "OUTPUT and GRID are both"),
        ({"OUTPUT": "new", "REPORT": "new/deep/r.html"}, "overlap"),
    ],
)
def test_nothing_that_is_read_is_written_over(folder: Path, outputs: dict[str, str], words: str) -> None:
    (folder / "link.tif").symlink_to(folder / "raster.tif")
    (folder / "there").symlink_to(folder)
    os.link(folder / "raster.tif", folder / "hard.tif")
    with pytest.raises(InputError, match=words):
        kept(folder, **outputs)


def test_a_report_beside_the_files_of_a_dataset_is_fine(folder: Path) -> None:
    kept(folder, REPORT="chips/report.html", OUTPUT="raster.tif.html")


def test_outputs_of_one_name_are_told_before_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to(tmp_path)
    with pytest.raises(InputError, match="A and B are both"):
        check_names({"A": str(tmp_path / "x.tif"), "B": str(tmp_path / "there/x.tif")}, {".tif": "GeoTIFF"})


def test_a_disk_without_room_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"has .* free, and about 1e\+03 TB|needed"):
        check_space(tmp_path / "new" / "map.tif", needed_bytes=10**15)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_named_whatever_a_library_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "map.tif"
    for error, words in (
        (RuntimeError("TIFFWriteDirectoryTagData:IO error"), "TIFFWriteDirectoryTagData:IO error"),
        (RuntimeError(""), "RuntimeError"),
        (OSError(13, "Permission denied"), "Permission denied"),
    ):
        assert why_not_written(path, error) == words
        with monkeypatch.context() as patch:
            patch.setattr(files.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 4096))
            assert why_not_written(path, error) == "its disk has only 4.1 kB free"
