import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from heard import Heard
from safetensors.torch import load_file, save_file
from scene_folder import write_scene_folder

from plugin.engine.chips.dataset import DatasetInfo, open_dataset
from plugin.engine.config import TrainClassifierConfig
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.decision import choose_class, choose_labels
from plugin.engine.models.header import read_header
from plugin.engine.models.model_file import load_classifier
from plugin.engine.models.normalisation import Normaliser
from plugin.engine.models.weights_file import Weights
from plugin.engine.recipe.sampling import SamplingSettings
from plugin.engine.training import loop
from plugin.engine.training import train_classifier as job
from plugin.engine.training.augmentation import augment
from plugin.engine.training.augmentation.augment import STEPS
from plugin.engine.training.chips import SceneReader
from plugin.engine.training.classification import ClassificationTask, MultilabelTask
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.train_classifier import train_classifier

CPU = torch.device("cpu")
SPLITS = {"training": 24, "validation": 9, "test": 9}
TWO = [(0, "other", "#cccccc"), (1, "building", "#ff0000")]


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_scene_folder(tmp_path_factory.mktemp("dataset") / "chips", SPLITS)


def config(chips, tmp_path, **changes):
    quick = {"architecture": "lecture_cnn", "epochs": 2, "batch_size": 8, "device": "cpu", "learning_rate": 1e-2}
    given = {"chips": chips, "output": str(tmp_path / "model.safetensors"), **quick, **changes}
    return TrainClassifierConfig.from_json(given)


def train_quickly(chips, tmp_path, reporter=None, **changes):
    return train_classifier(config(chips, tmp_path, **changes), reporter or Heard())


@pytest.fixture(scope="module")
def trained(chips, tmp_path_factory):
    folder, reporter = tmp_path_factory.mktemp("trained"), Heard()
    result = train_quickly(chips, folder, reporter, epochs=8, report=str(folder / "report.html"))
    return result, reporter


# What is learned


def test_a_network_learns_one_of_three_classes(trained):
    result, reporter = trained
    assert result["test"]["overall_accuracy"] > 0.8 and result["validation"]["mean_f1"] > 0.8
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [record["epoch"] for record in reporter.epochs] == list(range(1, 9))
    for record in reporter.epochs:
        for split in ("training", "validation"):
            assert {"loss", "overall_accuracy", "top", "mean_f1", "precision", "recall"} <= set(record[split])
            assert set(record[split]["top"]) == {"2"}


def test_a_network_learns_several_labels_a_chip(tmp_path):
    chips = write_scene_folder(tmp_path / "chips", {"training": 48, "validation": 16, "test": 16}, "multilabel")
    result = train_quickly(chips, tmp_path, epochs=12, report=str(tmp_path / "report.html"))
    assert result["test"]["mean_average_precision"] > 0.85 and result["test"]["label_accuracy"] > 0.75
    assert len(result["test"]["average_precision"]) == 3
    header = read_header(result["model"])
    assert header.task == "multilabel" and header.threshold == 0.5 and "confusion_matrix" not in header.metrics["test"]


def test_two_classes_are_told_apart_from_a_threshold_on(tmp_path):
    chips = write_scene_folder(tmp_path / "chips", SPLITS, classes=TWO)
    found = {
        threshold: train_quickly(chips, tmp_path, epochs=1, threshold=threshold)["test"]
        for threshold in (0.0, None, 1.0)
    }
    assert found[0.0]["recall"] == [0.0, 1.0] and found[1.0]["recall"] == [1.0, 0.0]
    assert found[None]["top"] == {} and found[0.0]["loss"] == found[None]["loss"]
    assert read_header(str(tmp_path / "model.safetensors")).threshold == 1.0


def test_chips_of_four_bands_of_16_bits_with_nodata_are_learned_from(tmp_path):
    chips = write_scene_folder(tmp_path / "chips", SPLITS, bands=4, dtype="int16", nodata=-9999, size=40)
    assert train_quickly(chips, tmp_path, epochs=8)["test"]["overall_accuracy"] > 0.8
    assert read_header(str(tmp_path / "model.safetensors")).nodata == -9999


def test_the_model_file_holds_what_was_tested_and_how_it_was_made(trained, chips):
    result, _ = trained
    network, header = load_classifier(result["model"])
    dataset = open_dataset(chips)
    images, targets = SceneReader(dataset).read(dataset.indices("test"))
    logits = network(Normaliser(header.mean, header.std, CPU)(images))
    right = (logits.argmax(1) == targets).double().mean().item()
    assert right == pytest.approx(result["test"]["overall_accuracy"])
    assert header.finished and header.task == "classification" and header.threshold is None
    assert header.arguments["filters"] == [8, 16, 32, 64] and header.placement == {"method": "grid"}
    assert np.sum(header.metrics["test"]["confusion_matrix"]) == 9
    assert header.recipe["freeze"] == "none" and header.recipe["encoder_rate"] == 1.0


