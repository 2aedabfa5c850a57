"""Train a classifier: chip dataset → model file of a network that gives each chip a class, several or a number."""

from __future__ import annotations

from ..plugin.engine.config import TrainClassifierConfig
from ..plugin.translation import tr
from .earlier_results import chips_row
from .list_parameters import Sizes
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


class TrainClassifier(TrainingAlgorithm):
    """Trains a network that gives each chip one or several classes, or a number."""

    ID = "trainclassifier"
    NAME = "Train a classifier"
    TAGS = (
        "deep learning", "cnn", "scene", "classification", "multilabel", "regression", "resnet", "vgg", "efficientnet",
        "pytorch", "fine-tuning", "transfer learning",
    )  # fmt: skip
    CONFIG = TrainClassifierConfig

    def summary(self) -> str:
        """Describe the algorithm."""
        return tr(
            "Trains a convolutional network on a chip dataset: for classification, to give each chip a class, for "
            "multilabel, to predict for each class whether the chip shows it, or for chip_regression, to predict a "
            "number, such as a yield.\nThe model file contains the epoch with the best result on the validation chips, "
            "and everything needed to use it. With pretrained weights, only the output layer learns at first, and then "
            "the whole network, more slowly.\nThe report shows the curves, the confusion matrix, precision, recall and "
            "F1 of each class (of numbers: R², RMSE, MAE, bias, and predictions against targets), the most difficult "
            "chips, and the network layer by layer.\nTraining runs in a separate process, so QGIS can be used in the "
            "meantime."
        )

    def rows(self) -> list[Row]:
        """Declare the parameters."""
        return [
            chips_row(tr("Its task must be classification, multilabel or chip_regression.")),
            Setting("ARCHITECTURE", tr("Architecture"), tr(
                "efficientnet_lite0 is a good start: it is light, and its pretrained weights are installed. The other "
                "mobile networks (mobilenet, mnasnet, shufflenet, squeezenet) are light too; the larger networks of a "
                "family need many chips and a GPU. lecture_cnn, keras_cnn and mlp are teaching networks, whose shape "
                "is set below.")),
            Setting("EPOCHS", tr("Epochs (empty: automatic)"), tr(
                "The maximum number of passes through all training chips. Automatic: 8 to 60, or up to 20 with "
                "pretrained weights (more if there are very few chips); fewer with more chips and larger networks, "
                "for about ten minutes on two cores, or five times as much work on a GPU."), optional=True),
            *daily_rows(),
            *augmentation_rows(),
            Setting("THRESHOLD", tr("Threshold (empty: automatic)"), tr(
                "The probability (0 to 1) from which a class counts. With two classes: that of the second one. With "
                "several classes per chip: that of each. Automatic: 0.5."), optional=True, decimals=2),
            *weights_rows(tr(
                "A .safetensors or .pth file with weights of this architecture, with the names of torchvision or "
                "timm, or a model file of your own. The first layer is adapted to the bands, the last one starts with "
                "random weights.")),
            *fine_tuning_rows(tr("Automatic: 0.5 with pretrained weights, otherwise 1.")),
            *self._shape_rows(),
            *run_rows(),
            *machine_rows(),
            *result_rows(),
        ]  # fmt: skip

    def _shape_rows(self) -> list[Row]:
        """Return the rows for the shape of the teaching networks."""
        own = tr("Only for lecture_cnn and keras_cnn; empty: {}.")
        every = tr("Only for lecture_cnn, keras_cnn and mlp; empty: {}.")
        return [
            Sizes("FILTERS", tr("Filters of each block"), tr(
                "The number of filters in the convolutions of each block, one number per block.") + " "
                + own.format("8,16,32,64; 32,64,128"), optional=True, advanced=True),
            Sizes("HIDDEN_SIZES", tr("Sizes of the hidden layers"), tr(
                "Fully connected layers before the output; 0 for none.") + " " + every.format("64; 1024; 512,256"),
                optional=True, advanced=True),
            Setting("KERNEL_SIZE", tr("Kernel size"), tr("Side of the filters, an odd number.") + " " + own.format(3),
                optional=True, advanced=True),
            Setting("STRIDE", tr("Stride of convolutions"), tr("The distance that a filter moves, in pixels.") + " "
                + own.format(1), optional=True, advanced=True),
            Setting("PADDING", tr("Padding of convolutions"), tr("Pixels of zeros around each map.") + " "
                + own.format(tr("as many as keep its size")), optional=True, advanced=True),
            Setting("ACTIVATION", tr("Activation"), tr("The function after each convolution and hidden layer.") + " "
                + every.format("relu"), optional=True, advanced=True),
            Setting("DROPOUT", tr("Dropout of hidden layers"), tr(
                "The share of values left out at random in training, after each hidden layer.") + " "
                + every.format("0; 0.5; 0"), optional=True, advanced=True, decimals=2),
            Setting("BLOCK_DROPOUT", tr("Dropout of blocks (0 to 0.95)"), tr("The same after each block.") + " "
                + own.format("0; 0.25"), optional=True, advanced=True, decimals=2),
        ]  # fmt: skip

    def figures(self) -> dict[str, str]:
        """Return the figures of the best epoch: name → what people call it."""
        return {
            "overall_accuracy": tr("Overall accuracy"),
            "mean_f1": tr("Mean F1"),
            "mean_average_precision": tr("Mean average precision (several classes per chip)"),
            "calibration_error": tr("Calibration error"),
            "r2": tr("R² (a number per chip)"),
            "rmse": tr("RMSE (a number per chip)"),
        }

    def check_network(self, config: TrainClassifierConfig) -> None:
        """Check that the network can learn from the chips."""
        from ..plugin.engine.training.early_checks import check_classifier

        check_classifier(config, config.chips, self._info)
