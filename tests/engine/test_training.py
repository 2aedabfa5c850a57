import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from osgeo import gdal
from safetensors.torch import load_file, save_file

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.models import encoder_weights
from plugin.engine.models.factory import create_encoder
from plugin.engine.models.header import read_header
from plugin.engine.models.model_file import load_model
from plugin.engine.models.normalisation import Normaliser
from plugin.engine.models.weights_file import Weights
from plugin.engine.recipe.augmentation import PRESETS
from plugin.engine.training import train
from plugin.engine.training import train_segmenter as job
from plugin.engine.training.augmentation import augment
from plugin.engine.training.augmentation.example import UNCHANGED
from plugin.engine.training.chips import ChipReader
from plugin.engine.training.losses.cross_entropies import cross_entropy
from plugin.engine.training.losses.table import LOSS_FUNCTIONS
from plugin.engine.training.segmentation import SegmentationTask
from plugin.engine.training.train_segmenter import train_segmenter

SPLITS = {"training": 8, "validation": 3, "test": 3}


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chip_folder(tmp_path_factory.mktemp("dataset") / "chips", SPLITS)


def config(chips, tmp_path, **changes):
    quick = {"architecture": "fcn8s", "encoder": "mobilenet_v3_small", "epochs": 2, "batch_size": 4, "device": "cpu"}
    return TrainSegmenterConfig.from_json(
        {"chips": chips, "output": str(tmp_path / "model.safetensors"), **quick, **changes}
    )


def train_quickly(chips, tmp_path, reporter=None, **changes):
    return train_segmenter(config(chips, tmp_path, **changes), reporter or Heard())


@pytest.fixture(scope="module")
def trained(chips, tmp_path_factory):
    folder, reporter = tmp_path_factory.mktemp("trained"), Heard()
    settings = {"architecture": "unet", "epochs": 10, "learning_rate": 3e-3, "report": str(folder / "report.html")}
    return train_quickly(chips, folder, reporter, **settings), reporter


def test_a_network_learns_three_plain_classes(trained):
    result, _ = trained
    # Guessing gives a third; versions of torch differ by a few hundredths.
    assert result["test"]["mean_iou"] > 0.75 and result["validation"]["overall_accuracy"] > 0.85
    assert len(result["test"]["iou"]) == len(result["test"]["f1"]) == 3
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_every_epoch_is_told_with_all_its_figures(trained):
    result, reporter = trained
    assert [record["epoch"] for record in reporter.epochs] == list(range(1, 11)) and result["epochs"] == 10
    for record in reporter.epochs:
        assert record["learning_rate"] > 0 and record["seconds"] > 0
        for split in ("training", "validation"):
            assert {"loss", "overall_accuracy", "mean_iou", "mean_f1", "iou", "f1"} == set(record[split])


def test_the_best_epoch_is_kept(trained):
    result, reporter = trained
    scores = [record["validation"]["mean_iou"] for record in reporter.epochs]
    assert result["best_epoch"] == 1 + int(np.argmax(scores))
    assert result["validation"]["mean_iou"] == pytest.approx(max(scores))


def test_a_best_epoch_before_the_last_is_what_is_saved_and_tested(chips, tmp_path, monkeypatch):
    falling = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(SegmentationTask, "score", lambda self, figures: next(falling))
    reporter = Heard()
    result = train_quickly(chips, tmp_path, reporter, epochs=3)
    assert result["best_epoch"] == 1 and [record["best"] for record in reporter.epochs] == [True, False, False]
    first, last = reporter.epochs[0]["validation"]["loss"], reporter.epochs[-1]["validation"]["loss"]
    assert result["validation"]["loss"] == pytest.approx(first) and first != pytest.approx(last)


def test_progress_only_grows_and_ends_at_one(trained):
    _, reporter = trained
    assert reporter.fractions == sorted(reporter.fractions) and reporter.fractions[-1] == 1


