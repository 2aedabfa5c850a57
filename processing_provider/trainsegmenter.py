"""Chip dataset → FCN or U-Net model file."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition, QgsProcessingOutputNumber

from ..plugin.engine.config import TrainSegmenterConfig
from ..plugin.engine.events import Reporter
from .algorithm import WorkerAlgorithm, tr
from .parameters import InputFile, InputFolder, OutputFile, Parameters, Row, Setting


class TrainSegmenter(WorkerAlgorithm):
    """Trains a network that gives each pixel a class."""

    CONFIG = TrainSegmenterConfig
    GROUP = ("training", "Training")

    def name(self) -> str:
        """The id in scripts; it stays."""
        return "trainsegmenter"

    def displayName(self) -> str:
        """The name in the Toolbox."""
        return tr("Train a segmentation network")

    def tags(self) -> list[str]:
        """Words by which it is found."""
        return ["deep learning", "u-net", "fcn", "segmentation", "classification", "cnn", "pytorch", "fit"]

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Trains a fully convolutional network on a chip dataset, so that it gives each pixel of a raster a class. "
            "The epoch that does best on the validation chips is kept in the model file, with all that is needed to "
            "use it.\n"
            "The report shows the curves of loss and accuracy, the confusion matrix and example chips. Its test "
            "figures come from ground that training never saw.\n"
            "Training runs in a process of its own: QGIS can be used meanwhile."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            InputFolder("CHIPS", tr("Chip dataset"), tr("The folder that “Export training chips” wrote.")),
            Setting("ARCHITECTURE", tr("Architecture"), tr(
                "unet: U-Net, sharp edges and good with few chips. fcn: torchvision's FCN, whose encoder keeps a finer "
                "grid; slower. fcn8s: the lecture's FCN, scores at strides 8, 16 and 32 added up; quickest, softer "
                "edges.")),
            Setting("ENCODER", tr("Encoder"), tr(
                "The network beneath that turns pixels into features. resnet18 is a good start; resnet34 and resnet50 "
                "are larger and slower; the mobile ones (mobilenet, efficientnet_lite0) are light.")),
            Setting("EPOCHS", tr("Epochs (empty: automatic)"), tr(
                "How often training goes through all training chips at most. Automatic: 8 to 60, fewer the more chips "
                "there are, for about ten minutes on two cores, or five times as much on a GPU."), optional=True),
            Setting("BATCH_SIZE", tr("Batch size (chips)"), tr(
                "Chips a step. More need more memory, and steady the training.")),
            Setting("LEARNING_RATE", tr("Highest learning rate"), tr(
                "The peak of the one-cycle schedule, which rises to it and then falls to almost nothing.")),
            Setting("PATIENCE", tr("Patience (epochs; 0: never stop early)"), tr(
                "Training ends when so many epochs in a row brought nothing better.")),
            Setting("AUGMENT", tr("Flip and turn chips"), tr(
                "Shows each chip mirrored and in quarter turns as well. Right for images from above.")),
            Setting("RADIOMETRIC_JITTER", tr("Vary brightness and contrast (0 to 1)"), tr(
                "Shows each band of a chip up to this share brighter or darker, and richer or poorer in contrast. For "
                "a network that shall also work on images of another day or sensor."), decimals=2),
            Setting("CLASS_WEIGHTS", tr("Weights of the classes"), tr(
                "How much a rare class counts in the loss. none: as much as it has pixels. balanced: all classes the "
                "same. root: halfway between.")),
            InputFile("ENCODER_WEIGHTS", tr("Pretrained encoder weights"), tr(
                "A .safetensors or .pth file with weights of the encoder, such as ImageNet's. Its first layer is "
                "fitted to the number of bands. Without it the network starts from random weights."),
                optional=True, filter=tr("Weights") + " (*.safetensors *.pth *.pt)"),
            Setting("DOWNLOAD_WEIGHTS", tr("Download pretrained encoder weights"), tr(
                "Fetches ImageNet weights of the encoder from the internet. Nothing is downloaded without this."),
                advanced=True),
            Setting("WEIGHT_DECAY", tr("Weight decay"), tr("AdamW's pull of the weights towards zero."), advanced=True),
            Setting("MIXED_PRECISION", tr("Mixed precision on a GPU"), tr(
                "Calculates in 16 bits where that is safe: faster and with less memory."), advanced=True),
            Setting("DEVICE", tr("Device: auto, cpu, cuda or cuda:n"), tr(
                "Where to calculate. auto takes an NVIDIA GPU where there is one."), advanced=True),
            Setting("SEED", tr("Seed"), tr("The same seed gives the same start and order of chips."), advanced=True),
            OutputFile("OUTPUT", tr("Model file"), tr("The .safetensors file to write."),
                filter=tr("Model files") + " (*.safetensors)"),
            OutputFile("REPORT", tr("Training report"), tr("The HTML page to write."), optional=True,
                filter=tr("HTML files") + " (*.html)"),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """The figures of the best epoch."""
        return [
            QgsProcessingOutputNumber("BEST_EPOCH", tr("Best epoch")),
            QgsProcessingOutputNumber("VALIDATION_OVERALL_ACCURACY", tr("Overall accuracy on validation chips")),
            QgsProcessingOutputNumber("VALIDATION_MEAN_IOU", tr("Mean IoU on validation chips")),
            QgsProcessingOutputNumber("TEST_OVERALL_ACCURACY", tr("Overall accuracy on test chips")),
            QgsProcessingOutputNumber("TEST_MEAN_IOU", tr("Mean IoU on test chips")),
        ]

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, once the folder proves to be a dataset."""
        from ..plugin.engine.chips.dataset import read_info

        settings = super().read(parameters, context)
        read_info(settings["chips"] or "")
        return settings

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Train in the worker."""
        found = self.run_worker(settings, reporter)
        validation, test = found["validation"] or {}, found["test"] or {}
        return {
            "OUTPUT": found["model"],
            "REPORT": found["report"],
            "BEST_EPOCH": found["best_epoch"],
            "VALIDATION_OVERALL_ACCURACY": validation.get("overall_accuracy"),
            "VALIDATION_MEAN_IOU": validation.get("mean_iou"),
            "TEST_OVERALL_ACCURACY": test.get("overall_accuracy"),
            "TEST_MEAN_IOU": test.get("mean_iou"),
        }
