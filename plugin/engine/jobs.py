"""The jobs a worker knows, by the id of their algorithm. Each checks its settings first and imports torch last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .config import (
    ActivationMapsConfig,
    ClassifyFeaturesConfig,
    ClassifyScenesConfig,
    InspectChipsConfig,
    SegmentRasterConfig,
    StatusConfig,
    TrainClassifierConfig,
    TrainSegmenterConfig,
)
from .events import Reporter


def _inspect_chips(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = InspectChipsConfig.from_json(settings)
    from .assessment.inspection import inspect_chips

    return inspect_chips(config, reporter)


def _train_classifier(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = TrainClassifierConfig.from_json(settings)
    from .training.train_classifier import train_classifier

    return train_classifier(config, reporter)


def _train_segmenter(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = TrainSegmenterConfig.from_json(settings)
    from .training.train_segmenter import train_segmenter

    return train_segmenter(config, reporter)


def _segment_raster(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = SegmentRasterConfig.from_json(settings)
    from .mapping.segment import segment_raster

    return segment_raster(config, reporter)


def _classify_scenes(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = ClassifyScenesConfig.from_json(settings)
    from .mapping.scenes import classify_scenes

    return classify_scenes(config, reporter)


def _classify_features(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = ClassifyFeaturesConfig.from_json(settings)
    from .mapping.features import classify_features

    return classify_features(config, reporter)


def _activation_maps(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = ActivationMapsConfig.from_json(settings)
    from .mapping.activation import activation_maps

    return activation_maps(config, reporter)


def _status(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = StatusConfig.from_json(settings)
    from .status import report_status

    return report_status(config, reporter)


JOBS: dict[str, Callable[[dict[str, Any], Reporter], dict[str, Any]]] = {
    "inspectchips": _inspect_chips,
    "trainclassifier": _train_classifier,
    "trainsegmenter": _train_segmenter,
    "segmentraster": _segment_raster,
    "classifyscenes": _classify_scenes,
    "classifyfeatures": _classify_features,
    "activationmaps": _activation_maps,
    "status": _status,
}