def test_the_shape_of_a_teaching_network_is_a_setting(chips, tmp_path):
    train_quickly(chips, tmp_path, epochs=1, filters=(4, 8), hidden_sizes=(), kernel_size=5, activation="prelu")
    network, header = load_classifier(str(tmp_path / "model.safetensors"))
    assert header.arguments["filters"] == [4, 8] and header.arguments["hidden_sizes"] == []
    assert [module.kernel_size for module in network.modules() if isinstance(module, torch.nn.Conv2d)] == [(5, 5)] * 2


def test_the_summary_of_the_layers_stands_in_the_log(trained):
    text = "\n".join(trained[1].logs)
    assert "output shape" in text and "8 × 32 × 32" in text and "3 × 32 × 32 → 3: 41,539 parameters" in text


def test_folds_take_turns_in_validation(tmp_path):
    chips = write_scene_folder(tmp_path / "chips", SPLITS, folds=3)
    dataset = open_dataset(chips)
    for fold in (1, 3):
        result = train_quickly(chips, tmp_path, epochs=1, fold=fold)
        held = read_header(result["model"])
        matrix = np.array(held.metrics["validation"]["confusion_matrix"])
        assert matrix.sum() == (dataset.folds == fold).sum() == 11
        assert matrix.sum(axis=0).tolist() == dataset.shown[dataset.folds == fold].sum(axis=0).tolist()
        assert np.sum(held.metrics["test"]["confusion_matrix"]) == 9
    with pytest.raises(InputError, match=r"FOLD is 4.*3 folds"):
        train_quickly(chips, tmp_path, fold=4)


def test_without_validation_chips_the_lowest_training_loss_is_kept(tmp_path):
    reporter = Heard()
    result = train_quickly(write_scene_folder(tmp_path / "chips", {"training": 12}), tmp_path, reporter)
    losses = [record["training"]["loss"] for record in reporter.epochs]
    assert result["best_epoch"] == 1 + int(np.argmin(losses)) and result["validation"] is result["test"] is None
    assert "no validation chips" in reporter.warnings[0]


def figures(chips, f1, loss, precision=None):
    return {"chips": chips, "mean_f1": f1, "loss": loss, "mean_average_precision": precision}


def test_of_epochs_with_the_same_score_the_one_with_the_lower_loss_is_best():
    score = ClassificationTask.score
    assert score(None, figures(100, 0.9, 2.0)) > score(None, figures(100, 0.8, 1.0))
    assert score(None, figures(100, 0.9, 1.0)) > score(None, figures(100, 0.9, 2.0))
    score = MultilabelTask.score
    assert score(None, figures(100, 0.1, 2.0, 0.9)) > score(None, figures(100, 0.9, 1.0, 0.8))
    assert score(None, figures(100, 0.1, 1.0, 0.9)) > score(None, figures(100, 0.1, 2.0, 0.9))
    assert score(None, figures(100, 0.1, 1.0)) > score(None, figures(100, 0.9, 2.0))


def test_of_few_validation_chips_the_lower_loss_is_best(chips, tmp_path):
    for task in (ClassificationTask, MultilabelTask):
        assert task.score(None, figures(5, 0.1, 1.0, 0.1)) > task.score(None, figures(5, 0.9, 1.1, 0.9))
    reporter = Heard()
    result = train_quickly(chips, tmp_path, reporter, epochs=3)
    losses = [record["validation"]["loss"] for record in reporter.epochs]
    assert reporter.epochs[0]["validation"]["chips"] < 30 and result["best_epoch"] == 1 + int(np.argmin(losses))


def test_a_seed_means_the_same_training_also_with_chips_on_disk(chips, tmp_path, monkeypatch):
    settings = {"epochs": 1, "scale_jitter": 0.4, "radiometric_jitter": 0.2}
    first, again, other = (train_quickly(chips, tmp_path, seed=seed, **settings) for seed in (1, 1, 2))
    assert first["validation"] == again["validation"] != other["validation"]
    monkeypatch.setattr("plugin.engine.training.train.choose_place", lambda *_: None)
    settings["cache_folder"] = str(tmp_path / "cache")
    assert train_quickly(chips, tmp_path, seed=1, **settings)["validation"] == first["validation"]


