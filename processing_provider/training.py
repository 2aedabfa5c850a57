"""What all algorithms that train ask the user."""

from __future__ import annotations

from ..plugin.translation import tr
from .list_parameters import Numbers
from .parameters import InputFile, InputFolder, OutputFile, Row, Setting


def expert(name: str, label: str, help: str, decimals: int = 2) -> Row:
    """A setting under Advanced that may be left empty."""
    return Setting(name, label, help, optional=True, advanced=True, decimals=decimals)


def daily_rows() -> list[Row]:
    """The daily settings of a training."""
    return [
        Setting("MINUTES", tr("Minutes (empty: by epochs)"), tr(
            "Ends training after so many minutes, reading of chips and test included, with its schedule complete. "
            "Leave the epochs empty then."), optional=True, decimals=1),
        Setting("BATCH_SIZE", tr("Batch size (chips)"), tr(
            "Chips a step. More need more memory, and steady the training.")),
        Setting("AUGMENTATION", tr("Augmentation"), tr(
            "How much training chips are varied each time they are shown, so that the network learns what does not "
            "matter. Each part can be set by itself under Advanced. The report shows some of them."), optional=True),
    ]  # fmt: skip


def augmentation_rows() -> list[Row]:
    """Each part of the augmentation, in the order in which chips are varied."""
    by_preset = tr("Empty: as the preset says. 0: not at all.")

    def part(name: str, label: str, text: str) -> Setting:
        return Setting(name, label, f"{text} {by_preset}", optional=True, advanced=True, decimals=3)

    return [
        Setting("AUGMENT", tr("Augmentation: flips and turns"), tr(
            "Shows each chip mirrored and in quarter turns as well, with every preset but none. Right for images "
            "from above; not for photographs with a sky."), advanced=True),
        part("SCALE_JITTER", tr("Augmentation: crop (0 to 0.9)"), tr(
            "Shows a part of each chip, whose side is up to this share shorter, as large as the whole. For things "
            "that come in several sizes, or images of several pixel sizes.")),
        part("ROTATION", tr("Augmentation: rotation (°)"), tr(
            "Rotates each chip by up to this angle either way. Ground outside the chip is replaced by the mirrored "
            "chip, here and in what follows.")),
        part("ZOOM", tr("Augmentation: zoom (0 to 1)"), tr(
            "Shows each chip up to this share larger (0.25: 1.25 times), or as many times smaller.")),
        part("SHIFT", tr("Augmentation: shift (0 to 0.5)"), tr(
            "Moves each chip by up to this share of its side.")),
        part("SHEAR", tr("Augmentation: shear (°)"), tr(
            "Shears each chip by up to this angle, along both sides.")),
        part("ELASTIC", tr("Augmentation: elastic (to 0.1)"), tr(
            "Distorts each chip smoothly, by up to this share of its side.")),
        part("BLUR", tr("Augmentation: blur (pixels)"), tr(
            "Blurs every second chip, by a Gaussian with a standard deviation of up to so many pixels.")),
        part("SHARPEN", tr("Augmentation: sharpen (0 to 3)"), tr(
            "Makes the details of every second chip up to so many times stronger.")),
        part("GAMMA_JITTER", tr("Augmentation: gamma (0 to 1)"), tr(
            "Changes the gamma of each chip: raises its values to a power of up to 1 + this, or down to 1 / (1 + "
            "this).")),
        part("HUE", tr("Augmentation: hue (°)"), tr(
            "Turns the colours of each chip by up to so many degrees, where the bands are red, green and blue.")),
        part("SATURATION", tr("Augmentation: saturation"), tr(
            "Makes the colours of each chip up to this share (0 to 1) richer or paler, where the bands are red, green "
            "and blue.")),
        part("CONTRAST", tr("Augmentation: contrast"), tr(
            "Makes each chip up to this share (0 to 1) richer or poorer in contrast, all bands alike.")),
        part("BRIGHTNESS", tr("Augmentation: brightness"), tr(
            "Makes each chip up to so many standard deviations (0 to 2) brighter or darker, all bands alike.")),
        part("RADIOMETRIC_JITTER", tr("Augmentation: band by band"), tr(
            "Shows each band of a chip up to this share (0 to 1) brighter or darker, and richer or poorer in contrast. "
            "For a network that shall also work on images of another day or sensor.")),
        part("NOISE", tr("Augmentation: noise (0 to 1)"), tr(
            "Adds noise of up to so many standard deviations to each chip.")),
        part("BAND_DROPOUT", tr("Augmentation: band dropout"), tr(
            "The chance (0 to 0.9) of each band of a chip to be left out. For images in which bands may be missing.")),
        part("CUTOUT", tr("Augmentation: cutout (0 to 0.5)"), tr(
            "Covers a square of up to this share of every second chip. What is covered has no label.")),
        part("MIXUP", tr("Augmentation: mixup (0 to 0.5)"), tr(
            "Lays up to this share of another chip over each chip of every second batch.")),
        part("CUTMIX", tr("Augmentation: CutMix (0 to 0.5)"), tr(
            "Shows a square of another chip, of up to this share, in each chip of every second batch, with its "
            "labels.")),
    ]  # fmt: skip


