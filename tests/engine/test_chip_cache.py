"""Decoded chips in a file, which training reads where they do not fit into memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from osgeo import gdal
from scene_folder import write_scene_folder

from plugin.engine import files
from plugin.engine.chips.dataset import open_dataset
from plugin.engine.drafts import claim, hidden_folder
from plugin.engine.errors import Cancelled
from plugin.engine.events import Stage
from plugin.engine.training import chip_cache
from plugin.engine.training.chip_cache import CachedChips, cache_name, cached_chips
from plugin.engine.training.chips import ChipReader, SceneReader, StreamedChips

CPU = torch.device("cpu")


@pytest.fixture
def chips(tmp_path) -> Path:
    return Path(write_chip_folder(tmp_path / "chips", {"training": 5, "test": 2}, size=33, dtype="int16", nodata=-9))


def reader_of(chips: Path) -> ChipReader:
    return ChipReader(open_dataset(chips))


def opened(chips: Path, reporter: Heard | None = None, folder: Path | None = None):
    reporter = reporter or Heard()
    folder = folder or chips.parent / "cache"
    return cached_chips(reader_of(chips), str(folder), reporter, Stage(reporter, 7, "Reading chips"))


def file_of(chips: Path) -> Path:
    return chips.parent / "cache" / cache_name(reader_of(chips))


def same(one, other) -> bool:
    return all(torch.equal(ours, theirs) and ours.dtype == theirs.dtype for ours, theirs in zip(one, other))


def test_a_cache_gives_what_the_files_give_and_is_written_once(chips):
    places = np.array([6, 0, 3])
    first = Heard()
    assert same(opened(chips, first).read(places), reader_of(chips).read(places))
    assert "decoded once" in first.logs[0]
    for path in (*chips.glob("images/*.tif"), *chips.glob("labels/*.tif")):  # no file of a chip is opened any more
        state = path.stat()
        path.write_bytes(bytes(state.st_size))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = Heard()
    source = opened(chips, again)
    assert isinstance(source, CachedChips) and "The decoded chips" in again.logs[0]
    assert (source.read(places)[0] != 0).any()
    assert [entry.name for entry in file_of(chips).parent.iterdir()] == [file_of(chips).name], "nothing else is left"


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_scenes_have_their_classes_in_it(tmp_path, task):
    folder = write_scene_folder(tmp_path / "scenes", {"training": 4, "validation": 2}, task=task)
    reader, reporter = SceneReader(open_dataset(folder)), Heard()
    for _ in range(2):
        source = cached_chips(reader, str(tmp_path / "cache"), reporter, Stage(reporter, 6, "Reading chips"))
        assert isinstance(source, CachedChips) and same(source.read([5, 1, 1]), reader.read([5, 1, 1]))


def test_batches_of_it_are_those_of_the_files(chips):
    places = np.array([1, 2, 4, 6])
    orders = [np.array([3, 0]), np.array([2, 1])]
    kinds = [StreamedChips(source, places, CPU).batches(orders) for source in (opened(chips), reader_of(chips))]
    pairs = list(zip(*kinds))
    assert len(pairs) == 2 and all(same(*pair) for pair in pairs)


def edit(chips: Path) -> None:
    """Paints in a mask, as QGIS's raster editors do."""
    dataset = gdal.Open(str(chips / "labels/2.tif"), gdal.GA_Update)
    dataset.WriteArray(np.full((33, 33), 20, np.uint8))
    dataset.FlushCache()
    os.utime(chips / "labels/2.tif", ns=(0, time.time_ns() + 10**9))


def describe(chips: Path) -> None:
    text = (chips / "dataset.json").read_text()
    (chips / "dataset.json").write_text(text.replace('"pixel_size": 0.5', '"pixel_size": 0.25'))


@pytest.mark.parametrize("change", [edit, describe])
def test_of_chips_that_have_changed_another_cache_is_written_and_the_old_one_goes(chips, change):
    opened(chips)
    before = file_of(chips)
    change(chips)
    assert file_of(chips) != before
    assert same(opened(chips).read([2]), reader_of(chips).read([2]))
    assert file_of(chips).exists() and not before.exists()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_type(path: Path) -> None:
    records = np.load(path)
    np.save(path, records["target"])


def objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}] * 7, dtype=object), allow_pickle=True)


