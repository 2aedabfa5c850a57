"""Pascal VOC: images, palette masks, and lists of the chips of each split.

Folders and files: `JPEGImages/`; `SegmentationClass/` with PNG masks, whose palette index or colour is the class, and
255 is unlabelled; `ImageSets/Segmentation/{train,val,trainval,test}.txt`; `labelmap.txt` with a name and a colour per
line, as written by CVAT. Classes of whole chips are in `ImageSets/Main/`, and in `Annotations/` with one object per
class, whose box is the chip.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ...class_names import class_text, class_values, remarks_on
from ...errors import InputError
from ...events import Reporter, Stage
from ...strangers.images import ENDINGS, open_image, read_pixels
from ...strangers.paths import entries, inside
from ...strangers.texts import read_lines, read_xml
from ...threads import work_ahead
from .foreign import NO_CLASS, ForeignChip, ForeignFolder, Named, Note, split_of
from .masks import read_mask
from .words import first_of

KIND = "voc"
VOID = 255
VOID_COLOR = (224, 224, 192)
IMAGES = ("JPEGImages", "images", "Images")
MASKS = "SegmentationClass"
LABELMAP = "labelmap.txt"
# The 21 classes of the original dataset.
NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

Color = tuple  # (r, g, b)


def original_palette() -> list[Color]:
    """VOC's 256 colours: the bits of the value, distributed to red, green and blue from the highest bit down."""
    found = []
    for value in range(256):
        parts = [0, 0, 0]
        for bit in range(8):
            parts[bit % 3] |= (value >> bit & 1) << (7 - bit // 3)
        found.append(tuple(parts))
    return found


def recognise(folder: Path) -> bool:
    """Return whether a folder has VOC's layout."""
    lists = any((folder / "ImageSets" / name).is_dir() for name in ("Segmentation", "Main"))
    return image_folder(folder) is not None and (lists or (folder / MASKS).is_dir() or (folder / LABELMAP).is_file())


def image_folder(folder: Path) -> Optional[Path]:
    """The folder of the images; None if there is none."""
    return next((inside(folder, name, folder) for name in IMAGES if (folder / name).is_dir()), None)


def _files(part: Path, folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Stem → file, for the files with the given suffixes in a subfolder."""
    return {path.stem: path for path in entries(part, folder) if path.suffix.lower() in endings}


def read(folder: Path, reporter: Reporter) -> ForeignFolder:
    """Read the lists, the classes, and the annotations of whole chips.

    Raises:
        InputError: There are no labels, they are boxes around objects, or a file is damaged.
    """
    images = image_folder(folder)
    if images is None:
        raise InputError(f"{folder} has no folder JPEGImages.", "Choose the parent folder of JPEGImages.")
    found = _files(images, folder, ENDINGS)
    if (folder / MASKS).is_dir():
        return _read_masks(folder, found)
    if (folder / "Annotations").is_dir():
        return _read_annotations(folder, found, reporter)
    raise InputError(
        f"{folder} has neither SegmentationClass nor Annotations.", "Choose a folder of Pascal VOC with labels."
    )


def _splits(folder: Path, kind: str) -> dict[str, str]:
    """Stem → split, from the lists of a kind; the combined list of training and validation is ignored."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        path = inside(folder, f"ImageSets/{kind}/{split}.txt", folder)
        for line in read_lines(path) if path.is_file() else ():
            found[Path(line.split()[0].replace("\\", "/")).stem] = split_of(split)
    return found


def _read_masks(folder: Path, images: dict[str, Path]) -> ForeignFolder:
    masks = _files(inside(folder, MASKS, folder), folder, ENDINGS)
    splits = _splits(folder, "Segmentation")
    stems = [stem for stem in masks if stem in images and (not splits or stem in splits)]
    chips = [ForeignChip(images[stem], masks[stem], split=splits.get(stem, "")) for stem in stems]
    warnings = []
    without = [stem for stem in splits if stem not in masks]
    if without:
        warnings.append(f"Listed chips without a mask are left out: {first_of(without)}.")
    lost = [stem for stem in masks if stem not in images]
    if lost:
        warnings.append(f"Masks without an image are left out: {first_of(lost)}.")
    if not chips:
        raise InputError(f"{folder} has no image with a mask.", f"Give both the same name in {MASKS} and JPEGImages.")
    first = open_image(chips[0].label)
    colors = _labelmap(folder)
    if first.RasterCount >= 3:
        return _colored(folder, chips, colors, warnings)
    note = Note.of(folder, KIND)
    classes, names = _palette_classes(first, colors)

    def mask(chip: ForeignChip) -> np.ndarray:
        return read_mask(chip.label, (VOID,), {})

    return ForeignFolder(
        kind=KIND,
        task="segmentation",
        chips=tuple(chips),
        classes=note.named if note else classes,
        mask=mask,
        names=names,
        label_nodata=note.label_nodata if note else None,
        remarks=("The masks hold class values" + (f", named by {LABELMAP}." if colors else "."),),
        warnings=tuple(warnings),
    )


def _labelmap(folder: Path) -> dict[Color, str]:
    """Colour → name, in the order of `labelmap.txt`, whose lines are `name:r,g,b:parts:actions`."""
    path, found = inside(folder, LABELMAP, folder), {}
    for line in read_lines(path) if path.is_file() else ():
        if line.startswith("#"):
            continue
        parts = line.split(":")
        if len(parts) < 2 or not re.fullmatch(r" *[0-9]{1,3} *(, *[0-9]{1,3} *){2}", parts[1]):
            raise InputError(f'The line "{line}" of {path} has no valid colour.', "Write name:red,green,blue::")
        color = tuple(int(part) for part in parts[1].split(","))
        if max(color) > 255:
            raise InputError(f'The line "{line}" of {path} has no valid colour.', "Colour values range from 0 to 255.")
        found[color] = class_text(parts[0])
    return found


def _palette_classes(mask: gdal.Dataset, colors: dict[Color, str]) -> tuple[Named, Named]:
    """The classes in `labelmap.txt`, and names of other values, which are VOC's own if the palette is."""
    table = mask.GetRasterBand(1).GetColorTable()
    if table is None:  # grey values are line numbers
        return {value: (name, _hex(color)) for value, (color, name) in enumerate(colors.items())}, {}
    palette = [tuple(table.GetColorEntry(value)[:3]) for value in range(min(VOID, table.GetCount()))]
    if colors:
        named = {palette.index(color): (name, _hex(color)) for color, name in colors.items() if color in palette}
        return named, {}
    original = palette[: len(NAMES)] == original_palette()[: len(NAMES)]
    known = dict(enumerate(NAMES)) if original else {}
    return {}, {value: (known.get(value, ""), _hex(color)) for value, color in enumerate(palette)}


def _colored(folder: Path, chips: list[ForeignChip], colors: dict[Color, str], warnings: list[str]) -> ForeignFolder:
    """Read masks whose colours are the classes; values are line numbers of `labelmap.txt`, or those of VOC."""
    names = colors or dict(zip(original_palette(), NAMES))
    named = {value: (name, _hex(color)) for value, (color, name) in enumerate(names.items())}
    ordered = sorted((_key(color), value) for value, color in enumerate(names))
    keys, values = np.array(ordered, np.int64).T

    def mask(chip: ForeignChip) -> np.ndarray:
        data = read_pixels(open_image(chip.label))
        if len(data) < 3:
            raise InputError(f"The mask {chip.label} has one band, but others have colours.", "Convert it to RGB.")
        pixels = (data[0].astype(np.int64) << 16) | (data[1].astype(np.int64) << 8) | data[2]
        place = np.minimum(np.searchsorted(keys, pixels), len(keys) - 1)
        known = keys[place] == pixels
        strange = ~known & (pixels != _key(VOID_COLOR))
        if strange.any():
            number = int(pixels[strange][0])
            raise InputError(
                f"The mask {chip.label} has the colour {number >> 16},{number >> 8 & 255},{number & 255}, which is not "
                f"in {LABELMAP if colors else 'the palette of Pascal VOC'}.",
                f"Add a line for each colour to {folder / LABELMAP}: name:red,green,blue::",
            )
        return np.where(known, values[place], NO_CLASS).astype(np.int32)

    return ForeignFolder(
        kind=KIND,
        task="segmentation",
        chips=tuple(chips),
        classes=named if colors else {},
        mask=mask,
        names=named,
        remarks=("The colours of the masks are the classes.",),
        warnings=tuple(warnings),
    )


def _key(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _read_annotations(folder: Path, images: dict[str, Path], reporter: Reporter) -> ForeignFolder:
    """Read the classes of whole chips: the names of the objects in each annotation."""
    labels = _files(inside(folder, "Annotations", folder), folder, (".xml",))
    splits = _splits(folder, "Main")
    stems = [stem for stem in labels if stem in images and (not splits or stem in splits)]
    if not stems:
        raise InputError(f"{folder} has no image with an annotation.", "Give both the same name.")
    stage = Stage(reporter, len(stems), "Reading annotations", 0, 0.1)
    given = [names for _, names in work_ahead(lambda stem: _object_names(labels[stem]), stems, stage)]
    texts = [list(dict.fromkeys(map(class_text, names))) for names in given]
    note = Note.of(folder, KIND)
    lines = [name for name in _labelmap(folder).values() if name != NAMES[0]]
    values = note.values if note else {name: value for value, name in enumerate(lines, start=1)}
    unlisted = {name for row in texts for name in row} - set(values)
    unknown = class_values(unlisted, set(values.values()), first=1 + max([0, *values.values()]))
    values = {**values, **unknown}
    several = any(len(row) != 1 for row in texts) or (note is not None and note.task == "multilabel")
    chips = [
        ForeignChip(images[stem], None, tuple(sorted({values[name] for name in row})), splits.get(stem, ""))
        for stem, row in zip(stems, texts)
    ]
    named = {value: (name, None) for name, value in values.items()}
    return ForeignFolder(
        KIND,
        "multilabel" if several else "classification",
        tuple(chips),
        {**named, **(note.named if note else {})},
        remarks=tuple(remarks_on({name for names in given for name in names}, unknown, "the annotations")),
    )


def _object_names(path: Path) -> list[str]:
    """The names of the objects in an annotation.

    Raises:
        InputError: An object covers less than the whole image.
    """
    root = read_xml(path)
    try:
        width, height = (float(root.findtext(f"size/{name}", "0")) for name in ("width", "height"))
        for box in root.iterfind("object/bndbox"):
            left, top, right, bottom = (float(box.findtext(name, "0")) for name in ("xmin", "ymin", "xmax", "ymax"))
            if right - left < width - 2 or bottom - top < height - 2:
                raise InputError(
                    f"{path} has boxes around objects (detection), which Terrazzo does not support.",
                    "Use masks in SegmentationClass, or annotations with a class for the whole image.",
                )
    except ValueError as error:
        raise InputError(f"The annotation {path} is damaged ({error}).", "Check the file.") from error
    names: Iterable[Any] = (found.text for found in root.iterfind("object/name"))
    return [str(name) for name in names if name and class_text(str(name))]
