"""The job behind `classifyscenes`: raster + classifier → an answer a step; folder of photographs → a table."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from ..chips.features import Area
from ..config import ClassifyScenesConfig
from ..errors import InputError
from ..events import Reporter, Stage
from ..models.model_file import load_classifier
from ..raster_io import crs_text
from ..training.device import choose_device, describe_device, explain_memory
from ..windows import Window
from .answers import Answers, known_answers
from .checks import bands_text, compare_with_training, nodata_values, open_for
from .chip_predictor import ChipPredictor, probabilities
from .early_checks import check_scene_outputs, check_source
from .evaluation import Evaluation, choose_evaluation
from .outcome import class_areas, number_of, tell_answers, tell_unanswered
from .outputs import check_not_input, limit_cache
from .photographs import classify_photographs
from .pipeline import read_ahead, reading_thread
from .segment import output_window
from .step_outputs import StepOutputs, check_space
from .step_reader import StepReader
from .steps import Steps


def classify_scenes(config: ClassifyScenesConfig, reporter: Reporter) -> dict[str, Any]:
    """Give each step over a raster, or each photograph of a folder, its class; memory does not grow with either.

    Returns:
        output, probabilities, grid, table (paths; None where not wanted), several (whether a chip may have several
        classes), classes (for each value, name, pixels = steps or photographs, area), area_unit, answered, seconds.

    Raises:
        InputError: The raster, the folder, the model or a setting cannot be used, or there is nothing to classify.
        ResourceError: An output cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end, or is gone.
    """
    check_source(config)
    if config.input_folder:
        return classify_photographs(config, reporter)
    return _Job(config, reporter).run()


class _Job:
    """One raster on its way through a classifier."""

    def __init__(self, config: ClassifyScenesConfig, reporter: Reporter) -> None:
        self.config, self.reporter = config, reporter
        self.begun = time.monotonic()
        outputs = check_scene_outputs(config)
        self.network, self.header = load_classifier(config.model)
        self.answers = Answers.of(self.header, config.threshold)
        assert config.input is not None
        self.raster = open_for(self.header, config.input, config.input_crs, config.bands, reporter)
        self.info = self.raster.info
        check_not_input(outputs, self.raster, config.model)
        self.steps = Steps(self.header.chip_size, config.stride or self.header.chip_size, self.info.grid)
        self.area = Area(config.area, self.steps.coarse) if config.area else None
        self.window = output_window(self.info, config.extent, self.area)
        self.over = self.steps.over(self.window)

    def run(self) -> dict[str, Any]:
        """Classify all steps."""
        config, header, reporter = self.config, self.header, self.reporter
        check_space(config, self.over, self.answers, reporter)
        compare_with_training(self.raster, self.window, header, reporter)
        device = choose_device(config.device, reporter)
        reporter.log(
            f"Classifying {self.window.width} × {self.window.height} of {self.info.size_text} in "
            f"{crs_text(self.info.crs)} with {header.architecture} on {describe_device(device)}: chips of "
            f"{self.steps.chip_size} pixels every {self.steps.stride}, "
            f"{number_of(self.over.width * self.over.height, 'step')}."
        )
        if self.steps.stride > self.steps.chip_size:
            seen = (self.steps.chip_size / self.steps.stride) ** 2
            reporter.warning(
                f"STRIDE is {self.steps.stride} and chips are {self.steps.chip_size} pixels: {100 * (1 - seen):.0f} % "
                f"of the ground is not looked at. Give {self.steps.chip_size} or less to see all of it."
            )
        reporter.log(known_answers(header, config.threshold))
        stage = Stage(reporter, self.over.width * self.over.height, "Classifying")
        predictor = ChipPredictor(self.network, header, device, config.batch_size, stage.advance)
        side, shared = choose_evaluation(self.network, header, self.steps.stride, self.over, reporter)
        limit_cache(self.raster, self.steps.chips(Window(0, 0, side, side)).height)
        evaluation = Evaluation(predictor, self.steps, shared)
        mirrored = config.edges == "mirror"
        nodata = nodata_values(self.info, header)
        reader = StepReader(self.raster, nodata, self.steps, self.area, mirrored, config.min_valid_share)
        doing = f"{config.batch_size} chips of {header.chip_size} × {header.chip_size} pixels in "
        doing += bands_text(len(header.band_names))
        with ExitStack() as stack:
            target = StepOutputs(config, self.steps.described(self.info), self.over, self.answers, side, stack)
            with explain_memory(device, doing, "Halve BATCH_SIZE."), reading_thread() as thread:
                for block in read_ahead(thread, reader.read, self.steps.blocks(self.over, side)):
                    if block.wanted.any():
                        logits = evaluation.logits(block)
                        target.write(block, probabilities(logits, self.answers.several))
                    stage.advance(int((~block.wanted).sum()))
            tell_unanswered(reporter, "step", target.unanswered, target.answered)
            if not target.answered:
                raise self._nothing()
            target.publish()
        seconds = time.monotonic() - self.begun
        described = self.steps.described(self.info)
        tell_answers(reporter, "step", target.answered, seconds, self.answers, target.counts, described)
        return {
            "output": config.output,
            "probabilities": config.probabilities,
            "grid": config.grid,
            "table": None,
            "several": self.answers.several,
            **class_areas(described, header.classes, target.counts),
            "answered": target.answered,
            "seconds": seconds,
        }

    def _nothing(self) -> InputError:
        reasons = ["its pixels are nodata or masked", "lie outside of the area"] if self.area else ["it has no data"]
        if self.config.edges != "mirror":
            reasons.append("chips reach out of it")
        if self.steps.stride > self.steps.chip_size:
            reasons.append(f"at STRIDE {self.steps.stride} no chip lies on it")
        return InputError(
            f"No step over {self.config.input} gets an answer: of {self.over.width} × {self.over.height} steps all are "
            f"left out ({' or '.join(reasons)}).",
            "Choose another raster, extent or area; give a smaller MIN_VALID_SHARE or EDGES=mirror.",
        )
