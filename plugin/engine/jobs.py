"""The jobs of the worker, by the id of their algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .config import (
    ActivationMapsConfig,
    ClassifyFeaturesConfig,
    ClassifyScenesConfig,
    ConvertChipsConfig,
    FetchTilesConfig,
    FindLearningRateConfig,
    ImportChipsConfig,
    InspectChipsConfig,
    JobConfig,
    SegmentRasterConfig,
    StatusConfig,
    TrainClassifierConfig,
    TrainSegmenterConfig,
)
from .events import Reporter


@dataclass(frozen=True)
class Job:
    """A job: its settings class, and the function that runs it."""

    config: type[JobConfig]
    module: str  # imported after the settings are checked, since it may import torch
    function: str
    ranks: bool = False  # whether several processes can do it together, see `ranks.py`

    def __call__(self, settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
        """Check the settings and run the job; returns and raises what the function does."""
        config = self.config.from_json(settings)
        module = import_module(f".{self.module}", __package__)
        found: dict[str, Any] = getattr(module, self.function)(config, reporter)
        return found


JOBS = {
    "importchips": Job(ImportChipsConfig, "chips.formats.importing", "import_chips"),
    "convertchips": Job(ConvertChipsConfig, "chips.formats.convert", "convert_chips"),
    "inspectchips": Job(InspectChipsConfig, "inspection.inspect_chips", "inspect_chips"),
    "trainsegmenter": Job(TrainSegmenterConfig, "training.train_segmenter", "train_segmenter", ranks=True),
    "trainclassifier": Job(TrainClassifierConfig, "training.train_classifier", "train_classifier", ranks=True),
    "findlearningrate": Job(FindLearningRateConfig, "training.find_learning_rate", "find_learning_rate"),
    "segmentraster": Job(SegmentRasterConfig, "mapping.segment", "segment_raster", ranks=True),
    "classifyscenes": Job(ClassifyScenesConfig, "mapping.scenes", "classify_scenes", ranks=True),
    "classifyfeatures": Job(ClassifyFeaturesConfig, "mapping.features", "classify_features"),
    "activationmaps": Job(ActivationMapsConfig, "mapping.activation_maps", "activation_maps"),
    "fetchtiles": Job(FetchTilesConfig, "rasters.fetch_tiles", "fetch_tiles"),  # part of other algorithms
    "status": Job(StatusConfig, "status", "report_status"),
}