def loss_rows() -> list[Row]:
    """What a wrong answer costs, for experts."""

    return [
        expert("LOSS", tr("Loss"), tr("What a wrong answer costs.")),
        expert("SECOND_LOSS", tr("Loss: second loss"), tr(
            "A loss that is added to the first, of the same ones; none: the first alone.")),
        expert("SECOND_LOSS_SHARE", tr("Loss: share of the second"), tr(
            "Of the sum of both, 0 to 1; the first loss has the rest.")),
        expert("CLASS_WEIGHTS", tr("Loss: class weights"), tr("How much a rare class counts in the loss.")),
        expert("CLASS_WEIGHT_LIST", tr("Loss: class weights by hand"), tr(
            "A number for each class in the order of the class values, such as 1, 2.5, 1; or some classes by name or "
            "value, such as water=2.5, of which the others have 1. Takes the place of the weights above; 0 leaves a "
            "class out.")),
        expert("EFFECTIVE_NUMBER_BETA", tr("Loss: beta of effective_number"), tr(
            "For the class weights effective_number: near 1 they are those of balanced, with 0 all are the same. "
            "Empty: 1 minus 1 over the mean count of a class."), decimals=12),
        expert("LABEL_SMOOTHING", tr("Loss: label smoothing"), tr(
            "This share of each label is spread over all classes: the network becomes less sure of itself, and wrong "
            "labels do less harm. For losses with a cross-entropy in them: not for dice, jaccard, tversky, "
            "focal_tversky, lovasz and generalized_cross_entropy.")),
        expert("FOCAL_GAMMA", tr("Loss: gamma of focal"), tr(
            "How little easy pixels count; with 0 as much as all others.")),
        expert("TVERSKY_ALPHA", tr("Loss: alpha of tversky"), tr(
            "What is wrongly found costs so much, in tversky and focal_tversky.")),
        expert("TVERSKY_BETA", tr("Loss: beta of tversky"), tr(
            "What is missed costs so much, in tversky and focal_tversky: more finds more of a class, and more where "
            "it is not.")),
        expert("FOCAL_TVERSKY_GAMMA", tr("Loss: gamma of focal_tversky"), tr(
            "How much classes that are still poor are looked at; with 1 it is tversky.")),
        expert("UNIFIED_FOCAL_LAMBDA", tr("Loss: lambda of unified_focal"), tr(
            "The share of its focal loss; its focal Tversky loss has the rest.")),
        expert("UNIFIED_FOCAL_DELTA", tr("Loss: delta of unified_focal"), tr(
            "What is missed costs so much, and what is wrongly found the rest of 1.")),
        expert("UNIFIED_FOCAL_GAMMA", tr("Loss: gamma of unified_focal"), tr(
            "The smaller, the less easy pixels count.")),
        expert("OHEM_SHARE", tr("Loss: share of ohem"), tr(
            "The share of the labelled pixels or chips of a batch, the costliest, that counts."), decimals=3),
        expert("SYMMETRIC_ALPHA", tr("Loss: alpha of symmetric"), tr(
            "Of symmetric_cross_entropy: how much the usual cross-entropy counts. More learns sooner, less is misled "
            "less."), decimals=3),
        expert("SYMMETRIC_BETA", tr("Loss: beta of symmetric"), tr(
            "Of symmetric_cross_entropy: how much the reverse cross-entropy counts."), decimals=3),
        expert("GENERALIZED_Q", tr("Loss: q of generalized"), tr(
            "Of generalized_cross_entropy: near 0 it is the cross-entropy; with 1 it is misled least, and learns most "
            "slowly.")),
        expert("HUBER_DELTA", tr("Loss: delta of huber"), tr(
            "Of huber, for numbers: larger errors, in standard deviations of the target, are not squared.")),
    ]  # fmt: skip


