"""Whatever is wrong with a folder from elsewhere, it is imported or refused in words, and nothing is left over."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from foreign import bring_in, convert, make_dataset

from plugin.engine.errors import EngineError

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
