"""Harmful changes to model files, and to weights in PyTorch's formats."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mutators import Mutator, Target, mutate_tree


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _join(path: Path, text: str, body: bytes) -> None:
    head = text.encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)


def tensors_table(path: Path, rng: random.Random, target: Target) -> str:
    """Change the table of tensors."""
    values, body = _parts(path)
    names = [name for name in values if name != "__metadata__"]
    name = rng.choice(names)
    what = rng.choice(["shape", "type", "offsets", "any", "any", "again", "gone", "length"])
    if what == "shape":
        shapes = [[2**40, 2**40], [0], [], [-1], [2**62, 4], [*values[name]["shape"], 1], [10**30]]
        values[name]["shape"] = rng.choice(shapes)
    elif what == "type":
        values[name]["dtype"] = rng.choice(["F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "X", "C64"])
    elif what == "offsets":
        values[name]["data_offsets"] = rng.choice([[0, 2**62], [-1, 4], [5, 1], [0, 0], [len(body), len(body) + 4]])
    elif what == "again":
        values["network.more"] = dict(values[name])
    elif what == "gone":
        del values[name]
    elif what == "length":
        _join(path, json.dumps(values), body)
        with path.open("r+b") as file:
            file.write(struct.pack("<Q", rng.choice([0, 1, 2**63, 2**64 - 1, 99_999_999])))
        return "table: length"
    if what == "any":
        text, what = mutate_tree({name: values[name], **values}, rng, target)
    else:
        text = json.dumps(values)
    _join(path, text, body)
    return f"table of tensors: {what}"


def model_header(path: Path, rng: random.Random, target: Target) -> str:
    """Change the header of a model file."""
    values, body = _parts(path)
    metadata = values.get("__metadata__", {})
    text, what = mutate_tree(json.loads(metadata.get("terrazzo", '{"task": 1}')), rng, target)
    values["__metadata__"] = {"terrazzo": text}
    _join(path, json.dumps(values), body)
    return f"header: {what}"


def tensor_values(path: Path, rng: random.Random, target: Target) -> str:
    """Numbers that are none, huge or of the wrong sign."""
    values, body = _parts(path)
    name = rng.choice([name for name in values if name != "__metadata__"])
    begin, end = values[name]["data_offsets"]
    value = rng.choice([float("nan"), float("inf"), -1.0, 3e38, 1e-40])
    numbers = struct.pack("<f", value) * ((end - begin) // 4)
    _join(path, json.dumps(values), body[:begin] + numbers + body[begin + len(numbers) :])
    return f"{name} is {value}"


class _Runs:
    """Would run a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def checkpoint(path: Path, rng: random.Random, target: Target) -> str:
    """Another content for a file of torch."""
    state = torch.load(path, weights_only=True)
    inner = state.get("state_dict", state)
    name = rng.choice(list(inner))
    old = rng.random() < 0.3
    doubled: Any = ("x",)
    for _ in range(60):
        doubled = (doubled, doubled)
    circle: dict[str, Any] = {"state_dict": {}}
    circle["state_dict"] = circle
    one = torch.zeros(1)
    changes: dict[str, Callable[[], Any]] = {
        "code": lambda: {**state, "x": _Runs(target.outside / "new.txt")},
        "code alone": lambda: _Runs(target.outside / "new.txt"),
        "doubled tuples as value": lambda: {**inner, "x": doubled},
        "doubled tuples alone": lambda: doubled,
        "a circle": lambda: circle,
        "a giant without memory": lambda: {**inner, name: one.expand(10**6, 10**6)},
        "steps": lambda: {**inner, name: torch.zeros(10).as_strided((5, 10**6), (1, 0))},
        "sparse": lambda: {**inner, name: torch.eye(3).to_sparse()},
        "sparse giant": lambda: {**inner, name: torch.sparse_coo_tensor([[0], [0]], [1.0], (10**9, 10**9))},
        "quantised": lambda: {**inner, name: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8)},
        "meta": lambda: {**inner, name: torch.zeros(3, device="meta")},
        "complex": lambda: {**inner, name: torch.zeros(3, dtype=torch.complex64)},
        "whole numbers": lambda: {**inner, name: torch.zeros_like(inner[name], dtype=torch.int64)},
        "not a number": lambda: {**inner, name: torch.full_like(inner[name], float("nan"), dtype=torch.float32)},
        "empty": lambda: {},
        "a list": lambda: [one] * 1000,
        "numbers as names": lambda: dict.fromkeys(range(1000), one),
        "one tensor": lambda: one,
        "texts": lambda: {"x": "y" * 1_000_000, "state_dict": "z"},
        "many": lambda: {f"layer{number}": one for number in range(20_000)},
        "odd names": lambda: {"\ud800": one, "x" * 100_000: one, "\0": one},
        "a parameter": lambda: {**inner, name: torch.nn.Parameter(one)},
    }
    what = rng.choice(list(changes))
    try:
        torch.save(changes[what](), path, _use_new_zipfile_serialization=not old)
    except Exception as error:  # torch refuses to write some
        path.write_bytes(b"\x80\x02}q\x00.")
        return f"{what}, which torch does not write ({type(error).__name__})"
    return f"{what}{', in the old format' if old else ''}"


def pickle_code(path: Path, rng: random.Random, target: Target) -> str:
    """A bare pickle."""
    command = f"touch {target.outside}/new.txt".encode()
    texts = {
        "code": b"cos\nsystem\n(V" + command + b"\ntR.",
        "builtins": b"cbuiltins\nexec\n(Vopen('" + str(target.outside / "new.txt").encode() + b"','w')\ntR.",
        "torch": b"ctorch\nload\n(V" + str(target.outside / "secret.txt").encode() + b"\ntR.",
        "doubled tuples as key": b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.",  # whose hash takes for ever
        "deep": b"(" * 200_000 + b"t" * 200_000 + b".",
        "claims": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        "many": b"\x80\x02(" + b"}" * 2_000_000 + b"l.",
    }
    what = rng.choice(list(texts))
    path.write_bytes(texts[what])
    return f"a bare pickle: {what}"


MODELS: tuple[Mutator, ...] = (*(tensors_table,) * 6, *(model_header,) * 9, *(tensor_values,) * 2)
CHECKPOINTS: tuple[Mutator, ...] = (*(checkpoint,) * 10, *(pickle_code,) * 3)
