"""The description of a dataset before its first chip is written."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Optional

from ..config import ExportChipsConfig
from .cutting import Cutter
from .dataset import DatasetInfo
from .plan import Plan


def outline_of(
    config: ExportChipsConfig, plan: Plan, cutter: Cutter, earlier: Optional[DatasetInfo] = None
) -> DatasetInfo:
    """Describe the dataset that an export creates or extends; counts and statistics of chips are still empty."""
    first = plan.rasters[0]
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    sources = _sources(config, plan)
    if earlier is not None:
        clusters = 1 + max((source.get("cluster", place) for place, source in enumerate(earlier.sources)), default=-1)
        added = tuple({**source, "cluster": source["cluster"] + clusters} for source in sources)
        return dataclasses.replace(
            earlier, sources=(*earlier.sources, *added), created=created, format_version=DatasetInfo.format_version
        )
    return DatasetInfo(
        task=config.task,
        band_names=first.band_names,
        bands=first.bands,
        dtype=cutter.dtype.name,
        nodata=cutter.nodata,
        chip_size=plan.chip_size,
        stride=plan.stride,
        crs=first.crs,
        pixel_size=first.pixel_size,
        classes=cutter.scheme.classes,
        label_nodata=cutter.scheme.nodata,
        sources=sources,
        split={"block_size": plan.block_size},
        mean=(),
        std=(),
        minimum=(),
        maximum=(),
        chip_counts={},
        pixel_counts={},
        placement=_placement(config),
        scales=first.scales,
        created=created,
    )


def _sources(config: ExportChipsConfig, plan: Plan) -> tuple[dict[str, Any], ...]:
    labels = config.label_rasters or ("features" if config.labels else "",)
    return tuple(
        {"raster": info.path, "labels": labels[place % len(labels)], "cluster": plan.cluster_of(place)}
        for place, info in enumerate(plan.rasters)
    )


def _placement(config: ExportChipsConfig) -> dict[str, Any]:
    """The settings of the placement that its method uses."""
    names = {
        "grid": ("edges",),
        "random": ("random_chips", "min_distance", "seed"),
        "features": ("chips_per_feature", "position_jitter", "blacken", "edges", "seed"),
        "bounding_boxes": ("blacken", "edges"),
    }[config.placement]
    settings = {name: getattr(config, name) for name in (*names, "rotations")}
    return {"method": config.placement, **settings}
