"""The settings of every job.

A setting is declared here once, or in a group of the room `recipe`. The Processing parameter of the same name in upper
case takes its default, range and choices from here, and the worker receives it as JSON.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import baseline_path, checkpoint_path, raster_names, with_name
from .mapping.settings import (
    MAP_GRIDS,
    AveragingSettings,
    ClassSettings,
    FormSettings,
    MeasureSettings,
    PolygonSettings,
    RasterSettings,
    RefiningSettings,
    SegmentationAveragingSettings,
    SureSettings,
)
from .models.architectures import ARCHITECTURES
from .models.classifiers import CLASSIFIERS
from .models.decoder_settings import DecoderSettings
from .models.encoders import ENCODERS, name_of
from .models.layer_choices import ACTIVATIONS
from .models.pretrained import PRETRAINED
from .recipe.augmentation import AugmentationSettings
from .recipe.fine_tuning import FineTuningSettings
from .recipe.loss import LossSettings
from .recipe.optimizer import OptimizerSettings
from .recipe.sampling import SamplingSettings
from .recipe.schedule import ScheduleSettings
from .recipe.stopping import StoppingSettings
from .recipe.unlabelled import UnlabelledSettings
from .settings import Declared, Settings, group, setting, written
from .tasks import SEGMENTER_TASKS, TASKS

EDGES = ("shift", "pad")
BACKGROUNDS = ("auto", "ignore", "class")
COMBINATIONS = ("separate", "mosaic", "stack")
MAP_COMBINATIONS = ("mosaic", "separate")
PLACEMENTS = ("grid", "features", "bounding_boxes", "random")
OVERLAP_RULES = ("order", "field", "smaller")
IMPORT_SPLITS = ("blocks", "random")
SPLIT_METHODS = ("blocks", "areas", "rasters", "random")
CHIP_FORMATS = ("GTiff", "PNG", "JPEG")
COMPRESSIONS = ("none", "deflate", "lzw", "zstd")
CHIP_FOLDERS = ("arcgis", "imagenet", "coco", "voc")
SCENE_EDGES = ("mirror", "leave_out")
FEATURE_PLACEMENTS = ("auto", "features", "bounding_boxes")
SURROUNDINGS = ("auto", "keep", "blacken")
ACTIVATION_KINDS = ("class_activation", "feature_maps", "filters")
WEB_SERVICES = ("xyz", "wms", "wmts")
# Tiles that a job may fetch unless the user allows more.
MAX_TILES = 2000
# Days for which they are kept: as long as the rules of OpenStreetMap's server ask for, and most others allow.
KEEP_TILES = 7


class JobConfig(Settings):
    """The settings of a job."""

    @classmethod
    def unfinished(cls, values: dict[str, Any]) -> list[Path]:
        """The files beside the results, from which a job with these settings, as JSON, is resumed."""
        return []


class ExportChipsConfig(JobConfig):
    """Layers → chip dataset. Sizes and strides in pixels of the chips, paths absolute."""

    input: tuple[str, ...]
    output: str = written()
    task: str = setting("segmentation", choices=TASKS)
    # separate: each raster gives chips of its own. mosaic: all are one raster, a later one on top.
    # stack: the bands of all, on the pixels of the first.
    combine: str = setting("separate", choices=COMBINATIONS)
    pixel_size: float | None = setting(None, low=1e-12)  # of the chips, in CRS units; None = the first raster's
    # The CRS, as WKT, of each raster of `input` to which the user gave another than its file has; "" = the file's.
    input_crs: tuple[str, ...] = ()
    # The value in the rasters of `input` that means "no data"; None takes the rasters' own nodata.
    nodata: float | None = setting(None)
    # Features in the CRS of the first raster: a GeoPackage, see chips/labels.py.
    labels: str | None = None
    # One label raster for each raster of `input`, in the same order, or one for all.
    label_rasters: tuple[str, ...] = ()
    label_crs: tuple[str, ...] = ()  # as `input_crs`
    # (value, name, colour) of the classes, as far as the user's layers name them.
    classes: tuple[Any, ...] = ()
    # (value in the label rasters, class value or None to drop it); values that are not listed stay as they are.
    class_map: tuple[Any, ...] = ()
    # The value in the label rasters that means "no label"; None takes the rasters' own nodata.
    label_nodata: float | None = setting(None)
    background: str = setting("auto", choices=BACKGROUNDS)
    # Where features overlap: the later one, the one with the higher `priority`, or the smaller one wins.
    overlap_rule: str = setting("order", choices=OVERLAP_RULES)
    all_touched: bool = False  # label every pixel that a feature touches, not only those whose centre it covers
    bands: tuple[int, ...] = ()  # from 1; empty = all but alpha
    chip_size: int | None = setting(None, low=8, high=8192)  # None = automatic, see chips/chip_size.py
    stride: int | None = setting(None, low=1, high=8192)  # None = chip size
    placement: str = setting("grid", choices=PLACEMENTS)
    chips_per_feature: int = setting(1, low=1, high=10000)  # placement features
    position_jitter: int = setting(0, low=0, high=8192)  # pixels from the feature's centre at most, each way
    random_chips: int = setting(1000, low=1, high=100_000_000)  # placement random: how many places to try
    min_distance: int | None = setting(None, low=0, high=100_000)  # between centres, pixels; None = half a chip
    rotations: tuple[float, ...] = ()  # degrees clockwise; empty = 0 only
    blacken: bool = False  # ground outside of the chip's own feature is made nodata
    extent: tuple[float, ...] | None = None  # bounds in the CRS of the first raster
    area: str | None = None  # polygons, a GeoPackage in the CRS of the first raster
    min_labelled_share: float = setting(0.0, low=0, high=1)
    min_class_share: float = setting(0.0, low=0, high=1)  # of a chip's pixels; classification and multilabel
    min_feature_share: float = setting(0.0, low=0, high=1)  # of a feature, inside the chip
    background_share: float = setting(1.0, low=0, high=1)  # of the chips that show background only
    edges: str = setting("shift", choices=EDGES)
    split_method: str = setting("blocks", choices=SPLIT_METHODS)
    block_size: int | None = setting(None, low=8)  # None = automatic
    split_areas: str | None = None  # polygons, a GeoPackage in the CRS of the first raster, see chips/labels.py
    split_names: tuple[Any, ...] = ()  # (value, name) of the areas
    validation_share: float = setting(0.15, low=0, high=0.9)
    test_share: float = setting(0.15, low=0, high=0.9)
    folds: int | None = setting(None, low=2, high=100)  # training and validation in k folds instead
    seed: int = setting(0, low=0, high=2**31 - 1)
    chip_format: str = setting("GTiff", choices=CHIP_FORMATS)
    compression: str = setting("none", choices=COMPRESSIONS)  # of GeoTIFF images
    overwrite: bool = False
    append: bool = False  # to the dataset that is there
    resume: bool = False  # continue an export that was interrupted


class SplitChipsConfig(JobConfig):
    """Chip dataset → the same with other splits; no chip is cut anew."""

    chips: str
    split_method: str = setting("blocks", choices=SPLIT_METHODS)
    block_size: int | None = setting(None, low=8)  # None = the blocks of the export
    split_areas: str | None = None
    split_names: tuple[Any, ...] = ()
    validation_share: float = setting(0.15, low=0, high=0.9)
    test_share: float = setting(0.15, low=0, high=0.9)
    folds: int | None = setting(None, low=2, high=100)
    seed: int = setting(0, low=0, high=2**31 - 1)


class ConvertChipsConfig(JobConfig):
    """Chip dataset → a folder as other programs have it."""

    chips: str
    output: str = written()
    folder_format: str = setting("arcgis", choices=CHIP_FOLDERS)
    overwrite: bool = False


class ImportChipsConfig(JobConfig):
    """A folder of chips from another program → chip dataset."""

    input: str
    output: str = written()
    folder_format: str = setting("auto", choices=("auto", *CHIP_FOLDERS))
    split_method: str = setting("blocks", choices=IMPORT_SPLITS)
    validation_share: float = setting(0.15, low=0, high=0.9)
    test_share: float = setting(0.15, low=0, high=0.9)
    folds: int | None = setting(None, low=2, high=100)
    seed: int = setting(0, low=0, high=2**31 - 1)
    overwrite: bool = False


class InspectChipsConfig(JobConfig):
    """Chip dataset → HTML report, and a layer of the chips to look at."""

    chips: str
    report: str = written()
    suspects: str | None = written(None)  # a vector file, see assessment/suspects_file.py
    max_chips: int | None = setting(None, low=1)  # to read; None = all
    # Draws the chips to read, those to show, and the pixels of histograms.
    seed: int = setting(0, low=0, high=2**31 - 1)


class TrainingConfig(JobConfig):
    """What all trainings share: chip dataset → model file."""

    chips: str
    output: str = written()
    report: str | None = written(None)
    history: str | None = written(None)  # a CSV file with a row an epoch
    tensorboard: str | None = None  # a folder of event files
    fold: int | None = setting(None, low=1, high=100)  # that validates, while the others train; None = the splits
    unlabelled_chips: str | None = None  # another dataset, whose labels, if it has any, are not used
    recipe: str | None = None  # a model file or JSON file whose settings hold where these have their defaults
    pretrained: str = setting("auto", choices=PRETRAINED)  # weights by name, see models/pretrained.py
    encoder_weights: str | None = None  # a .safetensors or .pth file instead
    start_from: str | None = None  # a model file instead, of which all that fits is taken, see models/starting.py
    download_weights: bool = False  # weights that are not here may be downloaded, only at the user's word
    loss: LossSettings = group(LossSettings)
    optimizer: OptimizerSettings = group(OptimizerSettings)
    schedule: ScheduleSettings = group(ScheduleSettings)
    stopping: StoppingSettings = group(StoppingSettings)
    augmentation: AugmentationSettings = group(AugmentationSettings)
    sampling: SamplingSettings = group(SamplingSettings)
    fine_tuning: FineTuningSettings = group(FineTuningSettings)
    unlabelled: UnlabelledSettings = group(UnlabelledSettings)
    batch_size: int = setting(8, low=1, high=4096)
    calibrate: bool = True  # fit a temperature to the validation chips at the end, see training/calibration.py
    mixed_precision: bool = True  # on a GPU, and on a processor with bfloat16 where that is faster
    compile: bool = False  # with torch.compile
    deterministic: bool = False  # the same bits each time, also on a GPU, see training/determinism.py
    device: str = "auto"  # auto, cpu, cuda, cuda:n
    cache_folder: str | None = None  # of decoded chips that do not fit into memory; None = the user's folder for such
    seed: int = setting(0, low=0, high=2**31 - 1)
    resume: bool = False  # from the checkpoint of a training that was interrupted
    checkpoint_minutes: float = setting(10.0, low=0.1, high=10000)  # between two checkpoints inside of an epoch

    @classmethod
    def unfinished(cls, values: dict[str, Any]) -> list[Path]:
        """The checkpoints of the training and of its baseline."""
        path = values["output"]
        return [checkpoint_path(path), *([checkpoint_path(str(baseline_path(path)))] if values.get("baseline") else [])]

    @property
    def step_size(self) -> int:
        """Chips a step."""
        return self.batch_size * self.optimizer.accumulation

    @property
    def unlabelled_ratio(self) -> int:
        """Unlabelled chips beside each labelled one; 0 without such chips."""
        return self.unlabelled.unlabelled_ratio if self.unlabelled_chips else 0


class TrainSegmenterConfig(TrainingConfig):
    """Chip dataset with masks → model file of a segmentation network."""

    architecture: str = setting("unet", choices=ARCHITECTURES)
    encoder: str = setting("efficientnet_lite0", choices=ENCODERS)
    fine_tuning: FineTuningSettings = group(FineTuningSettings, freeze="none", encoder_rate=1.0)
    timm_encoder: str = ""  # another encoder, by timm's name
    decoder: DecoderSettings = group(DecoderSettings)

    @property
    def encoder_name(self) -> str:
        """The encoder as a header names it."""
        return name_of(self.encoder, self.timm_encoder)


class TrainClassifierConfig(TrainingConfig):
    """Chip dataset with a class, or several, for each chip → CNN model file."""

    architecture: str = setting("efficientnet_lite0", choices=CLASSIFIERS)
    # The shape of the teaching networks, see models/classifier_arguments.py; None = the network's own default.
    filters: tuple[int, ...] | None = None
    hidden_sizes: tuple[int, ...] | None = None
    kernel_size: int | None = setting(None, low=1, high=15)
    stride: int | None = setting(None, low=1, high=8)
    padding: int | None = setting(None, low=0, high=14)
    activation: str | None = setting(None, choices=ACTIVATIONS)
    dropout: float | None = setting(None, low=0, high=0.95)
    block_dropout: float | None = setting(None, low=0, high=0.95)
    batch_size: int = setting(16, low=1, high=4096)
    loss: LossSettings = group(LossSettings, label_smoothing=0.1)
    # With this label smoothing, a network that is right is hardly more than 0.9 sure.
    unlabelled: UnlabelledSettings = group(UnlabelledSettings, pseudo_label_confidence=0.8)
    # The probability from which a class counts: of several a chip, or the second of two. None = 0.5, or the likeliest.
    threshold: float | None = setting(None, low=0, high=1)


class FindLearningRateConfig(JobConfig):
    """Chip dataset, and settings of a training → the learning rates that suit it.

    Beside its own settings it has those of both trainings that make a difference to a step. None, also where the
    default of the two is not the same, stands for the default of the training that fits the chips.
    """

    chips: str
    report: str | None = written(None)
    test_steps: int = setting(100, low=30, high=10000)
    first_rate: float = setting(1e-7, low=1e-8, high=10)
    last_rate: float = setting(10.0, low=1e-8, high=10)
    given: tuple[Any, ...] = ()  # (name, value) of the settings of a training

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_rate >= self.last_rate:
            raise InputError(
                f"FIRST_RATE is {self.first_rate:g}, and LAST_RATE is {self.last_rate:g}.",
                "Give a first rate below the last one.",
            )

    @classmethod
    @cache
    def declared(cls) -> dict[str, Declared]:
        """All settings by name: its own, and those of the trainings."""
        found = {name: said for name, said in super().declared().items() if name != "given"}
        for kind in (TrainSegmenterConfig, TrainClassifierConfig):
            for name, said in kind.declared().items():
                if name not in NO_MATTER and not said.written:
                    found[name] = said.joined(found[name]) if name in found else said
        return found

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FindLearningRateConfig:
        """Build settings from parsed JSON; raises as of any job."""
        own = {spec.name for spec in dataclasses.fields(cls)}
        given = {name: value for name, value in values.items() if name in cls.declared() and name not in own}
        rest = {name: value for name, value in values.items() if name not in given}
        config = super().from_json(rest)
        return dataclasses.replace(config, given=tuple(given.items()))

    def to_json(self) -> dict[str, Any]:
        """The settings by name as a dictionary that `json.dumps` takes."""
        found = super().to_json()
        given = dict(found.pop("given"))
        return {**found, **given}

    def training(self, task: str) -> TrainingConfig:
        """The settings of a training that writes nothing, for chips of a task.

        Raises:
            InputError: One has a bad value, or is of the other training.
        """
        kind: type[TrainingConfig] = TrainSegmenterConfig if task in SEGMENTER_TASKS else TrainClassifierConfig
        known, values = kind.declared(), {}
        for name, value in self.given:
            if isinstance(value, list):
                value = tuple(value)
            if value is None or value == self.declared()[name].default:
                continue
            if name not in known:
                raise InputError(f"{name.upper()} is given, and has no meaning for {task}.", "Leave it as it was.")
            values[name] = value
        return kind.from_json({**values, "chips": self.chips, "output": ""})


# Settings of trainings that make no difference to a single step at a given rate.
NO_MATTER = {
    "chips", "learning_rate", "ema_decay", "freeze_epochs", "threshold", "calibrate", "resume", "checkpoint_minutes",
    "cache_folder", "tensorboard", "deterministic", *ScheduleSettings.declared(), *StoppingSettings.declared(),
    "unlabelled_chips", *UnlabelledSettings.declared(),
}  # fmt: skip


class MappingConfig(JobConfig):
    """The settings of a job that uses a model."""

    model: str

    @property
    def models(self) -> tuple[str, ...]:
        """All model files of the job; the first one names the classes."""
        more: tuple[str, ...] = getattr(self, "averaging", AveragingSettings()).ensemble
        return (self.model, *more)


class SegmentRasterConfig(MappingConfig):
    """Raster + model file → class raster, and class probabilities where wanted."""

    input: str
    output: str = written()
    probabilities: str | None = written(None)
    measures: MeasureSettings = group(MeasureSettings)
    rasters: RasterSettings = group(RasterSettings)
    refining: ClassSettings = group(ClassSettings)
    regions: PolygonSettings = group(PolygonSettings)
    areas: str | None = written(None)  # a table with a row per class: .csv, .gpkg or .geojson
    input_crs: str = ""  # the raster's, as WKT, where the user gave it another than its file has
    more_images: tuple[str, ...] = ()  # further rasters, their CRSs as `input_crs`
    more_crs: tuple[str, ...] = ()
    # mosaic: all are one raster, on the pixels of `input`, later ones on top. separate: each gets maps of its own,
    # with its name appended to the names of the results.
    combine: str = setting("mosaic", choices=MAP_COMBINATIONS)
    bands: tuple[int, ...] = ()  # the raster's band for each band of the model, from 1; empty = by name, else in order
    pixel_size: float | None = setting(None, low=0)  # to map at, in CRS units; 0 = the model's, None = the raster's
    map_grid: str = setting("read", choices=MAP_GRIDS)  # whose pixels the map has
    extent: tuple[float, ...] | None = None  # bounds in the raster's CRS
    area: str | None = None  # polygons, a GeoPackage in the raster's CRS
    # What the project calls the classes is in the model; nothing here changes it.
    tile_size: int | None = setting(None, low=32, high=16384)  # None = as the memory allows
    # None = measured, so that the edges of tiles change practically nothing, see models/reach.py.
    halo: int | None = setting(None, low=0, high=2048)
    averaging: SegmentationAveragingSettings = group(SegmentationAveragingSettings)
    batch_size: int = setting(1, low=1, high=4096)
    mixed_precision: bool = True  # 16 bits on a GPU, and on a processor with bfloat16, where the map stays the same
    device: str = "auto"
    resume: bool = False  # from what an interrupted job has kept, see mapping/pipeline/keeping.py

    @property
    def more(self) -> list[tuple[str, str]]:
        """Each of `more_images` with its CRS."""
        return list(zip(self.more_images, self.more_crs or ("",) * len(self.more_images)))

    @classmethod
    def results(cls, values: dict[str, Any]) -> list[str]:
        """The files that a job with these settings writes."""
        found = super().results(values)
        if values.get("combine") != "separate":
            return found
        names = raster_names([values["input"], *values.get("more_images", ())])
        return [with_name(path, name) for path in found for name in names]


class ClassifyScenesConfig(MappingConfig):
    """Raster, or folder of photographs, + model file of a classifier → one answer a step, or a photograph."""

    input: str | None = None  # a raster
    input_folder: str | None = None  # photographs, also in folders in it
    output: str | None = written(None)  # class raster, a pixel a step
    probabilities: str | None = written(None)  # raster of the same pixels
    measures: SureSettings = group(SureSettings)
    rasters: RasterSettings = group(RasterSettings)
    refining: RefiningSettings = group(RefiningSettings)  # of the class raster, as all that follows from it
    regions: PolygonSettings = group(PolygonSettings)
    areas: str | None = written(None)  # as in SegmentRasterConfig
    grid: str | None = written(None)  # polygons, one a step: .gpkg, .geojson or .csv
    table: str | None = written(None)  # a row a photograph, the same kinds of files
    stride: int | None = setting(None, low=1, high=8192)  # pixels from chip to chip; None = the model's chip size
    edges: str = setting("mirror", choices=SCENE_EDGES)  # chips that reach out of the raster
    # Of the ground that a step stands for, so much must have data.
    min_valid_share: float = setting(0.5, low=0, high=1)
    # Several labels a chip: from which probability a class counts. One of two classes: from which the second one
    # does. One of more: below which the chip gets none. None = what the model says.
    threshold: float | None = setting(None, low=0, high=1)
    input_crs: str = ""  # as in SegmentRasterConfig
    bands: tuple[int, ...] = ()  # the same
    pixel_size: float | None = setting(None, low=0)  # the same
    extent: tuple[float, ...] | None = None
    area: str | None = None
    averaging: AveragingSettings = group(AveragingSettings)
    batch_size: int = setting(32, low=1, high=4096)  # chips
    device: str = "auto"
    resume: bool = False  # as in SegmentRasterConfig, of a raster


class ClassifyFeaturesConfig(MappingConfig):
    """Raster + features + model file of a classifier → an answer a feature, in a table by the features' ids."""

    input: str
    features: str  # a GeoPackage in the raster's CRS: layer `features`
    output: str = written()  # .gpkg: layer `answers`, whose ids are the features'
    placement: str = setting("auto", choices=FEATURE_PLACEMENTS)  # auto = as the model's chips were laid out
    surroundings: str = setting("auto", choices=SURROUNDINGS)
    input_crs: str = ""
    bands: tuple[int, ...] = ()
    pixel_size: float | None = setting(None, low=0)
    threshold: float | None = setting(None, low=0, high=1)
    averaging: AveragingSettings = group(AveragingSettings)
    batch_size: int = setting(32, low=1, high=4096)
    device: str = "auto"


