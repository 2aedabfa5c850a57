"""Tests an environment: run by its interpreter, it imports all packages, trains a step, reads a raster, and prints
JSON.

It is run by its path, so that it sees the environment but not the plugin.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path

MODULES = (
    "numpy", "torch", "torchvision", "segmentation_models_pytorch", "timm", "safetensors", "torchinfo", "matplotlib",
    "jinja2",
)  # fmt: skip
DRIVERS = ("GTiff", "VRT", "MEM", "PNG", "JPEG", "GPKG", "GeoJSON")  # needed for datasets and results


def read_a_raster() -> str:
    """Write and read a small GeoTIFF, and return GDAL's version."""
    import numpy as np
    from osgeo import gdal, gdal_array, ogr, osr  # noqa: F401 (all are required)

    gdal.UseExceptions()
    lacking = [name for name in DRIVERS if gdal.GetDriverByName(name) is None]
    if lacking:
        raise RuntimeError(f"GDAL {gdal.__version__} lacks {', '.join(lacking)}")
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "proof.tif")
        raster = gdal.GetDriverByName("GTiff").Create(path, 8, 8, 1, gdal.GDT_Byte)
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(32633)  # fails if PROJ's data is missing
        raster.SetSpatialRef(reference)
        raster.GetRasterBand(1).WriteArray(values)
        raster = None
        found = gdal.Open(path).ReadAsArray()
    if not (found == values).all():
        raise RuntimeError("GDAL reads other values than it has written")
    return str(gdal.__version__)


def train_a_step(device: str) -> None:
    """Train a small network for one step on a device."""
    import torch

    first = torch.nn.Conv2d(3, 8, 3, padding=1)
    last = torch.nn.Conv2d(8, 2, 1)
    network = torch.nn.Sequential(first, torch.nn.BatchNorm2d(8), torch.nn.ReLU(), last).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    images, targets = torch.rand(4, 3, 32, 32, device=device), torch.randint(0, 2, (4, 32, 32), device=device)
    before = first.weight.detach().clone()
    loss = torch.nn.functional.cross_entropy(network(images), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    if not torch.isfinite(loss).item() or torch.equal(before, first.weight):
        raise RuntimeError(f"a training step on {device} changed nothing")


def main() -> int:
    """Test everything; a failure ends with a traceback."""
    del sys.path[0]  # the plugin's folder, whose files must not shadow modules
    for name in MODULES:
        importlib.import_module(name)
    found = {"gdal": read_a_raster()}
    import torch

    found["torch"] = torch.__version__
    train_a_step("cpu")
    if torch.cuda.is_available():
        train_a_step("cuda")
        found["gpu"] = torch.cuda.get_device_name()
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