def run_rows() -> list[Row]:
    """How the run goes, for experts."""
    return [
        Setting("STEPS", tr("Run: steps (empty: by epochs)"), tr(
            "Ends training after this number of steps, of one batch each."), optional=True, advanced=True),
        Setting("ACCUMULATION", tr("Run: batches per step"), tr(
            "Adds up the gradients of this number of batches before the weights change: like a larger batch, in the "
            "memory of a small one."), optional=True, advanced=True),
        Setting("EMA_DECAY", tr("Run: moving average (0 to 1)"), tr(
            "Keeps an exponential moving average of the weights with this decay at most (0.99, say), which is often a "
            "little better than the last weights. 0: none."), optional=True, advanced=True, decimals=5),
        Setting("PATIENCE", tr("Run: patience (epochs; 0: off)"), tr(
            "Training ends after this number of epochs without improvement. The last epochs improve most."),
            advanced=True),
        Setting("MONITOR", tr("Run: figure of the best epoch"), tr(
            "The figure on validation chips by which the best epoch is kept, and whose lack of progress ends "
            "training."), optional=True, advanced=True),
        InputFile("RECIPE", tr("Run: recipe (model or JSON)"), tr(
            "The settings of an earlier training, from its model file, or from a JSON file. They hold wherever this "
            "dialog has the default value."), optional=True, advanced=True,
            filter=tr("Recipes") + " (*.safetensors *.json)"),
        InputFolder("TENSORBOARD", tr("Run: TensorBoard folder"), tr(
            "Writes event files there while it trains, which TensorBoard shows; the package tensorboard has to be "
            "installed in the worker's Python."), optional=True, advanced=True),
        Setting("RESUME", tr("Run: resume from checkpoint"), tr(
            "Continues from the checkpoint beside the model file that a training with the same settings has left, "
            "if there is one; it ends with the same weights as if it had not been interrupted."),
            optional=True, advanced=True),
        Setting("CHECKPOINT_MINUTES", tr("Run: checkpoint minutes"), tr(
            "A checkpoint is written after each epoch, and within an epoch at this interval."),
            optional=True, advanced=True, decimals=1),
    ]  # fmt: skip


def sampling_rows() -> list[Row]:
    """Which chips an epoch shows, for experts."""
    return [
        Setting("SAMPLING", tr("Sampling"), tr(
            "Which training chips an epoch shows, and how often. Where classes are weighted as well, they are as "
            "frequent as in what is shown."), optional=True, advanced=True),
        Setting("BACKGROUND_SHARE", tr("Sampling: background chips"), tr(
            "The share of the training chips with nothing but background that an epoch shows (0 to 1); other ones in "
            "each epoch."),
            optional=True, advanced=True, decimals=3),
        Setting("BACKGROUND_CLASS", tr("Sampling: background class"), tr(
            "Its name or value, where background chips are to be left out. Empty: the class called background."),
            optional=True, advanced=True),
    ]  # fmt: skip


def unlabelled_rows() -> list[Row]:
    """Unlabelled chips, from which a network learns as well."""

    return [
        InputFolder("UNLABELLED_CHIPS", tr("Unlabelled: chip dataset"), tr(
            "Chips without labels, from which the network learns as well: where it is sure what a chip shows, it "
            "learns to see the same when the chip is varied. For few labels and many images of the same kind. A folder "
            "written by “Export training chips”, with the task unlabelled and the bands, chip size and pixel size of "
            "the chips above. A labelled dataset works too, also the one above: its training chips are used without "
            "their labels. Each step takes about two and a half times as long."), optional=True, advanced=True),
        expert("UNLABELLED_WEIGHT", tr("Unlabelled: weight"), tr(
            "How much their loss counts beside that of the labelled chips.")),
        expert("UNLABELLED_RAMP", tr("Unlabelled: ramp (0 to 1)"), tr(
            "The share of the training in which the weight rises from nothing: at first the network's answers are "
            "wrong.")),
        expert("UNLABELLED_RATIO", tr("Unlabelled: chips per labelled"), tr(
            "Number of unlabelled chips beside each labelled one of a batch. More need more memory and time.")),
        expert("UNLABELLED_AUGMENTATION", tr("Unlabelled: augmentation"), tr(
            "How the chips are varied for the network to learn from. Labels move with the image.")),
        expert("PSEUDO_LABEL_CONFIDENCE", tr("Unlabelled: confidence (0 to 1)"), tr(
            "The probability (0 to 1) from which an answer counts as a label."), decimals=4),
        expert("BASELINE", tr("Unlabelled: compare with baseline"), tr(
            "First trains the same network for as many steps on the labelled chips alone, and compares both in the "
            "report. This takes up to twice as long. Not possible if the minutes are given.")),
    ]  # fmt: skip