def test_the_model_file_says_how_it_was_made(trained, chips):
    result, _ = trained
    header = read_header(result["model"])
    assert header.finished and header.recipe["epochs"] == 10 and len(header.history) == 10
    assert header.recipe["learning_rate"] == 3e-3 and header.recipe["weight_decay"] == 1e-2  # which was left to choose
    assert np.sum(header.metrics["test"]["confusion_matrix"]) == 3 * 64 * 61
    assert header.metrics["validation"]["mean_iou"] == result["validation"]["mean_iou"]
    assert header.classes.names == ["water", "field", "forest"] and header.versions["torch"] == torch.__version__


def test_nothing_but_model_and_report_is_left(trained):
    folder = Path(trained[0]["model"]).parent
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "report.html"]


def test_the_kept_weights_are_those_that_were_tested(trained, chips):
    network, header = load_model(trained[0]["model"])
    dataset = open_dataset(chips)
    images, masks = ChipReader(dataset).read(dataset.indices("test"))
    predicted = network(Normaliser(header.mean, header.std, torch.device("cpu"))(images)).argmax(1)
    right = (predicted == masks)[masks < 3].double().mean().item()
    assert right == pytest.approx(trained[0]["test"]["overall_accuracy"])


def test_a_seed_means_the_same_training(chips, tmp_path):
    first, again, other = (train_quickly(chips, tmp_path, epochs=1, seed=seed) for seed in (1, 1, 2))
    assert first["validation"]["loss"] == again["validation"]["loss"] != other["validation"]["loss"]


def test_streamed_chips_train_as_those_in_memory(chips, tmp_path, monkeypatch):
    kept = train_quickly(chips, tmp_path, epochs=1)
    monkeypatch.setattr(train, "choose_place", lambda *_: None)
    for _ in range(2):  # decodes the chips into a file, and finds them there
        found = train_quickly(chips, tmp_path, epochs=1, cache_folder=str(tmp_path / "cache"))
        assert (found["validation"], found["test"]) == (kept["validation"], kept["test"])


def test_four_bands_of_16_bits_with_nodata_are_learned_from(tmp_path):
    chips = write_chip_folder(tmp_path / "chips", SPLITS, bands=4, dtype="int16", nodata=-9999, size=50)
    result = train_quickly(chips, tmp_path, architecture="unet", epochs=10, learning_rate=3e-3)
    assert result["test"]["overall_accuracy"] > 0.8
    assert read_header(result["model"]).nodata == -9999


def test_without_validation_chips_the_lowest_training_loss_is_kept_and_it_is_said(tmp_path):
    chips = write_chip_folder(tmp_path / "chips", {"training": 4})
    reporter = Heard()
    result = train_quickly(chips, tmp_path, reporter)
    assert result["validation"] is None and result["test"] is None
    assert "no validation chips" in reporter.warnings[0]
    losses = [record["training"]["loss"] for record in reporter.epochs]
    assert result["best_epoch"] == 1 + int(np.argmin(losses)) and reporter.epochs[0]["validation"] is None


def test_training_stops_early_when_nothing_gets_better(chips, tmp_path, monkeypatch):
    monkeypatch.setattr(SegmentationTask, "score", lambda self, figures: 0.0)
    reporter = Heard()
    result = train_quickly(chips, tmp_path, reporter, epochs=6, patience=2)
    assert result["best_epoch"] == 1 and result["epochs"] == 3
    assert "Stopped after epoch 3" in " ".join(reporter.logs)


def test_finish_ends_after_the_epoch_with_a_whole_model(chips, tmp_path):
    reporter = Heard()
    reporter.finish_at = 1
    result = train_quickly(chips, tmp_path, reporter, epochs=5)
    assert result["epochs"] == 1 and read_header(result["model"]).finished


