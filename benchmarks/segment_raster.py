"""Megapixels a second of `segmentraster`, beside the bare network, a plain strip script and onnxruntime.

    OMP_WAIT_POLICY=PASSIVE TERRAZZO_PYTHON -m benchmarks.segment_raster [--size 10000] [--networks a b c d] [--turns 2]

On a made raster of `--size`² pixels, 4 bands of bytes and 6 classes, for (a) one 1×1 convolution, which isolates the
pipeline, (b) U-Net with EfficientNet-Lite0, (c) U-Net with ResNet-34 and (d) FCN with ResNet-50, each taught for some
steps on the same pixels. Its file says how far it looks, as after a training of some minutes. (a) maps the whole
raster, the others a corner of it (`SIDES`; --part 10000 maps all of it):
- terrazzo: the job with its defaults, or with what --set gives, such as --set halo=64; with --tiles also with tiles
  of these sizes;
- bare: the same network in float32 on ready batches of 1024 × 1024 pixels, as many pixels as are mapped;
- strips: a plain script that reads strips with the halo that Terrazzo used, and runs the network on them;
- onnxruntime: the same script with the exported network, if onnx and onnxruntime are installed (CPU only).

Each runs in a process of its own, in alternating turns. Printed is the best turn of each: megapixels a second of the
raster's own pixels, by time and by processor time, the ratio to the bare network by both, and the peak memory with all
imports. Seconds of the job's parts follow, of which reading, writing, and network with fetching (which waits for a
GPU) are done beside each other. With --tall N, the raster is seen N times in each direction through
a virtual raster, so that large ones cost no space. With --seconds S, the part is as large as the bare network maps in
about S seconds: a GPU maps 10,000 × 10,000 pixels in less time than the job needs to begin.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from osgeo import gdal
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.config import SegmentRasterConfig
from plugin.engine.device import describe_device
from plugin.engine.errors import not_none
from plugin.engine.events import Reporter
from plugin.engine.mapping import segment
from plugin.engine.mapping.outputs.segmented_files import SegmentedFiles
from plugin.engine.mapping.pipeline.calculation import Keeper
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import ModelHeader, read_header
from plugin.engine.models.model_file import load_model, save_model
from plugin.engine.models.reach import SEEN, seam_costs
from plugin.engine.precision import autocast

gdal.UseExceptions()

BANDS, CELL, CHUNK = 4, 40, 1024  # cells of the pattern, and rows that are made at a time, in pixels
CLASSES = ClassTable.from_rows([(value, f"class {value}", None) for value in range(1, 7)])
MEAN, STD = 127.0, 45.0
NETWORKS = {
    "a": ("one 1×1 convolution", None),
    "b": ("U-Net with EfficientNet-Lite0", ("unet", "efficientnet_lite0")),
    "c": ("U-Net with ResNet-34", ("unet", "resnet34")),
    "d": ("FCN with ResNet-50", ("fcn", "resnet50")),
}
SIDES = {"a": 10000, "b": 4096, "c": 4096, "d": 3072}  # of the part that is mapped
READY, STRIP = 1024, 2**20  # side of the ready batches, and pixels in a strip
TRIAL = 2048  # side of the part by which --seconds is turned into a size
STEPS, PLACES = 30, 8
LEFT, TOP = 400000.0, 5500000.0
PARTS = {
    "reading": (Keeper, "read"),
    "network": (Keeper, "calculate"),
    "fetching": (Keeper, "take"),
    "writing": (Keeper, "write"),
    "completing": (SegmentedFiles, "finish"),
}
CONTENDERS = ("terrazzo", "bare", "strips", "onnxruntime")


class Log(Reporter):
    """Prints the log lines and warnings, and keeps the halo that they name."""

    halo = 0

    def log(self, text: str) -> None:
        """Print a line."""
        print("   ", text, file=sys.stderr)
        found = re.search(r"halo of (\d+)", text)
        self.halo = int(found[1]) if found else self.halo

    warning = log


def main() -> None:
    """Time what the command line asks for, and print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 10000), ("turns", 2), ("part", 0), ("tall", 1), ("steps", STEPS), ("seconds", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--set", nargs="*", default=[], help="settings of the job: halo=64")
    parser.add_argument("--tiles", nargs="*", default=[], help="tile sizes with which the job runs as well")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", default="", help="keeps raster and networks for the next run")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return run_child(json.loads(given.child))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.folder or scratch)
        folder.mkdir(exist_ok=True)
        image = folder / f"image_{given.size}.tif"
        if not image.exists():
            make_raster(image, given.size)
        side = given.size * given.tall
        if given.tall > 1:
            image = repeated(image, given.size, given.tall)
        device = describe_device(torch.device(given.device))
        print(f"{side} × {side} × {BANDS} bytes; {device}; PyTorch {torch.__version__}; load {os.getloadavg()[0]:.1f}")
        for letter in given.networks:
            model = folder / f"{letter}.safetensors"
            if not model.exists():
                make_model(letter, model, given.steps, given.device)
            compare(letter, image, model, side, given)


def make_raster(path: Path, side: int) -> None:
    """Write a smooth pattern with grain, a few rows at a time."""
    target = gdal.GetDriverByName("GTiff").Create(
        str(path),
        side,
        side,
        BANDS,
        gdal.GDT_Byte,
        ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "PHOTOMETRIC=MINISBLACK"],
    )
    target.SetGeoTransform((LEFT, 1, 0, TOP, 0, -1))
    target.SetProjection("EPSG:32633")
    rng = np.random.default_rng(0)
    cells = torch.from_numpy(rng.random((BANDS, CHUNK // CELL + 3, side // CELL + 3), np.float32))
    grain = rng.integers(-12, 13, (BANDS, CHUNK, side), np.int8)
    for row in range(0, side, CHUNK):
        rows = min(CHUNK, side - row)
        target.WriteArray(pattern(cells, grain)[:, :rows], 0, row)
        cells = torch.cat([cells[:, -3:], torch.rand_like(cells)[:, 3:]], 1)
    target.FlushCache()


def pattern(cells: torch.Tensor, grain: np.ndarray) -> np.ndarray:
    """(B, h, w) random cells, and (B, H, W) grain → (B, H, W) bytes."""
    smooth = nn.functional.interpolate(cells[None], scale_factor=CELL, mode="bilinear")[0].numpy()
    values = smooth[:, : grain.shape[1], : grain.shape[2]] * 200 + 27 + grain
    return values.astype(np.uint8)


def repeated(image: Path, side: int, times: int) -> Path:
    """A virtual raster that shows a raster many times."""
    found = image.with_name(f"{image.stem}_{times}.vrt")
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{image.name}</SourceFilename><SourceBand>{{band}}'
        f'</SourceBand><SrcRect xOff="0" yOff="0" xSize="{side}" ySize="{side}"/>'
        f'<DstRect xOff="{col * side}" yOff="{row * side}" xSize="{side}" ySize="{side}"/></SimpleSource>'
        for row in range(times)
        for col in range(times)
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">{sources.format(band=band)}</VRTRasterBand>'
        for band in range(1, BANDS + 1)
    )
    found.write_text(
        f'<VRTDataset rasterXSize="{side * times}" rasterYSize="{side * times}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{LEFT}, 1, 0, {TOP}, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )
    return found


def make_network(letter: str) -> nn.Module:
    """The network of a letter, with random weights."""
    torch.manual_seed(0)
    pair = NETWORKS[letter][1]
    return nn.Conv2d(BANDS, len(CLASSES), 1) if pair is None else create_model(*pair, BANDS, len(CLASSES))


def make_model(letter: str, path: Path, steps: int, device: str) -> None:
    """Teach a network to tell the levels of the first band, smoothed, and write its model file."""
    network, rng = make_network(letter).to(device), np.random.default_rng(1)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(0 if letter == "a" else steps):
        cells = torch.from_numpy(rng.random((4 * BANDS, 8, 8), np.float32))
        grain = rng.integers(-12, 13, (4 * BANDS, 192, 192), np.int8)
        images = torch.from_numpy(pattern(cells, grain)).to(device).reshape(4, BANDS, 192, 192).float()
        levels = nn.functional.avg_pool2d(images[:, 0], 31, 1, 15, count_include_pad=False)
        targets = ((levels - 27) / 200 * len(CLASSES)).long().clamp(0, len(CLASSES) - 1)
        nn.functional.cross_entropy(network((images - MEAN) / STD), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    network.eval()
    cells = torch.from_numpy(rng.random((PLACES * BANDS, 22, 22), np.float32))
    grain = rng.integers(-12, 13, (PLACES * BANDS, SEEN, SEEN), np.int8)
    places = torch.from_numpy(pattern(cells, grain)).to(device).reshape(PLACES, BANDS, SEEN, SEEN).float()
    save_model(path, network, make_header(letter, seam_costs(network, (places - MEAN) / STD)))


def make_header(letter: str, seams: tuple[float, ...] = ()) -> ModelHeader:
    """The description of a network's model file."""
    architecture, encoder = NETWORKS[letter][1] or ("none", "none")
    return ModelHeader(
        task="segmentation", architecture=architecture, encoder=encoder, dtype="uint8", nodata=None,
        band_names=tuple(f"band {number}" for number in range(1, BANDS + 1)), mean=(MEAN,) * BANDS,
        std=(STD,) * BANDS, classes=CLASSES, chip_size=256, pixel_size=1.0, crs="", whole_window=False,
        seams=seams,
    )  # fmt: skip


def load(letter: str, model: str) -> tuple[Any, ModelHeader]:
    """A network from its file; the convolution, which is no architecture, is made anew."""
    if NETWORKS[letter][1]:
        return load_model(model)
    return make_network(letter).eval().requires_grad_(False), read_header(model)


def compare(letter: str, image: Path, model: Path, side: int, given: argparse.Namespace) -> None:
    """Let the contenders take turns with one network, and print a table."""
    task = {
        "letter": letter, "image": str(image), "model": str(model), "device": given.device,
        "settings": dict(pair.split("=") for pair in given.set), "halo": 0,
    }  # fmt: skip
    tiles = {f"tiles of {size}": {"tile_size": size} for size in given.tiles}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in [*given.contenders, *tiles]}
    part = min(side, given.part or (side if given.tall > 1 else SIDES[letter]))
    if given.seconds:
        trial = run_contender({**task, "contender": "bare", "side": TRIAL, "whole": side})
        rate = TRIAL**2 / not_none(trial)["seconds"]
        part = min(side, max(TRIAL, math.isqrt(int(rate * given.seconds)) // TRIAL * TRIAL))
    print(f"\n({letter}) {NETWORKS[letter][0]}, {part} × {part} pixels", flush=True)
    for _ in range(given.turns):
        for name in found:
            who, settings = (
                ("terrazzo", {**task["settings"], **tiles[name]}) if name in tiles else (name, task["settings"])
            )
            answer = run_contender({**task, "contender": who, "settings": settings, "side": part, "whole": side})
            if answer is not None:
                found[name].append(answer)
                task["halo"] = answer.get("halo", task["halo"])
    rows, parts = {}, []
    for name, turns in found.items():
        if turns:
            best = {key: min(turn[key] for turn in turns) for key in turns[0]}
            rows[name] = [part**2 / 1e6 / best[key] for key in ("seconds", "processor")] + [best["peak"]]
            took = [f"{key} {best[key]:.2f} s" for key in PARTS if key in best]
            parts += [f"{name}: {', '.join(took)}"] if took else []
    print(f"{'':14}{'Mpx/s':>9}{'of bare':>9}{'Mpx/s of processor time':>26}{'of bare':>9}{'peak memory':>14}")
    bare = rows.get("bare", [float("nan")] * 2)
    for name, (rate, by_processor, peak) in rows.items():
        print(
            f"{name:14}{rate:9.3f}{rate / bare[0]:9.2f}{by_processor:26.3f}{by_processor / bare[1]:9.2f}"
            f"{peak / 1e6:11.0f} MB"
        )
    print("\n".join(parts), flush=True)
    if task["halo"]:
        print(f"halo {task['halo']}", flush=True)


def run_contender(task: dict[str, Any]) -> dict[str, Any] | None:
    """Run one in a process of its own; None if it cannot run here."""
    command = [sys.executable, "-m", "benchmarks.segment_raster", "--child", json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] | None = json.loads(done.stdout.splitlines()[-1])
    return found


def run_child(task: dict[str, Any]) -> None:
    """Run one contender, and print what it took."""
    network, header = load(task["letter"], task["model"])
    device = torch.device(task["device"])
    extra: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=Path(task["image"]).parent) as folder:
        output = str(Path(folder) / "map.tif")
        work = {"terrazzo": terrazzo, "bare": bare, "strips": strips, "onnxruntime": on_onnxruntime}[task["contender"]]
        prepared = work(task, network, header, output, device)
        if prepared is None:
            print(json.dumps(None))
            return
        begun = time.perf_counter(), time.process_time()
        extra = prepared() or {}
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds, processor = time.perf_counter() - begun[0], time.process_time() - begun[1]
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak_memory(), **extra}))


def peak_memory() -> int:
    """The peak memory of this process in bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def terrazzo(task: dict[str, Any], network: Any, header: ModelHeader, output: str, device: torch.device) -> Any:
    """The job."""
    segment.load_model = lambda path: (network, header)  # type: ignore[assignment]
    if device.type == "cuda":
        run_once(copy.deepcopy(network).to(device, memory_format=torch.channels_last), device)
    spec = SegmentRasterConfig.declared()
    values = {
        name: (value if "str" in spec[name].kind else json.loads(value)) for name, value in task["settings"].items()
    }
    values["extent"] = [LEFT, TOP - task["side"], LEFT + task["side"], TOP]
    config = SegmentRasterConfig.from_json(
        {"input": task["image"], "model": task["model"], "output": output, "device": task["device"], **values}
    )

    seconds: dict[str, float] = {}
    for part, (owner, method) in PARTS.items():
        watch(owner, method, part, seconds)

    def run() -> dict[str, Any]:
        log = Log()
        segment.segment_raster(config, log)
        return {"halo": log.halo, **seconds}

    return run


def watch(owner: type, method: str, part: str, seconds: dict[str, float]) -> None:
    """Let a method add up the seconds that its calls take."""
    original = getattr(owner, method)

    def watched(*args: Any) -> Any:
        begun = time.perf_counter()
        try:
            return original(*args)
        finally:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - begun

    setattr(owner, method, watched)


def bare(task: dict[str, Any], network: Any, header: ModelHeader, output: str, device: torch.device) -> Any:
    """The network alone, on as many pixels."""
    network = network.to(device, memory_format=torch.channels_last)
    images = torch.randn(1, BANDS, READY, READY, device=device).contiguous(memory_format=torch.channels_last)
    batches = max(1, round(task["side"] ** 2 / READY**2))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def run() -> None:
        with torch.inference_mode(), autocast(device, dtype):
            for _ in range(batches):
                network(images)

    run_once(network, device)
    return run


def run_once(network: Any, device: torch.device) -> None:
    """Let libraries prepare what they prepare on first use."""
    images = torch.randn(1, BANDS, READY, READY, device=device).contiguous(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
        with torch.inference_mode(), autocast(device, dtype):
            network(images)


def strips(task: dict[str, Any], network: Any, header: ModelHeader, output: str, device: torch.device) -> Any:
    """A script as one would write it: strip by strip with a halo above and below."""
    network = network.to(device, memory_format=torch.channels_last)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def answer(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), autocast(device, dtype):
            values = (torch.from_numpy(image).to(device).float() - MEAN) / STD
            found: np.ndarray = network(values[None])[0].argmax(0).byte().cpu().numpy()
        return found

    return lambda: strip_script(task, output, answer)


def on_onnxruntime(task: dict[str, Any], network: Any, header: ModelHeader, output: str, device: torch.device) -> Any:
    """The same script with onnxruntime; None without it."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError:
        return None
    path = str(Path(output).with_suffix(".onnx"))
    torch.onnx.export(
        network, (torch.zeros(1, BANDS, 256, 256),), path, dynamo=False, input_names=["x"],
        dynamic_axes={"x": {2: "height", 3: "width"}},
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def answer(image: np.ndarray) -> np.ndarray:
        values = (image.astype(np.float32) - MEAN) / STD
        found: np.ndarray = session.run(None, {"x": values[None]})[0][0].argmax(0).astype(np.uint8)
        return found

    return lambda: strip_script(task, output, answer)


def strip_script(task: dict[str, Any], output: str, answer: Any) -> None:
    """Read, answer and write strips of at most `STRIP` pixels, which are cut to parts where the raster is wide."""
    source, side, halo = gdal.Open(task["image"]), task["side"], task["halo"]
    layout = ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "COMPRESS=DEFLATE"]
    target = gdal.GetDriverByName("GTiff").Create(output, side, side, 1, gdal.GDT_Byte, layout)
    wide = min(side, 4096) if halo else side
    high = max(1, STRIP // wide // 512) * 512 if halo else max(512, STRIP // wide // 512 * 512)
    for row in range(0, side, high):
        for col in range(0, side, wide):
            left, top = max(0, col - halo), max(0, row - halo)
            right, bottom = min(task["whole"], col + wide + halo), min(task["whole"], row + high + halo)
            right, bottom = left + (right - left) // 32 * 32, top + (bottom - top) // 32 * 32
            found = answer(source.ReadAsArray(left, top, right - left, bottom - top))
            rows, cols = min(high, side - row), min(wide, side - col)
            core = found[row - top :, col - left :][:rows, :cols]
            target.GetRasterBand(1).WriteArray(core + 1, col, row)
    target.FlushCache()


if __name__ == "__main__":
    main()