class ActivationMapsConfig(MappingConfig):
    """Raster, or folder of photographs, + model file → what the network looks at, and what it looks for."""

    input: str | None = None
    input_folder: str | None = None
    output: str | None = written(None)  # raster of feature maps or of class activation
    rasters: FormSettings = group(FormSettings)
    picture: str | None = written(None)  # .png of the first filters
    pictures: str | None = written(None)  # folder of overlays, one a photograph
    kind: str = setting("class_activation", choices=ACTIVATION_KINDS)
    layer: str = ""  # by its name; "" = the last of the features
    target_class: str = ""  # value or name; "" = the likeliest of each photograph
    channels: int = setting(16, low=1, high=4096)  # of feature maps, the first ones
    stride: int | None = setting(None, low=1, high=8192)  # of the chips; None = half a chip
    input_crs: str = ""
    bands: tuple[int, ...] = ()
    pixel_size: float | None = setting(None, low=0)
    extent: tuple[float, ...] | None = None
    area: str | None = None
    tile_size: int = setting(512, low=32, high=16384)
    halo: int = setting(192, low=0, high=2048)
    batch_size: int = setting(16, low=1, high=4096)
    device: str = "auto"
    resume: bool = False  # as in SegmentRasterConfig, of a raster


class WebLayer(Settings):
    """Where the tiles of a layer are, and in which pixel sizes."""

    title: str = ""
    service: str = setting("xyz", choices=WEB_SERVICES)
    url: str = ""  # xyz: with {x}, {y} or {-y}, {z}, or {q}; wms: of GetMap; wmts: of the capabilities
    crs_code: str = "EPSG:3857"
    crs_wkt: str = ""  # the same as WKT
    resolutions: tuple[float, ...] = ()  # pixel sizes that the server has, in units of the CRS; empty = any
    tile_side: int = setting(256, low=64, high=4096)  # pixels
    layers: str = ""  # wms: separated by commas
    styles: str = ""
    image_format: str = "image/png"
    matrix_set: str = ""  # wmts
    referer: str = ""  # header of the requests
    headers: tuple[str, ...] = ()  # further ones, each "name: value"


class FetchTilesConfig(JobConfig):
    """A part of a web layer → GeoTIFF."""

    output: str = written()
    layer: WebLayer = group(WebLayer)
    fetched_size: float = setting(1.0, low=1e-12)  # pixel size in units of the layer's CRS, one of its `resolutions`
    extent: tuple[float, ...] = ()  # bounds in its CRS
    max_tiles: int = setting(MAX_TILES, low=1, high=10_000_000)
    near: str | None = None  # GeoPackage of the places that are wanted, in any CRS; None for the whole extent
    near_layer: str = ""
    margin: float = setting(0.0, low=0.0)  # how far around them pixels are wanted, in units of the layer's CRS
    tile_cache: str | None = None  # folder in which tiles are kept for later jobs
    keep_tiles: float = setting(0.0, low=0.0)  # for how many days
    agent: str = "Terrazzo"  # header of the requests


class StatusConfig(JobConfig):
    """What the worker's Python offers."""