def test_cancel_leaves_nothing_new_and_the_old_model_whole(chips, tmp_path):
    (tmp_path / "model.safetensors").write_text("the old one")
    reporter = Heard()
    reporter.cancel_at = 1
    with pytest.raises(Cancelled):
        train_quickly(chips, tmp_path, reporter, epochs=5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_text() == "the old one" and len(reporter.epochs) == 1


@pytest.mark.parametrize("epochs_told", [1, 5])
def test_an_orphan_leaves_its_best_as_a_checkpoint(chips, tmp_path, epochs_told):
    reporter = Heard()
    reporter.orphaned_at = epochs_told
    with pytest.raises(Cancelled):
        train_quickly(chips, tmp_path, reporter, epochs=5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.checkpoint.safetensors"]
    _, header = load_model(str(tmp_path / "model.checkpoint.safetensors"))
    assert not header.finished and len(header.history) == epochs_told


def test_an_orphan_in_its_first_epoch_leaves_what_there_is(chips, tmp_path):
    class Orphan(Heard):
        def progress(self, fraction, text="", seconds_left=None):
            if text.startswith("Epoch 1"):
                self.orphaned_at = 0

    with pytest.raises(Cancelled):
        train_quickly(chips, tmp_path, Orphan(), epochs=5)
    assert load_model(str(tmp_path / "model.checkpoint.safetensors"))[1].history == []


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({"output": "m.pth"}, r"OUTPUT is .*m\.pth\. Use the extension \.safetensors"),
        ({"report": "m.safetensors"}, r"REPORT is .*m\.safetensors\. Use the extension \.html"),
        ({"output": "folder.safetensors"}, r"OUTPUT .*folder\.safetensors is a folder"),
    ],
)
def test_names_that_would_lose_the_model_are_refused_before_training(chips, tmp_path, names, match):
    (tmp_path / "folder.safetensors").mkdir()
    reporter = Heard()
    with pytest.raises(InputError, match=match):
        train_quickly(chips, tmp_path, reporter, **{key: str(tmp_path / name) for key, name in names.items()})
    assert not reporter.epochs


def test_an_orphan_that_learned_nothing_leaves_nothing(chips, tmp_path):
    reporter = Heard()
    reporter.orphaned_at = 0
    with pytest.raises(Cancelled):
        train_quickly(chips, tmp_path, reporter, epochs=5)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_an_earlier_model_are_a_start(trained, chips, tmp_path):
    reporter = Heard()
    train_quickly(chips, tmp_path, reporter, epochs=1, encoder_weights=trained[0]["model"])
    assert "206 of 206 tensors" in reporter.logs[0]


def test_weights_are_downloaded_only_at_the_users_word(chips, tmp_path, monkeypatch):
    reporter = Heard()
    asked = []
    weights = Weights(create_encoder("mobilenet_v3_small", 3).state_dict(), "the hub")
    monkeypatch.setattr(job, "download_weights", lambda encoder: asked.append(encoder) or weights)
    train_quickly(chips, tmp_path, epochs=1)
    assert not asked
    train_quickly(chips, tmp_path, reporter, epochs=1, download_weights=True)
    assert asked == ["mobilenet_v3_small"] and "Downloading" in reporter.logs[0] and "206 of 206" in reporter.logs[1]


def test_a_hub_out_of_reach_is_explained(chips, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(encoder_weights.smp.encoders, "get_encoder", fail)
    with pytest.raises(ResourceError, match=r"resnet18.*no route to host.*DOWNLOAD_WEIGHTS"):
        encoder_weights.download_weights("resnet18")


def test_a_disk_without_room_for_the_model_is_refused_before_training(chips, tmp_path, monkeypatch, nothing_read):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ResourceError, match=r"1 kB free.*MB are needed"):
        train_quickly(chips, tmp_path)


def test_a_loss_that_explodes_says_what_to_lower(chips, tmp_path, monkeypatch):
    def explode(*given, **settings):
        loss, weight = cross_entropy(*given, **settings)
        return loss * float("nan"), weight

    monkeypatch.setitem(LOSS_FUNCTIONS, "cross_entropy", explode)
    words = r"epoch 1 of 2, by step 1 of 4, at LEARNING_RATE 0.5\. Lower LEARNING_RATE, to 0.05"
    with pytest.raises(InputError, match=words):
        train_quickly(chips, tmp_path, learning_rate=0.5)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_grows_ends_training_and_the_best_epoch_stays(chips, tmp_path, monkeypatch):
    steps = []

    def grow(*given, **settings):
        loss, weight = cross_entropy(*given, **settings)
        steps.append(loss.requires_grad)
        return loss * (1 if sum(steps) <= 4 else 20), weight

    monkeypatch.setitem(LOSS_FUNCTIONS, "cross_entropy", grow)
    reporter = Heard()
    result = train_quickly(chips, tmp_path, reporter, epochs=6, monitor="loss")
    assert result["epochs"] == 3 and result["best_epoch"] in (1, 2)
    assert any("the training loss has grown from" in text for text in reporter.warnings)