def test_augmentation_is_only_for_training(chips, tmp_path, monkeypatch):
    seen = dict.fromkeys(STEPS, 0)

    def counted(step):
        def count(shape, *rest):
            seen[step] += shape[0]
            return step(shape, *rest)

        return count

    # Another table: in the same one, the steps would have another order after this test.
    monkeypatch.setattr(augment, "STEPS", {counted(step): names for step, names in STEPS.items()})
    train_quickly(chips, tmp_path, epochs=1)
    assert {step.__name__: chips for step, chips in seen.items() if chips} == {"move": 24}
    train_quickly(chips, tmp_path, epochs=1, augment=False, noise=0.3)
    assert {step.__name__: chips for step, chips in seen.items() if chips} == {"move": 24, "add_noise": 24}


# Pretrained weights and freezing


def encoder_of(path):
    return {key: value for key, value in load_file(path).items() if "output" not in key}


@pytest.fixture
def start(chips, tmp_path):
    """The weights of a network that has seen other chips."""
    network = create_classifier("lecture_cnn", 3, 5, 32)
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm1d)):
            module.running_mean.normal_(0, 0.1)
    path = tmp_path / "start.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return str(path)


def test_a_frozen_encoder_stays_as_it_was_and_the_output_layer_learns(chips, tmp_path, start):
    reporter = Heard()
    result = train_quickly(chips, tmp_path, reporter, encoder_weights=start, freeze="encoder", epochs=3)
    before, after = encoder_of(start), encoder_of(result["model"])
    assert all(torch.equal(before[key], value) for key, value in after.items())
    losses = [record["training"]["loss"] for record in reporter.epochs]
    assert losses[-1] < losses[0]
    text = "\n".join(reporter.logs)
    assert "learns throughout" in text and "of which 41,344 are frozen" in text


def test_after_the_warm_up_the_encoder_learns_too(chips, tmp_path, start, monkeypatch):
    states = []
    evaluate = loop.evaluate

    def look(network, *rest):
        states.append({key: value.clone() for key, value in network.state_dict().items() if "output" not in key})
        return evaluate(network, *rest)

    monkeypatch.setattr(loop, "evaluate", look)
    reporter = Heard()
    train_quickly(chips, tmp_path, reporter, encoder_weights=start, freeze_epochs=2, epochs=4)
    before = encoder_of(start)
    same = [all(torch.equal(before[key], value) for key, value in state.items()) for state in states[:4]]
    assert same == [True, True, False, False]
    assert "Only the output layer learns for 2 of 4 epochs" in "\n".join(reporter.logs)


def test_pretrained_weights_bring_a_warm_up_and_a_slower_encoder_by_themselves(chips, tmp_path, start):
    train_quickly(chips, tmp_path, encoder_weights=start, epochs=8)
    settings = read_header(str(tmp_path / "model.safetensors")).recipe
    assert (settings["freeze"], settings["freeze_epochs"], settings["encoder_rate"]) == ("warm_up", 1, 0.5)
    train_quickly(chips, tmp_path, encoder_weights=start, epochs=1, freeze="none", encoder_rate=0.5)
    settings = read_header(str(tmp_path / "model.safetensors")).recipe
    assert (settings["freeze"], settings["freeze_epochs"], settings["encoder_rate"]) == ("none", None, 0.5)


def test_freezing_random_weights_is_done_with_a_warning(chips, tmp_path):
    reporter = Heard()
    train_quickly(chips, tmp_path, reporter, freeze="encoder", epochs=1)
    assert reporter.warnings[0] == "FREEZE is encoder, and the encoder that is frozen has random weights."


def test_a_warm_up_that_does_not_happen_is_told(chips, tmp_path):
    reporter = Heard()
    train_quickly(chips, tmp_path, reporter, epochs=1, freeze_epochs=3)
    assert "FREEZE_EPOCHS 3 has no effect: FREEZE is none, and there is no warm-up." in reporter.warnings


