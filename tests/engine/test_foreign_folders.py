"""Folders as other programs write them, including odd and malicious ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import SIZE, bring_in, footprints, make_dataset, photo, pixels, place, write_arcgis, write_image
from heard import Heard
from osgeo import gdal
from synthetic import UTM

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.chips.formats.images import turn
from plugin.engine.chips.formats.importing import import_chips
from plugin.engine.chips.formats.regions import decode_runs, encode_runs
from plugin.engine.chips.formats.squares import square, square_transform
from plugin.engine.chips.formats.voc import original_palette
from plugin.engine.config import ImportChipsConfig
from plugin.engine.errors import Cancelled, InputError

STRIPES = np.repeat([[0] * 8 + [1] * 8 + [2] * 8], SIZE, axis=0)


def mask_of(dataset: Any, number: int = 0) -> np.ndarray:
    return pixels(dataset.folder / dataset.labels[number])


# --- ArcGIS


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("line", ["images\\{0}.tif  labels\\{0}.tif \r\n", "images/{0}.tif  labels/{0}.tif\n",
                                  "images\\{0}.tif\tdem\\{0}.tif\tlabels\\{0}.tif\n"])  # fmt: skip
def test_arcgis_labels_of_any_type_and_lines_of_any_kind(tmp_path: Path, dtype: str, line: str) -> None:
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", [line.format(number) for number in range(3)])
    for number in range(3):
        write_image(folder / f"images/{number}.tif", photo(number), transform=place(number), epsg=UTM)
        write_image(folder / f"labels/{number}.tif", STRIPES.astype(dtype), transform=place(number), epsg=UTM)
    found = bring_in(folder, split_method="random")
    assert [(info.value, info.name) for info in found.info.classes.classes] == [(1, "roof"), (2, "road")]
    assert found.info.label_nodata == 0 and (mask_of(found) == STRIPES).all()
    assert found.info.split["method"] == "random"


@pytest.mark.parametrize(("driver", "ending"), [("JPEG", "jpg"), ("PNG", "png"), ("MRF", "mrf")])
def test_arcgis_images_of_any_format_keep_their_place(tmp_path: Path, driver: str, ending: str) -> None:
    lines = [f"images\\{number}.{ending}  labels\\{number}.tif \r\n" for number in range(2)]
    if gdal.GetDriverByName(driver) is None:
        pytest.skip(f"this GDAL was built without {driver}")
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", lines)
    for number in range(2):
        image = folder / f"images/{number}.{ending}"
        options = [] if driver == "MRF" else ["WORLDFILE=YES"]
        write_image(image, photo(number), driver, place(number), UTM, options=options)
        write_image(folder / f"labels/{number}.tif", STRIPES.astype(np.uint8))
    found = bring_in(folder)
    assert "UTM zone 33N" in found.info.crs and found.info.pixel_size == 0.5
    assert (pixels(found.folder / found.images[1]) == pixels(folder / f"images/1.{ending}")).all()
    assert (mask_of(found) == STRIPES).all()


def test_arcgis_values_that_no_file_names_are_classes_too(tmp_path: Path) -> None:
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", ["images\\0.tif  labels\\0.tif\n"], classes=())
    write_image(folder / "images/0.tif", photo(0))
    write_image(folder / "labels/0.tif", (STRIPES * 300).astype(np.int32))
    found = bring_in(folder)
    assert found.info.classes.values.tolist() == [300, 600] and (mask_of(found) == STRIPES * 300).all()


def test_arcgis_with_one_class_gets_a_background(tmp_path: Path) -> None:
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", ["images\\0.tif  labels\\0.tif\n"], ((1, "roof"),))
    write_image(folder / "images/0.tif", photo(0))
    write_image(folder / "labels/0.tif", (STRIPES > 0).astype(np.uint8))
    found = bring_in(folder)
    assert found.info.classes.names == ["background", "roof"] and found.info.label_nodata == 255
    assert (mask_of(found) == (STRIPES > 0)).all()


def test_arcgis_zero_is_a_class_where_it_has_a_name(tmp_path: Path) -> None:
    classes = ((0, "land"), (1, "water"))
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", ["images\\0.tif  labels\\0.tif\n"], classes)
    write_image(folder / "images/0.tif", photo(0))
    write_image(folder / "labels/0.tif", (STRIPES > 0).astype(np.uint8))
    heard = Heard()
    found = bring_in(folder, heard)
    assert found.info.classes.names == ["land", "water"] and (mask_of(found) == (STRIPES > 0)).all()
    assert any('The value 0 is used as the class "land"' in text for text in heard.warnings)


def label_xml(*names: str) -> str:
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    return f'<?xml version="1.0"?><annotation>{objects}</annotation>'


@pytest.mark.parametrize(
    ("mode", "labels", "classes", "task"),
    [
        ("Labeled_Tiles", [("2",), ("1",), ("road",)], ["2", "1", "2"], "classification"),
        ("Labeled_Tiles", [("7",), ("1", "2"), ("shed",)], ["7", "1", "8"], "classification"),
        ("MultiLabeled_Tiles", [("2,1",), ("roof",), ()], ["1,2", "1", ""], "multilabel"),
    ],
)
def test_arcgis_labels_of_whole_chips(tmp_path: Path, mode: str, labels: Any, classes: Any, task: str) -> None:
    lines = [f"images\\{number}.tif  labels\\{number}.xml \r\n" for number in range(3)]
    folder = write_arcgis(tmp_path / "arc", mode, lines)
    (folder / "labels").mkdir()
    for number, names in enumerate(labels):
        write_image(folder / f"images/{number}.tif", photo(number))
        (folder / f"labels/{number}.xml").write_text(label_xml(*names))
    found = bring_in(folder)
    assert found.info.task == task
    values = found.info.classes.values
    assert [",".join(map(str, values[row])) for row in found.shown] == classes


def test_arcgis_chips_without_labels(tmp_path: Path) -> None:
    folder = write_arcgis(tmp_path / "arc", "Export_Tiles", ["images\\0.tif  images2\\0.tif \r\n"], ())
    write_image(folder / "images/0.tif", photo(0, bands=4))
    found = bring_in(folder)
    assert (found.info.task, len(found.info.classes), len(found.info.band_names)) == ("unlabelled", 0, 4)


def test_arcgis_chips_that_miss_a_file_are_left_out_with_a_word(tmp_path: Path) -> None:
    lines = [f"images\\{number}.tif  labels\\{number}.tif\n" for number in range(4)]
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", lines)
    for number in range(4):
        write_image(folder / f"images/{number}.tif", photo(number))
        write_image(folder / f"labels/{number}.tif", STRIPES.astype(np.uint8))
    (folder / "labels/0.tif").unlink()
    (folder / "images/1.tif").unlink()
    (folder / "labels/2.tif").write_bytes(b"II*\0broken")
    heard = Heard()
    assert len(bring_in(folder, heard).images) == 1
    text = "\n".join(heard.warnings)
    assert "without a label file are left out: 0.tif" in text
    assert "cannot be read are left out: 1.tif" in text and "label cannot be read are left out: 2.tif" in text


@pytest.mark.parametrize("mode", ["PASCAL_VOC_rectangles", "RCNN_Masks", "KITTI_rectangles"])
def test_arcgis_detection_is_refused_in_words(tmp_path: Path, mode: str) -> None:
    folder = write_arcgis(tmp_path / "arc", mode, ["images\\0.tif  labels\\0.xml \r\n"])
    with pytest.raises(InputError, match=f"are {mode}: labels of single objects"):
        bring_in(folder)
    with pytest.raises(InputError, match=r"are CycleGAN\. Terrazzo reads Classified_Tiles"):
        bring_in(write_arcgis(tmp_path / "other", "CycleGAN", ["images\\0.tif\n"]))


@pytest.mark.parametrize(
    "name", ["..\\secret.tif", "/etc/passwd", "C:\\secret.tif", "/vsicurl/http://x/y.tif", "images/../../secret.tif",
             "link/secret.tif", "http://x/y.tif", "\\\\server\\share\\x.tif"],
)  # fmt: skip
def test_paths_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "secret.tif", photo(0))
    for line in (f"{name}  labels\\0.tif\n", f"images\\0.tif  {name}\n"):
        folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", [line])
        if not (folder / "link").exists():
            (folder / "link").symlink_to(tmp_path)
        write_image(folder / "images/0.tif", photo(0))
        write_image(folder / "labels/0.tif", STRIPES.astype(np.uint8))
        with pytest.raises(InputError, match="is outside of its folder"):
            bring_in(folder)
    assert not (tmp_path / "arc_imported").exists()


def test_an_image_that_stands_for_another_file_is_none(tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.tif", photo(0))
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", ["images\\0.tif  labels\\0.tif\n"])
    (folder / "images").mkdir()
    (folder / "images/0.tif").write_text(
        f'<VRTDataset rasterXSize="24" rasterYSize="24"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    write_image(folder / "labels/0.tif", STRIPES.astype(np.uint8))
    with pytest.raises(InputError, match=r"No image can be read: 0\.tif"):
        bring_in(folder)
    mrf = "<MRF_META>{}<Raster><Size x='24' y='24' c='3'/><DataFile>{}</DataFile></Raster></MRF_META>"
    for text in (mrf.format("<CachedSource><Source>/x</Source></CachedSource>", ""), mrf.format("", "../../secret")):
        (folder / "images/0.mrf").write_text(text)
        (folder / "map.txt").write_text("images/0.mrf  labels/0.tif\n")
        with pytest.raises(InputError, match=r"refers to an image elsewhere|is outside"):
            bring_in(folder)


def test_xml_that_declares_entities_is_refused(tmp_path: Path) -> None:
    folder = write_arcgis(tmp_path / "arc", "Labeled_Tiles", ["images\\0.tif  labels\\0.xml\n"])
    write_image(folder / "images/0.tif", photo(0))
    (folder / "labels").mkdir()
    bomb = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    for text in (
        f'<!DOCTYPE x [<!ENTITY a0 "lol">{bomb}]><annotation><object><name>&a9;</name></object></annotation>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>',
    ):
        for encoding in ("utf-8", "utf-16"):
            (folder / "labels/0.xml").write_bytes(text.encode(encoding))
            with pytest.raises(InputError, match="declares a document type"):
                bring_in(folder)


def test_damaged_descriptions_end_in_words(tmp_path: Path) -> None:
    for name in ("esri_accumulated_stats.json", "esri_model_definition.emd"):
        folder = write_arcgis(tmp_path / name, "Classified_Tiles", ["images\\0.tif  labels\\0.tif\n"])
        (folder / name).write_text("[" * 200_000)
        with pytest.raises(InputError, match="cannot be read"):
            bring_in(folder)
    folder = write_arcgis(tmp_path / "note", "Classified_Tiles", ["images\\0.tif  labels\\0.tif\n"])
    (folder / "terrazzo.json").write_text('{"classes": 3}')
    with pytest.raises(InputError, match=r"terrazzo\.json is damaged"):
        bring_in(folder)


def test_arcgis_class_values_count_before_names_and_labels_without_one_are_told(tmp_path: Path) -> None:
    lines = [f"images\\{number}.tif  labels\\{number}.xml\n" for number in range(3)]
    folder = write_arcgis(tmp_path / "arc", "Labeled_Tiles", lines, ((1, "2"), (2, "1")))
    (folder / "labels").mkdir()
    for number, names in enumerate([("1",), ("2",), ()]):
        write_image(folder / f"images/{number}.tif", photo(number))
        (folder / f"labels/{number}.xml").write_text(label_xml(*names))
    heard = Heard()
    assert bring_in(folder, heard).shown.tolist() == [[True, False], [False, True]]
    assert any("without a class in their label are left out: 2.tif" in text for text in heard.warnings)


@pytest.mark.parametrize("value", [10**12, 2**31, float("inf"), "9" * 5000, None, True, [1]])
def test_odd_class_values_end_in_words_or_are_none(tmp_path: Path, value: Any) -> None:
    folder = write_arcgis(tmp_path / "arc", "Classified_Tiles", ["images\\0.tif  labels\\0.tif\n"], ((value, "odd"),))
    write_image(folder / "images/0.tif", photo(0))
    write_image(folder / "labels/0.tif", STRIPES.astype(np.uint8))
    if isinstance(value, int) and value > 1:
        with pytest.raises(InputError, match=f"A class has the value {value}"):
            bring_in(folder)
    else:
        assert bring_in(folder).info.classes.values.tolist() == [1, 2]


# --- ImageNet


def class_folders(folder: Path, names: Any, driver: str = "JPEG", ending: str = "jpg", **image: Any) -> Path:
    for number, name in enumerate(names):
        for copy in range(3):
            write_image(folder / name / f"{number}_{copy}.{ending}", photo(10 * number + copy, **image), driver)
    return folder


def test_photographs_of_one_size_are_copied_byte_for_byte(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", ("forest", "Äcker", "test"))
    (folder / "forest" / "Thumbs.db").write_bytes(b"x")
    heard = Heard()
    found = bring_in(folder, heard)
    assert found.info.task == "classification" and found.info.classes.names == ["forest", "test", "Äcker"]
    assert (found.folder / found.images[0]).read_bytes() == (folder / "forest/0_0.jpg").read_bytes()
    assert "9 images copied byte for byte." in heard.logs and "1 other file left out." in heard.logs
    assert found.info.crs == "" and found.info.split["method"] == "random"
    assert found.info.band_names == ("red", "green", "blue")


def test_made_up_places_do_not_overlap_and_images_lie_in_them(tmp_path: Path) -> None:
    found = bring_in(class_folders(tmp_path / "photos", ("a", "b", "c")))
    squares = [shape for (shape,) in footprints(found)]
    assert all(not one.Intersects(other) for number, one in enumerate(squares) for other in squares[:number])
    for square_of, image in zip(squares, found.images):
        left, right, bottom, top = square_of.GetEnvelope()
        assert (right - left, top - bottom) == (SIZE, SIZE)
        assert gdal.Open(str(found.folder / image)).GetGeoTransform() == (left, 1, 0, top, 0, -1)


def test_folders_of_splits_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for split in ("train", "valid", "Test"):
        class_folders(folder / split, ("a", "b"))
    found = bring_in(folder)
    assert found.info.chip_counts == {"training": 6, "validation": 6, "test": 6}
    assert found.info.split["method"] == "imported" and found.info.classes.names == ["a", "b"]


def test_a_folder_with_one_split_only_is_divided(tmp_path: Path) -> None:
    class_folders(tmp_path / "photos" / "train", ("a", "b"))
    found = bring_in(tmp_path / "photos", validation_share=0.3, test_share=0.3)
    assert min(found.info.chip_counts.values()) > 0


def test_images_of_other_sizes_and_kinds_are_brought_to_the_same(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", ("a", "b"))
    ramp = np.arange(48, dtype=np.uint8)[None, None].repeat(3, 0).repeat(32, 1)
    write_image(folder / "a/wide.png", ramp, "PNG")
    write_image(folder / "a/grey.png", photo(1, bands=1), "PNG")
    write_image(folder / "a/palette.png", (STRIPES % 2).astype(np.uint8), "PNG", colors=[(9, 8, 7), (1, 2, 3)])
    write_image(folder / "a/alpha.tif", photo(2, bands=4), options=["PHOTOMETRIC=RGB", "ALPHA=YES"])
    (folder / "a/broken.jpg").write_bytes(b"\xff\xd8\xff")
    heard = Heard()
    found = bring_in(folder, heard)
    assert found.info.chip_size == SIZE and found.info.dtype == "uint8"
    assert any("24 × 24 pixels, the median" in text and "1 image cropped" in text for text in heard.logs)
    assert any("broken.jpg" in text for text in heard.warnings)
    at = {name: number for number, name in enumerate(sorted(path.name for path in (folder / "a").iterdir()
                                                          if path.name != "broken.jpg"))}  # fmt: skip
    alpha, grey, palette, wide = (
        pixels(found.folder / found.images[at[name]]) for name in ("alpha.tif", "grey.png", "palette.png", "wide.png")
    )
    assert (alpha == photo(2, bands=4)[:3]).all()
    assert (grey == photo(1, bands=1)).all() and len(grey) == 3
    assert palette[:, 0, 0].tolist() == [9, 8, 7] and palette[:, 0, 8].tolist() == [1, 2, 3]
    assert wide[0, 0, 0] == pytest.approx(8, abs=1.5) and wide[0, 0, -1] == pytest.approx(39, abs=1.5)


def test_what_squares_are_cut_from_keeps_its_place() -> None:
    transform = square_transform((100.0, 2.0, 0.0, 50.0, 0.0, -2.0), 30, 40, 10)
    assert transform == (110.0, 6.0, 0.0, 50.0, 0.0, -6.0)
    assert turn((0, 1, 0, 0, 0, -1)) == 0 and turn((0, 0, -1, 0, -1, 0)) == 90
    assert (square(np.ones((2, 30, 40), np.int16), 10) == 1).all()


def test_images_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", ("a", "b"))
    write_image(folder / "b/four.tif", photo(1, bands=5))
    with pytest.raises(InputError, match=r"four\.tif has 5 bands, but most images of the folder have 3"):
        bring_in(folder)
    with pytest.raises(InputError, match=r"only one class: 1"):
        bring_in(class_folders(tmp_path / "single", ("a",)))


def test_rasters_are_no_chips_and_nan_is_no_nodata_value(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", ("a", "b"), "GTiff", "tif")
    for path in folder.glob("*/*.tif"):
        image = gdal.Open(str(path))
        data = image.ReadAsArray().astype(np.float32)
        data[:, 0, 0] = np.nan
        write_image(path, data)
        changed = gdal.Open(str(path), gdal.GA_Update)
        changed.GetRasterBand(1).SetNoDataValue(float("nan"))
    found = bring_in(folder)
    assert found.info.nodata is None and np.isfinite(found.info.mean).all()
    (share,) = {share for _, share in footprints(found, "valid_share")}
    assert share == pytest.approx(1 - 1 / SIZE**2, abs=1e-5)
    write_image(folder / "a/map.tif", np.zeros((1, 8, 20000), np.uint8), options=["SPARSE_OK=YES"])
    with pytest.raises(InputError, match=r"has 20000 × 8 pixels \(160 kB\), too many for a chip"):
        bring_in(folder, overwrite=True)


# --- COCO


def coco(folder: Path, annotations: list[Any], name: str = "annotations/instances_train.json", **changed: Any) -> Path:
    values = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": SIZE, "height": SIZE}],
        "annotations": [{"id": n, "image_id": 7, **row} for n, row in enumerate(annotations, start=1)],
        "categories": [{"id": 1, "name": "lake"}, {"id": 4, "name": "boat"}],
        **changed,
    }
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(values))
    return folder


LAKE = {"category_id": 1, "area": 200, "bbox": [2, 2, 20, 10], "segmentation": [[2, 2, 22, 2, 22, 12, 2, 12]]}
BOAT = {"category_id": 4, "area": 16, "segmentation": [[4, 4, 8, 4, 8, 8, 4, 8], [10, 4, 12, 4, 12, 6, 10, 6]]}


@pytest.mark.parametrize("order", [[LAKE, BOAT], [BOAT, LAKE]])
@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("images/train/a.jpg", "annotations/instances_train.json"),
        ("train/a.jpg", "annotations/instances_train.json"),
        ("images/a.jpg", "annotations.json"),
        ("valid/a.jpg", "valid/_annotations.coco.json"),
        ("train2017/a.jpg", "annotations/instances_train2017.json"),
    ],
)
def test_coco_polygons_are_drawn_the_smaller_on_top(tmp_path: Path, order: Any, image: str, name: str) -> None:
    folder = coco(tmp_path / "coco", order, name)
    write_image(folder / image, photo(0), "JPEG")
    expected = np.zeros((SIZE, SIZE), int)
    expected[2:12, 2:22], expected[4:8, 4:8], expected[4:6, 10:12] = 1, 4, 4
    found = bring_in(folder)
    assert (mask_of(found) == expected).all() and found.info.classes.names == ["lake", "boat"]


def test_coco_categories_that_are_never_used_are_no_classes(tmp_path: Path) -> None:
    # As Roboflow writes them: the first category stands for the project.
    categories = [{"id": 0, "name": "buildings-x1", "supercategory": "none"}, {"id": 1, "name": "building"}]
    folder = coco(tmp_path / "coco", [LAKE], categories=categories)
    write_image(folder / "train/a.jpg", photo(0), "JPEG")
    found = bring_in(folder)
    assert found.info.classes.names == ["background", "building"] and (mask_of(found) != 255).all()


def test_coco_splits_come_from_the_files(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        coco(tmp_path / "coco", [LAKE, BOAT], f"annotations/instances_{split}2017.json")
        write_image(tmp_path / "coco" / f"{split}2017/a.jpg", photo(len(split)), "JPEG")
    assert bring_in(tmp_path / "coco").splits.tolist() == ["test", "training", "validation"]


@pytest.mark.parametrize("packed", [True, False])
def test_coco_run_lengths_go_down_the_columns(tmp_path: Path, packed: bool) -> None:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[3:9, 5:17] = True
    mask[5:7, 8:10] = False
    counts: Any = encode_runs(mask.ravel(order="F"))
    if packed:  # what pycocotools 2.0 makes of the same mask
        counts = PACKED
    shape = {"size": [SIZE, SIZE], "counts": counts}
    corner = {**BOAT, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
    rows = [{"category_id": 1, "iscrowd": 1, "segmentation": shape}, corner]
    folder = coco(tmp_path / "coco", rows)
    write_image(folder / "train/a.jpg", photo(0), "JPEG")
    found = mask_of(bring_in(folder))
    assert ((found == 1) == mask).all() and (found[:2, :2] == 4).all()


PACKED = "k36b00000L@0`00@0`04000000000000U5"


def test_run_lengths_that_do_not_fit_are_damage() -> None:
    for counts in ([5, 5], [-1, 25], "zz", "", "~~~~", [1.5, "x"], ["a"]):
        with pytest.raises((ValueError, TypeError)):
            decode_runs(counts, 4, 6)
    assert decode_runs([0, 24], 4, 6).all()


@pytest.mark.parametrize(
    ("annotations", "changed", "words"),
    [
        ([{"category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": []}], {}, r"boxes without outlines \(detection\)"),
        ([{**LAKE, "category_id": 9}], {}, "category 9, which it does not list"),
        ([{**LAKE, "segmentation": [[1, 2, 3]]}], {}, "a polygon needs three points"),
        ([{**LAKE, "segmentation": {"size": [5, 5], "counts": [25]}}], {}, r"its size is \[5, 5\]"),
        ([{**LAKE, "segmentation": [[1, 1, 2, float("inf"), 3, 3]]}], {}, "a polygon is far outside"),
        ([{**LAKE, "segmentation": "x"}], {}, "neither a list of polygons nor run lengths"),
        ([LAKE], {"images": [{"id": 7, "file_name": "../a.jpg"}]}, "is outside of its folder"),
        ([LAKE], {"images": [{"id": 7}]}, "are damaged"),
        ([LAKE], {"images": [{"id": 7, "file_name": "b.jpg"}]}, "No image can be read"),
        ([LAKE], {"categories": [{"id": "x"}]}, "are damaged"),
    ],
)
def test_coco_that_cannot_be_used_is_refused_in_words(
    tmp_path: Path, annotations: Any, changed: Any, words: str
) -> None:
    folder = coco(tmp_path / "coco", annotations, **changed)
    write_image(folder / "train/a.jpg", photo(0), "JPEG")
    with pytest.raises(InputError, match=words):
        bring_in(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


# --- Pascal VOC


def voc(folder: Path, mask: np.ndarray, colors: Any = (), count: int = 3) -> Path:
    for number in range(count):
        write_image(folder / f"JPEGImages/{number}.jpg", photo(number), "JPEG")
        write_image(folder / f"SegmentationClass/{number}.png", mask.astype(np.uint8), "PNG", colors=colors)
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split, stems in (("train", "0\n"), ("val", "1\n"), ("trainval", "0\n1\n"), ("test", "2\n")):
        (lists / f"{split}.txt").write_text(stems)
    return folder


def test_voc_masks_in_its_own_palette_have_its_names(tmp_path: Path) -> None:
    mask = np.where(STRIPES == 0, 255, STRIPES * 7)
    found = bring_in(voc(tmp_path / "voc", mask, original_palette()))
    rows = [(info.value, info.name, info.color) for info in found.info.classes.classes]
    assert rows == [(7, "car", "#808080"), (14, "motorbike", "#408080")]
    assert (mask_of(found) == STRIPES * 7).all() and found.splits.tolist() == ["training", "validation", "test"]


def test_voc_masks_in_another_palette_are_named_by_the_labelmap(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc", STRIPES, [(0, 0, 0), (200, 0, 0), (0, 0, 200)])
    assert bring_in(folder).info.classes.names == ["class 0", "class 1", "class 2"]
    lines = ("# label:color_rgb:parts:actions", "sea:0,0,200::", "land:200,0,0::", "none:0,0,0::")
    (folder / "labelmap.txt").write_text("\n".join(lines))
    found = bring_in(folder, overwrite=True)
    assert found.info.classes.names == ["none", "land", "sea"]
    assert found.info.classes.colors == ["#000000", "#c80000", "#0000c8"]


def test_voc_masks_of_colours(tmp_path: Path) -> None:
    colors = np.array([(0, 0, 0), (128, 0, 0), (224, 224, 192)], np.uint8)
    folder = voc(tmp_path / "voc", colors[STRIPES].transpose(2, 0, 1))
    found = bring_in(folder)
    assert found.info.classes.names == ["background", "aeroplane"] and found.info.label_nodata == 255
    assert (mask_of(found) == np.array([0, 1, 255])[STRIPES]).all()
    (folder / "labelmap.txt").write_text("void:0,0,0::\n")
    with pytest.raises(InputError, match=r"has the colour 128,0,0, which is not in labelmap\.txt"):
        bring_in(folder, overwrite=True)
    (folder / "labelmap.txt").write_text("void\n")
    with pytest.raises(InputError, match="has no valid colour"):
        bring_in(folder, overwrite=True)


def test_voc_boxes_are_refused_and_classes_of_whole_images_are_not(tmp_path: Path) -> None:
    box = "<bndbox><xmin>{0}</xmin><ymin>{0}</ymin><xmax>24</xmax><ymax>24</ymax></bndbox>"
    text = (
        "<annotation><size><width>24</width><height>24</height></size><object><name>{0}</name>{1}</object></annotation>"
    )
    for first in (1, 9):
        folder = tmp_path / f"voc{first}"
        for number, name in enumerate(("tree", "lawn")):
            write_image(folder / f"JPEGImages/{number}.jpg", photo(number), "JPEG")
            (folder / "Annotations").mkdir(exist_ok=True)
            (folder / f"Annotations/{number}.xml").write_text(text.format(name, box.format(first)))
        (folder / "ImageSets/Main").mkdir(parents=True)
    found = bring_in(tmp_path / "voc1")
    assert found.info.task == "classification" and found.info.classes.names == ["lawn", "tree"]
    assert found.shown.tolist() == [[False, True], [True, False]]
    with pytest.raises(InputError, match="boxes around objects"):
        bring_in(tmp_path / "voc9")


# --- all of them


def test_label_and_image_must_have_one_size(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc", np.zeros((8, 9)), [(0, 0, 0)])
    with pytest.raises(InputError, match="has 9 × 8 pixels, but the image has 24 × 24"):
        bring_in(folder)


def georeferenced(folder: Path, count: int, epsgs: Any = (UTM,), step: float = SIZE / 2) -> Path:
    """A row of chips, `step` metres apart, whose left half is of one class."""
    lines = [f"images\\{number}.tif  labels\\{number}.tif\n" for number in range(count)]
    write_arcgis(folder, "Classified_Tiles", lines)
    for number in range(count):
        where = (place(0)[0] + number * step, *place(0)[1:])
        epsg = epsgs[number % len(epsgs)]
        write_image(folder / f"images/{number}.tif", photo(number), transform=where, epsg=epsg)
        write_image(folder / f"labels/{number}.tif", STRIPES.astype(np.uint8))
    return folder


def test_chips_with_places_are_divided_by_blocks_without_shared_ground(tmp_path: Path) -> None:
    found = bring_in(georeferenced(tmp_path / "arc", 40, step=SIZE / 4))
    assert found.info.split["method"] == "blocks" and min(found.info.chip_counts.values()) > 0
    rows = footprints(found, "split", "col_off")
    for number, (one, split, _) in enumerate(rows):
        for other, other_split, _ in rows[:number]:
            if "none" not in (split, other_split) and split != other_split:
                assert one.Intersection(other).Area() == 0
    assert [row[2] for row in rows] == [number * SIZE // 2 for number in range(40)]


@pytest.mark.parametrize(
    ("epsgs", "step", "words"), [((UTM, 32634), 12, "different CRSs"), ((UTM,), 0, "the same position")]
)
def test_places_that_contradict_each_other_are_made_up(tmp_path: Path, epsgs: Any, step: float, words: str) -> None:
    heard = Heard()
    found = bring_in(georeferenced(tmp_path / "arc", 4, epsgs, step), heard)
    assert found.info.crs == "" and found.info.split["method"] == "random"
    assert any("artificial positions" in text and words in text for text in heard.logs)


def test_what_is_no_folder_of_chips_is_refused_in_words(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "chips")
    with pytest.raises(InputError, match="already a chip dataset of Terrazzo"):
        bring_in(dataset.folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no known chip format\. Terrazzo looked for arcgis: map"):
        bring_in(tmp_path / "empty")
    with pytest.raises(InputError, match="is not a folder of coco, which has a JSON file"):
        bring_in(tmp_path / "empty", folder_format="coco")
    with pytest.raises(InputError, match="does not exist"):
        bring_in(tmp_path / "nowhere")
    class_folders(tmp_path / "stuck", ("images", "labels"))
    with pytest.raises(InputError, match=r"has images and labels, but not map\.txt"):
        bring_in(tmp_path / "stuck")
    folder = class_folders(tmp_path / "photos", ("a", "b"))
    for method in ("areas", "rasters"):
        with pytest.raises(InputError, match=f'SPLIT_METHOD is "{method}". Choose one of blocks, random'):
            bring_in(folder, split_method=method)
    for output in (folder, folder / "chips", tmp_path):
        with pytest.raises(InputError, match="overlap"):
            bring_in(folder, output=str(output), overwrite=True)


def test_a_cancelled_import_leaves_nothing_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugin.engine.events import Stage

    monkeypatch.setattr(Stage, "INTERVAL", 0)
    folder = georeferenced(tmp_path / "arc", 6)
    config = ImportChipsConfig(input=str(folder), output=str(tmp_path / "out"))
    for after in range(0, 18, 3):
        with pytest.raises(Cancelled):
            import_chips(config, Heard(cancel_after=after))
        assert [path.name for path in tmp_path.iterdir()] == ["arc"]
    heard = Heard()
    import_chips(config, heard)
    assert heard.fractions == sorted(heard.fractions) and heard.fractions[-1] == 1


def test_scene_photographs_are_imported_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    config = ImportChipsConfig(input=str(shared_data / "scene_photos"), output=str(tmp_path / "out"))
    import_chips(config, Heard())
    dataset = open_dataset(config.output)
    assert dataset.info.class_chips["training"] == [70] * 7 and len(dataset.images) == 700
    first = next((shared_data / "scene_photos" / "field").glob("*.jpg"))
    assert first.read_bytes() in [path.read_bytes() for path in (dataset.folder / "images").glob("*.jpg")]