def test_the_best_epoch_before_a_loss_explodes_is_kept(chips, tmp_path, monkeypatch):
    steps = []

    def explode(*given, **settings):
        loss, weight = cross_entropy(*given, **settings)
        steps.append(loss.requires_grad)
        return (loss * float("nan") if sum(steps) > 5 else loss), weight

    monkeypatch.setitem(LOSS_FUNCTIONS, "cross_entropy", explode)
    with pytest.raises(InputError, match=r"epoch 3 of 4.*The best epoch so far, [12], is kept in .*checkpoint"):
        train_quickly(chips, tmp_path, epochs=4)
    (kept,) = tmp_path.iterdir()
    _, found = load_model(str(kept))
    assert not found.finished and len(found.history) == 2


def test_batches_and_splits_without_labels_add_nothing(tmp_path, monkeypatch):
    folder = write_chip_folder(tmp_path / "chips", SPLITS)
    dataset = open_dataset(folder)
    bare = [dataset.labels[place] for place in (*dataset.indices("training")[:4], *dataset.indices("validation"))]
    for name in bare:  # as the index does not say
        target = gdal.Open(str(dataset.folder / name), gdal.GA_Update)
        target.WriteArray(np.full((64, 64), dataset.info.label_nodata, np.uint8))
        target = None
    reporter = Heard()
    result = train_quickly(str(folder), tmp_path, reporter, batch_size=1)
    assert [record["validation"] for record in reporter.epochs] == [None, None]
    losses = [record["training"]["loss"] for record in reporter.epochs]
    assert all(0 < loss < 3 for loss in losses)
    assert result["best_epoch"] == 1 + int(np.argmin(losses)) and result["test"]["loss"] > 0
    json.dumps(result, allow_nan=False)


def test_a_lack_of_memory_for_one_chip_says_what_helps(chips, tmp_path, monkeypatch):
    def lack(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SegmentationTask, "prepare", lack)
    with pytest.raises(ResourceError, match=r"a single chip of 64 × 64 pixels.*a smaller BATCH_SIZE does not help"):
        train_quickly(chips, tmp_path)