def test_weights_are_downloaded_only_at_the_users_word(chips, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(job, "describe_download", lambda name: f"Downloading {name}")
    monkeypatch.setattr(
        job, "download_classifier",
        lambda name: asked.append(name) or Weights(create_classifier(name, 3, 9, 32).state_dict(), "the hub"),
    )  # fmt: skip
    train_quickly(chips, tmp_path, architecture="mobilenet_v3_small", epochs=1)
    assert not asked
    reporter = Heard()
    train_quickly(chips, tmp_path, reporter, architecture="mobilenet_v3_small", epochs=1, download_weights=True)
    assert asked == ["mobilenet_v3_small"] and "Downloading mobilenet_v3_small" in reporter.logs


def test_real_weights_are_a_good_start(shared_weights, shared_data, tmp_path):
    from plugin.engine.chips.formats.importing import import_chips
    from plugin.engine.config import ImportChipsConfig

    source = tmp_path / "photographs"
    for name in ("forest", "parking"):
        (source / name).mkdir(parents=True)
        for path in sorted((shared_data / "scene_photos" / name).iterdir())[:30]:
            shutil.copy(path, source / name)
    import_chips(ImportChipsConfig(str(source), str(tmp_path / "chips"), folder_format="imagenet"), Heard())
    weights = str(shared_weights / "tf_efficientnet_lite0_imagenet.safetensors")
    settings = {"architecture": "efficientnet_lite0", "encoder_weights": weights, "freeze": "encoder"}
    result = train_quickly(str(tmp_path / "chips"), tmp_path, **settings, epochs=2)
    assert result["validation"]["overall_accuracy"] >= 0.8 and result["test"]["overall_accuracy"] >= 0.8


# How a job ends


def test_nothing_but_model_and_report_is_left(trained):
    folder = Path(trained[0]["model"]).parent
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "report.html"]
    assert trained[1].fractions == sorted(trained[1].fractions) and trained[1].fractions[-1] == 1


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
        train_quickly(chips, tmp_path, reporter, epochs=5, report=str(tmp_path / "report.html"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_text() == "the old one"


@pytest.mark.parametrize("epochs_told", [1, 5])
def test_an_orphan_leaves_its_best_as_a_checkpoint(chips, tmp_path, epochs_told):
    reporter = Heard()
    reporter.orphaned_at = epochs_told
    with pytest.raises(Cancelled):
        train_quickly(chips, tmp_path, reporter, epochs=5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.checkpoint.safetensors"]
    _, header = load_classifier(str(tmp_path / "model.checkpoint.safetensors"))
    assert not header.finished and len(header.history) == epochs_told


def test_a_lack_of_memory_for_one_chip_says_what_helps(chips, tmp_path, monkeypatch):
    def lack(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ClassificationTask, "prepare", lack)
    with pytest.raises(ResourceError, match=r"a single chip of 32 × 32 pixels.*a smaller BATCH_SIZE does not help"):
        train_quickly(chips, tmp_path)


def test_automatic_epochs_are_told(chips, tmp_path):
    reporter = Heard()
    reporter.finish_at = 1
    train_quickly(chips, tmp_path, reporter, epochs=None)
    assert "EPOCHS is automatic: 100 for 24 training chips in lecture_cnn." in reporter.logs
    assert reporter.epochs[0]["epochs"] == 100


# What cannot work is refused before the first chip is read.


@pytest.fixture
def nothing_read(monkeypatch):
    def read(*_):
        raise AssertionError("a chip was read")

    monkeypatch.setattr(SceneReader, "read", read)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("segmentation", "for segmentation.*TASK classification or multilabel.*segmentation network"),
        ("regression", "for regression.*segmentation network.*chip_regression"),
        ("unlabelled", "for unlabelled.*no labels"),
    ],
)
def test_chips_for_another_task_are_refused(tmp_path, nothing_read, task, words):
    chips = Path(write_scene_folder(tmp_path / "chips", {"training": 4}))
    values = json.loads((chips / "dataset.json").read_text())
    (chips / "dataset.json").write_text(json.dumps({**values, "task": task}))
    with pytest.raises(InputError, match=words):
        train_quickly(str(chips), tmp_path)


def test_one_class_only_is_refused(tmp_path, nothing_read):
    chips = write_scene_folder(tmp_path / "chips", {"training": 3}, shown=["20"] * 3)
    with pytest.raises(InputError, match=r'3 training chips.*only the class "field"'):
        train_quickly(chips, tmp_path)


def test_several_labels_that_never_differ_are_refused(tmp_path, nothing_read):
    chips = write_scene_folder(tmp_path / "chips", {"training": 3}, "multilabel", shown=["10,30"] * 3)
    with pytest.raises(InputError, match="all show the same classes"):
        train_quickly(chips, tmp_path)


def test_chips_without_a_class_are_left_out_and_absent_classes_told(tmp_path):
    shown = ["10", "20", "", "10", "20", "20", "10"]
    chips = write_scene_folder(tmp_path / "chips", {"training": 5, "validation": 2}, shown=shown)
    reporter = Heard()
    train_quickly(chips, tmp_path, reporter, epochs=1)
    assert "1 of 5 training chips have no class and are left out." in reporter.logs
    assert "No training chip shows forest: the network cannot learn it." in reporter.warnings


def test_a_chip_that_shows_none_of_several_classes_is_learned_from(tmp_path):
    chips = write_scene_folder(tmp_path / "chips", {"training": 4}, "multilabel", shown=["10", "", "10,20", "20,30"])
    reporter = Heard()
    train_quickly(chips, tmp_path, reporter, epochs=1)
    assert not [text for text in reporter.logs if "left out" in text]


def test_chips_too_small_for_the_network_are_refused(chips, tmp_path, nothing_read):
    with pytest.raises(InputError, match=r"32 × 32 pixels; alexnet needs 63 × 63"):
        train_quickly(chips, tmp_path, architecture="alexnet")


def test_a_threshold_for_one_of_three_classes_is_refused(chips, tmp_path, nothing_read):
    with pytest.raises(InputError, match=r"THRESHOLD is 0\.7, and each chip has one of 3 classes"):
        train_quickly(chips, tmp_path, threshold=0.7)


def test_the_shape_of_a_fixed_network_cannot_be_set(chips, tmp_path, nothing_read):
    with pytest.raises(InputError, match=r"resnet18 has no FILTERS"):
        train_quickly(chips, tmp_path, architecture="resnet18", filters=(8, 16))


def test_weights_of_another_network_are_refused(chips, tmp_path, start, nothing_read):
    with pytest.raises(InputError, match=r"start\.safetensors does not fit mobilenet_v3_small"):
        train_quickly(chips, tmp_path, architecture="mobilenet_v3_small", encoder_weights=start)


def test_an_output_below_a_file_is_refused(chips, tmp_path, nothing_read):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        train_quickly(chips, tmp_path, output=str(tmp_path / "file/model.safetensors"))


# The tasks by themselves


def info(task="classification"):
    return DatasetInfo(
        task=task, band_names=("a",), bands=(1,), dtype="uint8", nodata=None, chip_size=8, stride=8, crs="",
        pixel_size=1, classes=(), label_nodata=None, sources=(), split={}, mean=(0.0,), std=(1.0,), minimum=(0.0,),
        maximum=(1.0,), chip_counts={}, pixel_counts={},
    )  # fmt: skip


def test_rare_classes_weigh_as_the_settings_say(tmp_path):
    drawn = Sampling(SamplingSettings(), info(), np.array([[True, False]] * 9 + [[False, True]]))
    for kind, ratio in (("none", 1), ("root", 3), ("balanced", 9)):
        settings = config("", tmp_path, class_weights=kind)
        weights = ClassificationTask(info(), drawn, settings, CPU).loss.terms[0][2]
        assert (weights[1] / weights[0]).item() == pytest.approx(ratio)
        yes = MultilabelTask(info("multilabel"), drawn, settings, CPU).loss.terms[0][2]
        assert yes.tolist() == pytest.approx([1 / ratio, ratio])


def test_the_loss_is_torchs_with_weights_and_smoothing(tmp_path):
    drawn = Sampling(SamplingSettings(), info(), np.array([[True, False]] * 9 + [[False, True]]))
    settings = config("", tmp_path, label_smoothing=0.2, class_weights="root")
    logits = torch.randn(6, 2)
    one = ClassificationTask(info(), drawn, settings, CPU)
    several = MultilabelTask(info("multilabel"), drawn, settings, CPU)
    targets = torch.tensor([0, 1, 0, 1, 1, 0], dtype=torch.uint8)
    loss, _ = one.loss(logits, targets)
    weights = one.loss.terms[0][2]
    expected = torch.nn.functional.cross_entropy(logits, targets.long(), weights, label_smoothing=0.2)
    assert torch.allclose(loss, expected)
    yes = torch.randint(0, 2, (6, 2))
    loss, _ = several.loss(logits, yes.to(torch.uint8))
    costs = torch.nn.functional.binary_cross_entropy_with_logits(logits, yes * 0.8 + 0.1, reduction="none")
    each = torch.where(yes > 0, several.loss.terms[0][2], torch.tensor(1.0))
    assert torch.allclose(loss, (costs * each).sum() / each.sum())


def test_answers_follow_from_probabilities_and_threshold():
    two = np.array([[0.6, 0.4], [0.2, 0.8]])
    assert choose_class(two).tolist() == [0, 1] and choose_class(two, 0.3).tolist() == [1, 1]
    three = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3]])
    assert choose_class(three, 0.5).tolist() == [0, 255]
    assert choose_labels(three).tolist() == [[True, False, False], [False] * 3]
    assert choose_labels(three, 0.3).sum() == 5
