"""Damaged folders of other programs are imported or refused with a message, and nothing is left over."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from foreign import bring_in, convert, make_dataset, photo, write_image
from synthetic import write_dataset

from plugin.engine.chips.builder import building
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.formats.words import first_of
from plugin.engine.chips.resplit import split_chips
from plugin.engine.config import ExportChipsConfig, SplitChipsConfig
from plugin.engine.errors import EngineError, InputError, ResourceError
from plugin.engine.events import Reporter
from plugin.engine.strangers.images import beside, open_image

JUNK = (None, True, -1, float("inf"), 1.5, "x", "", [], {}, [[]], {"a": 1}, 10**30, "../x", "é")


def mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with something else somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        rest = {name: part for name, part in value.items() if name != key}
        return rest if rng.random() < 0.15 else {**rest, key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(value[place], rng), *value[place + 1 :]]
    return rng.choice(JUNK)


def damage(path: Path, rng: random.Random) -> None:
    """Change, cut or remove a file."""
    data = bytearray(path.read_bytes())
    if path.suffix in (".json", ".emd") and rng.random() < 0.8:
        path.write_text(json.dumps(mutated(json.loads(data), rng)))
    elif rng.random() < 0.2:
        path.unlink()
    elif rng.random() < 0.3:
        path.write_bytes(data[: rng.randrange(len(data) + 1)])
    else:
        for _ in range(rng.randint(1, 8)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)


@pytest.mark.parametrize("kind", ["arcgis", "arcgis whole", "imagenet", "coco", "voc", "voc whole"])
def test_a_damaged_folder_ends_in_words_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    whole = "whole" in kind or kind == "imagenet"
    shown = ([2], [5], [9], [5], [9], [2]) if whole else ()
    dataset = make_dataset(tmp_path / "chips", "classification" if whole else "segmentation", shown=shown)
    folder = convert(dataset, kind.partition(" ")[0])
    refused = 0
    for seed in range(25):
        rng = random.Random(seed)
        work = tmp_path / "work"
        shutil.copytree(folder, work)
        if seed % 2:
            (work / "terrazzo.json").unlink()
        texts = (".json", ".emd", ".txt", ".csv", ".xml")
        files = [path for path in sorted(work.rglob("*")) if path.is_file()]
        lists = [path for path in files if path.suffix in texts]
        damage(rng.choice(lists if lists and rng.random() < 0.7 else files), rng)
        try:
            bring_in(work, output=str(tmp_path / "out"), overwrite=True)
        except EngineError as error:
            refused += 1
            assert error.problem and error.remedy
        assert not (tmp_path / ".out.partial").exists()
        shutil.rmtree(work)
    assert refused < 25


@pytest.mark.parametrize("job", ["split", "append"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_an_index_that_is_no_file_of_the_folder_is_never_copied(tmp_path: Path, job: str, kind: str) -> None:
    chips = Path(write_dataset(tmp_path, chip_size=128))
    index, elsewhere = chips / "chips.gpkg", tmp_path / "elsewhere.gpkg"
    index.rename(elsewhere)
    if kind == "pipe":
        os.mkfifo(index)
    else:
        index.symlink_to(elsewhere)
    with pytest.raises(InputError, match="not a regular file" if kind == "pipe" else "is outside of its folder"):
        if job == "split":
            split_chips(SplitChipsConfig(chips=str(chips)), Reporter())
        else:
            scene = tmp_path / "scene"
            settings = {"input": (str(scene / "image.tif"),), "label_rasters": (str(scene / "labels.tif"),)}
            export_chips(ExportChipsConfig(output=str(chips), chip_size=128, append=True, **settings), Reporter())


def test_annotations_are_not_looked_for_behind_links_that_lead_out(tmp_path: Path) -> None:
    folder = convert(make_dataset(tmp_path / "chips"), "coco")
    (tmp_path / "elsewhere").mkdir()
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link to somewhere outside of"):
        bring_in(folder)


def test_names_in_messages_are_short() -> None:
    assert len(first_of(["x" * 1_000_000] * 50)) < 600


def test_a_dataset_that_outgrows_its_disk_is_refused_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="File too large"), building(str(tmp_path / "chips")):
        raise OSError(errno.EFBIG, "File too large")
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_an_ending_has_its_world_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "image.wld").write_text("1\n0\n0\n-1\n0\n0\n")
    assert beside(tmp_path / "image") == [tmp_path / "image.wld"]


@pytest.mark.parametrize("ending", [".aux.xml", ".ovr", ".msk"])
def test_what_belongs_to_an_image_is_no_link(tmp_path: Path, ending: str) -> None:
    path = write_image(tmp_path / "image.tif", photo(0))
    (tmp_path / f"image.tif{ending}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link"):
        open_image(path)
