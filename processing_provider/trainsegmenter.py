"""Train a segmentation network: chip dataset → model file."""

from __future__ import annotations

from ..plugin.engine.config import TrainSegmenterConfig
from ..plugin.translation import tr
from .earlier_results import chips_row
from .parameters import Row, Setting
from .training import (
    augmentation_rows,
    daily_rows,
    fine_tuning_rows,
    machine_rows,
    result_rows,
    run_rows,
    weights_rows,
)
from .training_algorithm import TrainingAlgorithm


class TrainSegmenter(TrainingAlgorithm):
    """Trains a network that gives each pixel a class."""

    ID = "trainsegmenter"
    NAME = "Train a segmentation network"
    TAGS = ("deep learning", "u-net", "fcn", "segmentation", "classification", "cnn", "pytorch", "fit")
    CONFIG = TrainSegmenterConfig

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Trains a fully convolutional network on a chip dataset, to give each pixel of a raster a class, "
            "or a number for chips whose task is regression. The "
            "model file contains the epoch with the best result on the validation chips, and everything needed to use "
            "it.\nThe report shows the curves of loss and accuracy, the confusion matrix and example chips. Its test "
            "figures come from ground that was not used for training.\nTraining runs in a separate process, so QGIS "
            "can be used in the meantime."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            chips_row(tr("Its task must be segmentation, or regression.")),
            Setting("ARCHITECTURE", tr("Architecture"), tr(
                "The decoder, which makes classes of the encoder's features. Whole-window networks are mapped in "
                "overlapping windows of the size of their chips, which takes two to four times as long.")),
            Setting("ENCODER", tr("Encoder"), tr(
                "The part of the network that turns pixels into features. efficientnet_lite0 is light, and its "
                "pretrained weights are installed. Larger ones need more chips, and above 20 million parameters a "
                "GPU.")),
            Setting("EPOCHS", tr("Epochs (empty: automatic)"), tr(
                "The maximum number of passes through all training chips. Automatic: 8 to 60, fewer with more chips, "
                "for about ten minutes on two cores, or five times as much work on a GPU."), optional=True),
            *daily_rows(),
            *augmentation_rows(),
            *_shape_rows(),
            *weights_rows(tr(
                "A .safetensors or .pth file with weights of the encoder, or a model file of your own. The first "
                "layer is adapted to the bands.")),
            *fine_tuning_rows(tr("1: the same rate as the decoder.")),
            *run_rows(),
            *machine_rows(),
            *result_rows(),
        ]  # fmt: skip

    def figures(self) -> dict[str, str]:
        """Return the figures of the best epoch: name → what people call it."""
        return {
            "overall_accuracy": tr("Overall accuracy"),
            "mean_iou": tr("Mean IoU"),
            "calibration_error": tr("Calibration error"),
            "r2": tr("R²"),
            "rmse": tr("RMSE"),
        }

    def check_network(self, config: TrainSegmenterConfig) -> None:
        """Check that the network can learn from the chips."""
        from ..plugin.engine.training.early_checks import check_segmenter

        check_segmenter(config, config.chips, self._info)


def _shape_rows() -> list[Row]:
    """The network in detail."""
    return [
        Setting("TIMM_ENCODER", tr("Network: encoder by timm's name"), tr(
            "Any other network of the library timm as the encoder, in place of the one chosen above: regnety_016, or "
            "with the name of its weights convnextv2_nano.fcmae_ft_in1k. Empty: none."), optional=True, advanced=True),
        Setting("DECODER_WIDTH", tr("Network: decoder's width (×)"), tr(
            "The decoder gets so many times the channels that it usually has, 0.125 to 4. Half of them make it about a "
            "quarter as large."), optional=True, advanced=True, decimals=3),
        Setting("DROPOUT", tr("Network: dropout (empty: own)"), tr(
            "The share of the last features that is left out at random while learning, 0 to 0.95: against learning few "
            "chips by heart. Empty: 0.5 for DeepLab, 0.2 for fpn and pspnet, 0.1 for dpt and fcn, else 0."),
            optional=True, advanced=True, decimals=2),
        Setting("ACTIVATION", tr("Network: activation"), tr(
            "What follows each convolution of the decoder."), optional=True, advanced=True),
        Setting("NORMALIZATION", tr("Network: normalization"), tr(
            "What keeps the values of the decoder's layers alike. The encoder keeps its own."),
            optional=True, advanced=True),
    ]  # fmt: skip
