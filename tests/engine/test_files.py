from __future__ import annotations

from pathlib import Path

import pytest

from plugin.engine.errors import ResourceError
from plugin.engine.files import check_writable, partial_path, publish, remove_partial


def test_a_result_takes_its_sidecars_along_and_drops_stale_ones(tmp_path: Path) -> None:
    final = tmp_path / "map.tif"
    final.write_text("old")
    (tmp_path / "map.tif.ovr").write_text("overview of the old")
    partial = partial_path(final)
    partial.write_text("new")
    Path(f"{partial}.aux.xml").write_text("names")
    partial.with_suffix(".qml").write_text("style")
    publish(final)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "map.tif": "new",
        "map.tif.aux.xml": "names",
        "map.qml": "style",
    }


def test_what_an_interrupted_job_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "map.tif"
    final.write_text("earlier")
    partial_path(final).write_text("half")
    Path(f"{partial_path(final)}.aux.xml").write_text("half")
    remove_partial(final)
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]


def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ResourceError, match="Choose another folder"):
        check_writable(tmp_path / "file" / "map.tif")


def test_a_disk_without_room_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"has .* free, and about 1e\+03 TB|needed"):
        check_writable(tmp_path / "map.tif", needed_bytes=10**15)
