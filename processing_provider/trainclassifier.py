"""Chip dataset with a class, or several, for each chip → CNN model file."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputDefinition

from ..plugin.engine.config import TrainClassifierConfig
from ..plugin.engine.events import Reporter
from .algorithm import WorkerAlgorithm, tr
from .earlier_results import chips_row
from .list_parameters import Sizes
from .parameters import Parameters, Row, Setting
from .training import (
    augmentation_rows,
    chance_rows,
    figure_outputs,
    machine_rows,
    result_rows,
    run_rows,
    training_results,
    weights_of_classes_row,
    weights_rows,
)


class TrainClassifier(WorkerAlgorithm):
    """Trains a network that gives each chip a class, or several."""

    ID = "trainclassifier"
    NAME = "Train a classifier"
    TAGS = (
        "deep learning", "cnn", "scene", "classification", "multilabel", "resnet", "vgg", "efficientnet", "pytorch",
        "fine-tuning", "transfer learning",
    )  # fmt: skip
    CONFIG = TrainClassifierConfig
    GROUP = ("training", "Training")
    NAMED_AFTER = ("CHIPS",)
    KEEPS_BEST = True

    def summary(self) -> str:
        """What it does."""
        return tr(
            "Trains a convolutional network on a chip dataset: for classification, so that it gives a whole chip a "
            "class, or for multilabel, so that it says of each class whether the chip shows it.\n"
            "The epoch that does best on the validation chips is kept in the model file, with all that is needed to "
            "use it. With pretrained weights, the output layer learns alone at first, and then the whole network, more "
            "slowly.\n"
            "The report shows the curves, the confusion matrix, precision, recall and F1 of each class, the chips that "
            "were hardest, and the network layer by layer.\n"
            "Training runs in a process of its own: QGIS can be used meanwhile."
        )

    def rows(self) -> list[Row]:
        """The parameters."""
        return [
            chips_row(tr("Its task must be classification or multilabel.")),
            Setting("ARCHITECTURE", tr("Architecture"), tr(
                "efficientnet_lite0 is a good start: it is light, and its pretrained weights are installed. The other "
                "mobile ones (mobilenet, mnasnet, shufflenet, squeezenet) are light too; the larger ones of a family "
                "want many chips and a GPU. lecture_cnn, keras_cnn and mlp are to learn with: their shape is set "
                "below.")),
            Setting("EPOCHS", tr("Epochs (empty: automatic)"), tr(
                "How often training goes through all training chips at most. Automatic: 8 to 60, or up to 20 with "
                "pretrained weights (more where chips are very few); fewer the more chips there are and the larger the "
                "network is, for about ten minutes on two cores, or five times as much on a GPU."), optional=True),
            *chance_rows(),
            weights_of_classes_row(),
            *augmentation_rows(),
            Setting("THRESHOLD", tr("Threshold (empty: automatic)"), tr(
                "The probability (0 to 1) from which a class counts. Of two classes: from which a chip is of the "
                "second one. "
                "Several classes a chip: from which it shows each. Automatic: 0.5."), optional=True, decimals=2),
            *weights_rows(tr(
                "A .safetensors or .pth file with weights of this architecture, as torchvision or timm name them, or a "
                "model file of your own. The first layer is fitted to the bands, the last one starts afresh.")),
            Setting("FREEZE", tr("Freeze"), tr(
                "What stays as it is. none: all of the network learns. encoder: the output layer alone learns, which "
                "is quick. warm_up: so for the first epochs, then all learns. auto: warm_up with pretrained weights, "
                "else none."), advanced=True),
            Setting("FREEZE_EPOCHS", tr("Warm-up (empty: automatic)"), tr(
                "After so many epochs the encoder is thawed. Automatic: an eighth of the epochs."),
                optional=True, advanced=True),
            Setting("ENCODER_RATE", tr("Encoder's share of the rate"), tr(
                "Of the learning rate, 0 to 1: what is pretrained should change less than the output layer, which "
                "starts afresh. Automatic: 0.5 with "
                "pretrained weights, else 1."), optional=True, advanced=True, decimals=3),
            *self._shape_rows(),
            *run_rows(),
            *machine_rows(),
            *result_rows(),
        ]  # fmt: skip

    def _shape_rows(self) -> list[Row]:
        """The shape of the networks to learn with."""
        own = tr("Only for lecture_cnn and keras_cnn; empty: {}.")
        every = tr("Only for lecture_cnn, keras_cnn and mlp; empty: {}.")
        return [
            Sizes("FILTERS", tr("Filters of each block"), tr(
                "How many filters the convolutions of each block have; as many blocks as numbers.") + " "
                + own.format("8,16,32,64; 32,64,128"), optional=True, advanced=True),
            Sizes("HIDDEN_SIZES", tr("Sizes of the hidden layers"), tr(
                "Fully connected layers before the output; 0 for none.") + " " + every.format("64; 1024; 512,256"),
                optional=True, advanced=True),
            Setting("KERNEL_SIZE", tr("Kernel size"), tr("Side of the filters, an odd number.") + " " + own.format(3),
                optional=True, advanced=True),
            Setting("STRIDE", tr("Stride of convolutions"), tr("By how many pixels a filter moves.") + " "
                + own.format(1), optional=True, advanced=True),
            Setting("PADDING", tr("Padding of convolutions"), tr("Pixels of zeros around each map.") + " "
                + own.format(tr("as many as keep its size")), optional=True, advanced=True),
            Setting("ACTIVATION", tr("Activation"), tr("What follows each convolution and hidden layer.") + " "
                + every.format("relu"), optional=True, advanced=True),
            Setting("DROPOUT", tr("Dropout of hidden layers"), tr(
                "The share of values that is left out at random while learning, after each hidden layer.") + " "
                + every.format("0; 0.5; 0"), optional=True, advanced=True, decimals=2),
            Setting("BLOCK_DROPOUT", tr("Dropout of blocks (0 to 0.95)"), tr("The same after each block.") + " "
                + own.format("0; 0.25"), optional=True, advanced=True, decimals=2),
        ]  # fmt: skip

    def outputs(self) -> list[QgsProcessingOutputDefinition]:
        """The figures of the best epoch."""
        return figure_outputs(_figures())

    def read(self, parameters: Parameters, context: QgsProcessingContext) -> dict[str, Any]:
        """The settings, once the folder proves to be a dataset."""
        from ..plugin.engine.chips.dataset import read_info

        settings = super().read(parameters, context)
        self._info = read_info(settings["chips"] or "")
        return settings

    def check(self, config: TrainClassifierConfig) -> None:
        """Whether the network can learn from the chips, and names will do."""
        from ..plugin.engine.training.early_checks import check_classifier

        check_classifier(config, config.chips, self._info)

    def work(self, settings: dict[str, Any], context: QgsProcessingContext, reporter: Reporter) -> dict[str, Any]:
        """Train in the worker."""
        return training_results(self.run_worker(settings, reporter), _figures())


def _figures() -> dict[str, str]:
    return {
        "overall_accuracy": tr("Overall accuracy"),
        "mean_f1": tr("Mean F1"),
        "mean_average_precision": tr("Mean average precision (several classes a chip)"),
    }
