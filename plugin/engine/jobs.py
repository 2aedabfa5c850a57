"""The jobs a worker knows, by the id of their algorithm. Each checks its settings first and imports torch last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .config import InspectChipsConfig, SegmentRasterConfig, StatusConfig, TrainSegmenterConfig
from .events import Reporter


def _inspect_chips(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = InspectChipsConfig.from_json(settings)
    from .assessment.inspection import inspect_chips

    return inspect_chips(config, reporter)


def _train_segmenter(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = TrainSegmenterConfig.from_json(settings)
    from .training.train import train_segmenter

    return train_segmenter(config, reporter)


def _segment_raster(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = SegmentRasterConfig.from_json(settings)
    from .mapping.segment import segment_raster

    return segment_raster(config, reporter)


def _status(settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    config = StatusConfig.from_json(settings)
    from .status import report_status

    return report_status(config, reporter)


JOBS: dict[str, Callable[[dict[str, Any], Reporter], dict[str, Any]]] = {
    "inspectchips": _inspect_chips,
    "trainsegmenter": _train_segmenter,
    "segmentraster": _segment_raster,
    "status": _status,
}