def machine_rows() -> list[Row]:
    """For experts."""
    return [
        *loss_rows(),
        *sampling_rows(),
        *unlabelled_rows(),
        *optimizer_rows(),
        *schedule_rows(),
        Setting("CALIBRATE", tr("Calibrate the confidence"), tr(
            "After training, makes probabilities as high as the validation chips show that they should be: answers "
            "with a confidence of 80 % are then right in 80 of 100 cases. Which class is the likeliest stays the "
            "same."), optional=True, advanced=True),
        Setting("MIXED_PRECISION", tr("Mixed precision"), tr(
            "Calculates in 16 bits where that is safe: faster and with less memory. On a GPU; on a processor with AMX "
            "or AVX-512 BF16 if the first steps show that it is faster."), advanced=True),
        Setting("COMPILE", tr("Compile the network"), tr(
            "Lets torch.compile translate the network before the first step, which takes a minute or more and makes "
            "each step faster. It needs a C++ compiler, or Triton on a GPU."), optional=True, advanced=True),
        Setting("DETERMINISTIC", tr("Deterministic"), tr(
            "Lets two trainings with one seed on the same kind of GPU end with the same weights, to the last bit, if "
            "their length is given in epochs or steps. Slower, and it may need more memory. The log names what cannot "
            "be calculated so. On a processor trainings are equal without it, unless they choose 16 bits by the time "
            "that a step takes; with it they take 32."), optional=True, advanced=True),
        Setting("DEVICE", tr("Device (auto, cpu, cuda or cuda:n)"), tr(
            "Where to calculate. auto takes an NVIDIA GPU where there is one."), advanced=True),
        InputFolder("CACHE_FOLDER", tr("Folder for decoded chips"), tr(
            "Chips that do not fit into memory are decoded once, into a file in this folder, which later trainings on "
            "them use as well. Empty: the user's folder for caches."), optional=True, advanced=True),
        Setting("FOLD", tr("Fold (empty: none)"), tr(
            "For cross-validation, with a dataset that is divided into folds: this one, counted from 1, is for "
            "validation and the others are for training. Run it once for each fold."), advanced=True),
        Setting("SEED", tr("Seed"), tr("The same seed gives the same start and order of chips."), advanced=True),
    ]  # fmt: skip


def optimizer_rows() -> list[Row]:
    """How weights follow from gradients."""
    return [
        Setting("OPTIMIZER", tr("Optimizer"), tr("How weights follow from gradients."), optional=True, advanced=True),
        Setting("LEARNING_RATE", tr("Optimizer: highest rate"), tr(
            "The highest learning rate of the schedule. Empty: the default of the optimizer, 0.001 for adamw, and half "
            "of it for a classifier."), advanced=True),
        Setting("WEIGHT_DECAY", tr("Optimizer: weight decay"), tr(
            "Pulls the weights towards zero in each step. Empty: 0.01 for adamw, 0.0001 for sgd, none for others."),
            advanced=True),
        Setting("MOMENTUM", tr("Optimizer: momentum"), tr(
            "The share of earlier gradients that the next step keeps: for sgd and rmsprop, and β₁ of the Adam family."),
            optional=True, advanced=True, decimals=3),
        Setting("NESTEROV", tr("Optimizer: Nesterov momentum"), tr(
            "For sgd: looks ahead along the momentum."), optional=True, advanced=True),
        Setting("SQUARE_MOMENTUM", tr("Optimizer: momentum of squares"), tr(
            "The same for the squares of gradients: β₂ of the Adam family, α of rmsprop, ρ of adadelta. Empty: 0.999, "
            "0.99 and 0.9."), advanced=True, decimals=5),
        Setting("EPSILON", tr("Optimizer: epsilon"), tr(
            "A small number that is added to divisors, in all optimizers but sgd. Empty: PyTorch's default."),
            advanced=True, decimals=12),
        Setting("GRADIENT_CLIP", tr("Optimizer: gradient clip"), tr(
            "Gradients whose norm is larger are shortened to it, so that a bad batch moves the weights no further than "
            "a good one. 0: never."), optional=True, advanced=True),
    ]  # fmt: skip