def test_an_encoder_stays_as_it_is_for_as_long_as_is_said(chips, tmp_path, trained):
    before = load_file(trained[0]["model"])
    reporter, report = Heard(), tmp_path / "report.html"
    train_quickly(
        chips, tmp_path, reporter, epochs=2, encoder_weights=trained[0]["model"], freeze="encoder", report=str(report)
    )
    model = str(tmp_path / "model.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in load_file(model).items() if key.startswith("encoder"))
    assert "Only the decoder learns throughout; the encoder stays as it is." in reporter.logs
    count = re.search(r"([\d,]+) parameters, 3 bands", "\n".join(reporter.logs)).group(1)
    assert f"{count} parameters" in report.read_text(encoding="utf-8")
    train_quickly(chips, tmp_path, reporter, epochs=2, freeze="auto", encoder_weights=trained[0]["model"])
    settings = read_header(model).recipe
    assert (settings["freeze"], settings["freeze_epochs"], settings["encoder_rate"]) == ("warm_up", 1, 1.0)


def test_augmentation_is_only_for_training(chips, tmp_path, monkeypatch):
    seen = []
    steps = {lambda shape, *_: (seen.append(shape[0]), UNCHANGED)[1]: ("augment",)}
    monkeypatch.setattr(augment, "STEPS", steps)
    train_quickly(chips, tmp_path, epochs=1)
    assert seen == [4, 4]
    train_quickly(chips, tmp_path, epochs=1, augment=False)
    assert seen == [4, 4]


def test_the_model_file_holds_what_the_preset_meant(chips, tmp_path):
    reporter = Heard()
    result = train_quickly(chips, tmp_path, reporter, epochs=1, augmentation="strong", cutmix=0.0)
    settings = read_header(result["model"]).recipe
    expected = {
        **PRESETS["strong"].strengths,
        "cutmix": 0.0,
        "mixup": 0.0,
        "augment": True,
        "hue": 0.0,
        "saturation": 0.0,
    }
    assert settings["augmentation"] == "strong" and {name: settings[name] for name in expected} == expected
    told = [line for line in reporter.logs if "AUGMENTATION is strong: ROTATION 45" in line or "HUE" in line]
    assert len(told) == 2 and "HUE" not in told[1] and "not red, green and blue" in told[0]


def test_a_fold_validates_while_the_others_train(tmp_path):
    chips = write_chip_folder(tmp_path / "chips", {"training": 5, "validation": 1, "test": 2}, size=32, folds=3)
    result = train_quickly(chips, tmp_path, epochs=1, fold=2, report=str(tmp_path / "report.html"))
    header = read_header(result["model"])
    assert np.sum(header.metrics["validation"]["confusion_matrix"]) == 2 * 32 * 29
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "4 training, 2 validation, 2 test (fold 2 validates)" in page


# What cannot work is refused before the first chip is read.


@pytest.fixture
def nothing_read(monkeypatch):
    def read(*_):
        raise AssertionError("a chip was read")

    monkeypatch.setattr(ChipReader, "read", read)


def test_one_class_only_is_refused(tmp_path, nothing_read):
    chips = write_chip_folder(tmp_path / "chips", {"training": 3}, only=20)
    with pytest.raises(InputError, match=r'3 training chips.*only the class "field"'):
        train_quickly(chips, tmp_path)


def test_a_dataset_without_training_chips_is_refused(tmp_path, nothing_read):
    chips = write_chip_folder(tmp_path / "chips", {"test": 3})
    with pytest.raises(InputError, match="no labelled pixel"):
        train_quickly(chips, tmp_path)


def test_chips_that_the_networks_cannot_take_are_refused(tmp_path, nothing_read):
    chips = write_chip_folder(tmp_path / "chips", {"training": 3}, size=24)
    with pytest.raises(InputError, match=r"24 × 24.*CHIP_SIZE 32"):
        train_quickly(chips, tmp_path)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a chip dataset"):
        train_quickly(str(tmp_path), tmp_path)


def test_weights_that_do_not_fit_are_refused(chips, tmp_path, nothing_read):
    save_file(create_encoder("resnet18", 3).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="weights of resnet18: choose that as ENCODER"):
        train_quickly(chips, tmp_path, encoder_weights=str(tmp_path / "other.safetensors"))


def test_an_output_below_a_file_is_refused(chips, tmp_path, nothing_read):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        train_quickly(chips, tmp_path, output=str(tmp_path / "file/model.safetensors"))


def test_networks_that_do_not_fit_are_refused_early_and_any_encoder_of_timm_is_trained(chips, tmp_path):
    with pytest.raises(InputError, match="pan needs an encoder whose last stages can be dilated, and those of swin_t"):
        train_quickly(chips, tmp_path, architecture="pan", encoder="swin_t")
    with pytest.raises(InputError, match="The decoder of fcn8s has no DECODER_WIDTH"):
        train_quickly(chips, tmp_path, decoder_width=0.5)
    with pytest.raises(InputError, match="no name of a network in timm"):
        train_quickly(chips, tmp_path, timm_encoder="hf-hub:timm/resnet18")
    shape = {"architecture": "linknet", "timm_encoder": "mobilenetv4_conv_small_035", "normalization": "group"}
    result = train_quickly(chips, tmp_path, epochs=1, **shape)
    network, header = load_model(result["model"])
    assert (header.encoder, header.arguments) == ("timm:mobilenetv4_conv_small_035", {"normalization": "group"})
    assert header.whole_window and any(isinstance(part, torch.nn.GroupNorm) for part in network.decoder.modules())
