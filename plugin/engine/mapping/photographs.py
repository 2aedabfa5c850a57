"""The part of `classifyscenes` for photographs: a folder of them and a classifier → a table."""

from __future__ import annotations

import time
from itertools import compress
from typing import Any

from ..config import ClassifyScenesConfig
from ..device import choose_device, describe_device, explain_memory
from ..drafts import check_writable
from ..errors import not_none
from ..events import Reporter, Stage
from ..models.model_file import load_classifier
from .answers.answers import Answered, Answers, Tally, known_answers
from .answers.logits import answering
from .answers.outcome import tell_tally, tell_unanswered
from .early_checks import check_answers, check_table
from .outputs.tables import FILE_FIELD, PHOTOGRAPH_LAYER, AnswerTable
from .pipeline.loop import finish, run
from .reading.photograph_chips import PhotographReader, Photographs, chunks
from .reading.photograph_files import photographs_in
from .sources.classifier import predict_chips
from .sources.loading import load_all

ROW_BYTES = 200


class _PhotographTable(AnswerTable):
    """A table with one row per photograph, by name."""

    def write(self, photographs: Photographs, found: Answered) -> None:
        """As `Sink.write`."""
        names = compress(photographs.names, found.known)
        self.add([name, *row] for name, row in zip(names, self.answers.rows(found.shares)))


def classify_photographs(config: ClassifyScenesConfig, reporter: Reporter) -> dict[str, Any]:
    """Give each photograph of a folder its class; returns and raises as `scenes.classify_scenes`."""
    begun = time.monotonic()
    folder = not_none(config.input_folder)
    output = check_table(config)
    models, header = load_all(load_classifier, config.models, reporter)
    check_answers(config, header)
    answers = Answers.of(header, config.threshold)
    paths = photographs_in(folder)
    reader = PhotographReader(folder, header, config.bands)
    check_writable(output, len(paths) * (ROW_BYTES + 10 * len(header.classes)))
    if any((config.output, config.probabilities, config.grid, config.areas, config.regions.polygons)):
        reporter.log("Photographs have no georeference, so neither rasters nor polygons nor areas are written.")
    if config.resume:
        reporter.log("RESUME is for rasters: photographs are classified from the beginning.")
    device = choose_device(config.device, reporter)
    reporter.log(
        f"Classifying {len(paths):,} photographs with {header.architecture} on {describe_device(device)}. "
        f"{known_answers(header, config.threshold)}"
    )
    predict = predict_chips(models, device, config.averaging, config.batch_size)
    stage = Stage(reporter, len(paths), "Classifying")
    doing = f"{config.batch_size} chips of {header.chip_size} × {header.chip_size} pixels"
    with _PhotographTable(output, PHOTOGRAPH_LAYER, answers, [FILE_FIELD]) as table:
        tally = Tally(answers)
        with explain_memory(device, doing, "Halve BATCH_SIZE."):
            run(
                chunks(paths, config.batch_size), reader.read, answering(predict, answers), [tally, table],
                stage,
            )  # fmt: skip
        reader.remarks.tell(reporter)
        tell_unanswered(reporter, "photograph", tally.unanswered, tally.answered)
        if not tally.answered:
            raise reader.remarks.none_left(folder, len(paths))
        finish([table])
    seconds = time.monotonic() - begun
    tell_tally(reporter, "photograph", tally, seconds)
    return {
        "output": None,
        "probabilities": None,
        "grid": None,
        "table": config.table,
        "several": answers.several,
        "classes": [
            {"value": kind.value, "name": kind.name, "pixels": count, "area": None, "hectares": None}
            for kind, count in zip(header.classes.classes, tally.counts.tolist())
        ],
        "area_unit": None,
        **tally.statistics,
        "answered": tally.answered,
        "seconds": seconds,
    }
