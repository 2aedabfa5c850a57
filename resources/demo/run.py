"""The whole way through Terrazzo by qgis_process: status, exportchips, trainsegmenter, segmentraster, and a picture.

Reads the environment, as `make demo` sets it:
  IMAGE, LABELS, FIELD   your raster; your polygons with the field of their class, or your class raster;
                         without these, a made-up scene
  OUT                    where everything goes (default: the folder demo of the checkout)
  EPOCHS                 how long to train (without it: 12 for the made-up scene, else Terrazzo's default)
  TERRAZZO_PYTHON        the worker's Python
The QGIS profile is a temporary one; your own is not touched.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from subprocess import CalledProcessError, run

from osgeo import gdal
from qgis_process import QgisProcess, StepFailed

gdal.UseExceptions()

HERE = Path(__file__).resolve().parent
# For the made-up scene, which two cores learn in some five minutes. Own layers get the defaults.
TRAINING = {"EPOCHS": 12}


def main() -> int:
    """Run the steps; the exit status is that of the step that failed, else 0."""
    wanted = {
        name: os.environ.get(name, "") for name in ("IMAGE", "LABELS", "FIELD", "OUT", "EPOCHS", "TERRAZZO_PYTHON")
    }
    out = Path(wanted["OUT"] or HERE.parents[1] / "demo").expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="terrazzo-profile-") as profile:
        try:
            return demonstrate(wanted, out, QgisProcess(HERE.parents[1], Path(profile)))
        except StepFailed as failure:
            print(f"\n{failure}", file=sys.stderr)
            return failure.status
        except CalledProcessError as failure:
            print(f"\n{failure.cmd[1]} failed.", file=sys.stderr)
            return failure.returncode or 1


def demonstrate(wanted: dict[str, str], out: Path, qgis: QgisProcess) -> int:
    """Scene → chips → model → map → picture in the folder `out`; returns 0."""
    begun = time.monotonic()
    own = own_layers(wanted) if wanted["IMAGE"] or wanted["LABELS"] else None
    heading("Set-up")
    status = qgis.run("terrazzo:status", {})
    if status.get("READY", "").lower() not in ("true", "1"):
        raise StepFailed("The worker's Python is not complete.", 1)
    image, labels = own or make_scene(out)

    heading("Chips")
    target = {"OVERWRITE": "true", "OUTPUT": out / "chips"}
    chips = qgis.run("terrazzo:exportchips", {"INPUT": image, **labels, **target})

    heading("Training")
    training = {} if own else TRAINING
    if wanted["EPOCHS"]:
        training = {**training, "EPOCHS": wanted["EPOCHS"]}
    trained = qgis.run(
        "terrazzo:trainsegmenter",
        {"CHIPS": out / "chips", **training, "OUTPUT": out / "model.safetensors", "REPORT": out / "report.html"},
    )

    heading("Map")
    qgis.run("terrazzo:segmentraster", {"INPUT": image, "MODEL": out / "model.safetensors", "OUTPUT": out / "map.tif"})
    label_path, field = labels.get("LABELS") or labels["LABEL_RASTERS"], labels.get("CLASS_FIELD", "")
    draw = [HERE / "picture.py", image, label_path, field, out / "map.tif", out / "chips", out / "picture.png"]
    run([wanted["TERRAZZO_PYTHON"], *map(str, draw)], check=True)

    heading("Result")
    print(
        f"Of {chips['CHIPS_COUNT']} chips, {chips['TEST_CHIPS']} lie on test blocks, which no training has seen. There:"
    )
    print(f"  overall accuracy {share(trained, 'TEST_OVERALL_ACCURACY')}, mean IoU {share(trained, 'TEST_MEAN_IOU')}")
    made = [("chips", "chips"), ("model", "model.safetensors"), ("report", "report.html"), ("map", "map.tif")]
    made = [(name, out / file) for name, file in (*made, ("picture", "picture.png"))]
    for name, path in (("image", image), ("labels", label_path), *made):
        print(f"  {name:8}{path}")
    print(
        f"{time.monotonic() - begun:.0f} s in all: "
        + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in qgis.seconds)
    )
    return 0


def own_layers(wanted: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The user's image, and the label parameters of exportchips."""
    for name in ("IMAGE", "LABELS"):
        if not Path(wanted[name]).expanduser().is_file():
            remedy = "Give IMAGE=… LABELS=… and, for polygons, FIELD=…"
            raise StepFailed(f'{name} is "{wanted[name]}", and there is no such file. {remedy}', 2)
    image, labels = (str(Path(wanted[name]).expanduser().resolve()) for name in ("IMAGE", "LABELS"))
    try:
        source = gdal.OpenEx(labels, gdal.OF_VECTOR)
    except RuntimeError:
        return image, {"LABEL_RASTERS": labels}
    if wanted["FIELD"]:
        return image, {"LABELS": labels, "CLASS_FIELD": wanted["FIELD"]}
    fields = source.GetLayer(0).GetLayerDefn()
    names = ", ".join(fields.GetFieldDefn(place).GetName() for place in range(fields.GetFieldCount()))
    print(f"All polygons are taken for one class; with FIELD=… one of these fields tells the class: {names}.")
    return image, {"LABELS": labels}


def make_scene(out: Path) -> tuple[str, dict[str, str]]:
    """The made-up scene's image, and the label parameters of exportchips."""
    heading("Scene")
    run([sys.executable, str(HERE / "make_scene.py"), str(out)], check=True)
    return str(out / "scene.tif"), {"LABELS": str(out / "labels.gpkg"), "CLASS_FIELD": "landcover"}


def share(results: dict[str, str], name: str) -> str:
    """A share between 0 and 1 in per cent."""
    try:
        return f"{100 * float(results[name]):.1f} %"
    except (KeyError, ValueError):
        return "not known (no test chips)"


def heading(text: str) -> None:
    """A line above a step, as wide as the terminal at most."""
    print(f"\n── {text} " + "─" * max(3, min(70, shutil.get_terminal_size().columns) - len(text) - 4), flush=True)


if __name__ == "__main__":
    sys.exit(main())