@pytest.mark.parametrize("harm", [shorten, lengthen, empty, other_type, objects])
def test_a_damaged_cache_is_never_read_but_written_again(chips, harm):
    opened(chips)
    harm(file_of(chips))
    source = opened(chips)
    assert isinstance(source, CachedChips) and same(source.read([4]), reader_of(chips).read([4]))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner here")
def test_a_cache_of_somebody_else_is_not_read(chips, monkeypatch):
    opened(chips)
    reader = reader_of(chips)
    arguments = file_of(chips), 7, chip_cache.record_type(reader)
    assert chip_cache.open_cache(*arguments) is not None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert chip_cache.open_cache(*arguments) is None


def no_space(chips, monkeypatch):
    monkeypatch.setattr(chip_cache, "SPARED", 10**18)
    return "free"


def disk_full(chips, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    return "No space left"


def damaged_chip(chips, monkeypatch):
    (chips / "images/6.tif").write_bytes(b"II*")
    return "6.tif"


def no_folder(chips, monkeypatch):
    (chips.parent / "cache").write_text("")
    return "cache"


@pytest.mark.parametrize("trouble", [no_space, disk_full, damaged_chip, no_folder])
def test_where_there_can_be_no_cache_chips_are_read_from_their_files_and_it_is_said(chips, monkeypatch, trouble):
    words, reporter = trouble(chips, monkeypatch), Heard()
    source = opened(chips, reporter)
    assert isinstance(source, ChipReader)
    assert words in reporter.logs[-1] and "decoded anew in each epoch" in reporter.logs[-1]
    cache = chips.parent / "cache"
    assert not cache.is_dir() or not list(cache.iterdir()), "nothing half written is left"


def test_two_jobs_do_not_write_the_same_cache(chips, monkeypatch):
    path, reporter = file_of(chips), Heard()
    with claim(path) as draft:
        monkeypatch.setattr(draft, "thread", -1)  # as if of another job
        assert isinstance(opened(chips, reporter), ChipReader)
        assert "being written by another job" in reporter.logs[-1]
    assert isinstance(opened(chips), CachedChips)


def test_cancelling_leaves_nothing(chips):
    reporter = Heard()
    reporter.cancel_at = 0
    with pytest.raises(Cancelled):
        opened(chips, reporter)
    assert not (chips.parent / "cache").exists()


def test_what_nobody_used_for_a_month_and_what_killed_jobs_left_is_removed(chips):
    cache = chips.parent / "cache"
    cache.mkdir()
    names = [f"chips-{letter * 16}-{letter * 16}.npy" for letter in "abc"]
    for name, days in zip(names, (31, 29, 0)):
        (cache / name).touch()
        os.utime(cache / name, (0, time.time() - days * 24 * 3600))
    left = hidden_folder(cache / names[0].replace("a", "d"))
    left.mkdir(mode=0o700)
    (left / "half").touch()
    (cache / "notes.txt").touch()
    os.utime(cache / "notes.txt", (0, 0))
    opened(chips)
    assert {entry.name for entry in cache.iterdir()} == {*names[1:], "notes.txt", file_of(chips).name}


def test_the_folder_for_caches_is_the_users(chips, tmp_path, monkeypatch):
    monkeypatch.setattr(chip_cache, "cache_folder", lambda: tmp_path / "own")
    reporter = Heard()
    cached_chips(reader_of(chips), None, reporter, Stage(reporter, 7, "Reading chips"))
    assert (tmp_path / "own" / "chips" / cache_name(reader_of(chips))).is_file()
    assert files.cache_folder().name == "terrazzo"


def test_batches_come_while_memory_stays_what_it_was(tmp_path):
    """A cache that is far larger than what its batches may take; `benchmarks/train.py` has 100,000 chips."""
    dtype = np.dtype([("image", np.uint8, (4, 256, 256)), ("target", np.uint8, (256, 256))])
    count = 400  # 131 MB
    path = tmp_path / "chips.npy"
    np.lib.format.open_memmap(path, "w+", dtype, (count,)).flush()
    records = chip_cache.open_cache(path, count, dtype)
    assert records is not None

    def own_memory() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        pytest.skip("the system does not tell")

    most = 0
    for number, _ in enumerate(
        StreamedChips(CachedChips(records), np.arange(count), CPU).batches(
            np.random.default_rng(0).permutation(count).reshape(-1, 4)
        )
    ):
        if number == 10:
            before = own_memory()
        elif number > 10:
            most = max(most, own_memory() - before)
    assert most < 32 * 2**20