def schedule_rows() -> list[Row]:
    """The learning rate over the training."""
    return [
        Setting("SCHEDULE", tr("Schedule"), tr(
            "The learning rate over the training."), optional=True, advanced=True),
        Setting("WARM_UP", tr("Schedule: warm-up (0 to 0.9)"), tr(
            "The share of the training in which the rate rises from a 25th of the highest. Empty: 0.25 for one_cycle, "
            "0 for others."), advanced=True, decimals=3),
        Setting("LOWEST_RATE", tr("Schedule: lowest rate (share)"), tr(
            "Of the highest rate: where exponential, cosine and one_cycle end, cyclic turns, and plateau drops no "
            "more."), optional=True, advanced=True),
        Setting("DROP_FACTOR", tr("Schedule: drop factor"), tr(
            "What step, multi_step and plateau multiply the rate by."), optional=True, advanced=True),
        Setting("DROPS", tr("Schedule: drops of step"), tr(
            "Number of drops; they divide the training into parts of equal length."), optional=True, advanced=True),
        Numbers("MILESTONES", tr("Schedule: drops of multi_step"), tr(
            "Where the rate drops, as shares of the training. Empty: 0.5,0.75."), optional=True, advanced=True,
            example="0.5,0.75"),
        Setting("CYCLES", tr("Schedule: cycles of cyclic"), tr(
            "How often the rate rises and falls."), optional=True, advanced=True),
        Setting("PLATEAU_EPOCHS", tr("Schedule: epochs of plateau"), tr(
            "The rate drops after this number of epochs without improvement."), optional=True, advanced=True),
    ]  # fmt: skip


def fine_tuning_rows(rate: str) -> list[Row]:
    """Which parts of a network learn, when and how fast.

    Args:
        rate: Words for the default of ENCODER_RATE.
    """
    return [
        Setting("FREEZE", tr("Fine-tuning: freeze"), tr("Which weights are frozen."), optional=True, advanced=True),
        Setting("FREEZE_EPOCHS", tr("Fine-tuning: frozen epochs"), tr(
            "With warm_up, the encoder is thawed after this number of epochs. Automatic: an eighth of the epochs."),
            advanced=True),
        Setting("ENCODER_RATE", tr("Fine-tuning: encoder's rate"), tr(
            "Factor of the learning rate for the encoder, 0 to 1: pretrained weights should change less than the "
            "layers after it, which start with random weights.") + " " + rate,
            optional=True, advanced=True, decimals=3),
        Setting("LAYER_DECAY", tr("Fine-tuning: decay by layer"), tr(
            "Factor between the learning rates of each of twelve parts of the encoder and of the next part: the first "
            "layers detect what is in any image and need less change. 1: none; 0.7 to 0.9 is usual."),
            optional=True, advanced=True, decimals=3),
    ]  # fmt: skip


def weights_rows(file: str) -> list[Row]:
    """Where training begins.

    Args:
        file: What the file of weights may hold.
    """
    return [
        Setting("PRETRAINED", tr("Pretrained weights"), tr(
            "What the network knows before it sees your chips. auto: ImageNet, which is installed for "
            "efficientnet_lite0, else nothing. none: nothing. imagenet: photographs. The others were learned from "
            "imagery from above and are downloaded once, if you allow it below: sentinel2_all, sentinel2_rgb, "
            "landsat_oli (8, 9), landsat_etm (7) and landsat_tm (4, 5) for resnet18 and resnet50, aerial_fmow for "
            "resnet50, aerial_naip for the classifier swin_v2_b. Bands are matched by their names or wavelengths.")),
        InputFile("ENCODER_WEIGHTS", tr("Pretrained weights: file"), file, optional=True, advanced=True,
            filter=tr("Weights") + " (*.safetensors *.pth *.pt)"),
        InputFile("START_FROM", tr("Pretrained weights: whole model"), tr(
            "A model file of an earlier training, to learn on with new chips, also with other classes or bands: all "
            "its weights that fit are taken, and of the output layer those of classes with the same names. The network "
            "is the model's. The log says what is taken."), optional=True, advanced=True,
            filter=tr("Model files") + " (*.safetensors)"),
        Setting("DOWNLOAD_WEIGHTS", tr("Pretrained weights: download"), tr(
            "Lets training fetch pretrained weights that are not on this computer. The log says from where, how "
            "large they are and under which licence. Nothing is downloaded without this."), advanced=True),
    ]  # fmt: skip


def result_rows() -> list[Row]:
    """What is written."""
    return [
        OutputFile("OUTPUT", tr("Model file"), tr("The .safetensors file to write."), called="model",
            filter=tr("Model files") + " (*.safetensors)"),
        OutputFile("REPORT", tr("Training report"), tr("The HTML page to write."), optional=True,
            called="report", filter=tr("HTML files") + " (*.html)"),
        OutputFile("HISTORY", tr("History (table)"), tr("A CSV file with the figures of each epoch."), optional=True,
            advanced=True, by_default=False, filter=tr("CSV files") + " (*.csv)"),
    ]  # fmt: skip
