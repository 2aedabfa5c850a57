import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from osgeo import gdal

from plugin.engine import device
from plugin.engine.assessment import confusion
from plugin.engine.chips.dataset import open_dataset
from plugin.engine.classes import IGNORE_INDEX
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.device import choose_device, describe_device, explain_memory, free_memory
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.events import Stage
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.cost import work_per_chip
from plugin.engine.models.normalisation import Normaliser
from plugin.engine.recipe.fine_tuning import FineTuningSettings
from plugin.engine.recipe.sampling import SamplingSettings
from plugin.engine.recipe.schedule import (
    ScheduleSettings,
    automatic_classifier_epochs,
    automatic_epochs,
    one_cycle,
)
from plugin.engine.training.chips import ChipReader, StreamedChips, choose_place, in_order, load_chips, shuffled
from plugin.engine.training.early_checks import check_segmenter
from plugin.engine.training.plan import FineTuning
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.tally import PixelTally, or_worst

CPU = torch.device("cpu")


def of(chips):
    return Sampling(SamplingSettings(), SimpleNamespace(classes=None), np.ones((chips, 1)))


def chips_of(folder, keep, **settings):
    dataset = open_dataset(write_chip_folder(folder, {"training": 7, "validation": 2}, size=32, **settings))
    reader = ChipReader(dataset)
    places = dataset.indices("training")
    if keep is None:
        return StreamedChips(reader, places, CPU)
    return load_chips(reader, places, CPU, keep, Stage(Heard(), 7, "Reading chips"))


def test_chips_in_memory_and_on_disk_give_the_same_batches(tmp_path):
    kept, streamed = chips_of(tmp_path / "kept", CPU), chips_of(tmp_path / "streamed", None)
    assert type(kept) is not type(streamed) and len(kept) == len(streamed) == 7
    for epoch in (1, 2):
        orders = shuffled(of(7), 2, seed=5, epoch=epoch)
        pairs = list(zip(kept.batches(orders), streamed.batches(orders)))
        assert len(pairs) == 4
        for ours, theirs in pairs:
            assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_chips_too_small_are_refused_before_torch_is_there_with_a_size_to_take(tmp_path):
    for size, fits in ((32, contextlib.nullcontext()), (31, pytest.raises(InputError, match=r"31 × 31.*CHIP_SIZE 32"))):
        folder = write_chip_folder(tmp_path / str(size), {"training": 1, "validation": 1}, size=size)
        with fits:
            config = TrainSegmenterConfig(chips=str(folder), output=str(tmp_path / "m.safetensors"))
            check_segmenter(config, config.chips, open_dataset(folder).info)


def test_a_chip_without_a_mask_is_named(tmp_path):
    dataset = open_dataset(write_chip_folder(tmp_path / "chips", {"training": 2, "validation": 1}, size=32))
    labels = dataset.labels.copy()
    labels[1] = ""
    with pytest.raises(InputError, match=r"chip images/\S+ has no mask"):
        ChipReader(dataclasses.replace(dataset, labels=labels)).read([0, 1])


def test_masks_are_indices_and_unlabelled_pixels_are_ignored(tmp_path):
    _, masks = next(iter(chips_of(tmp_path / "chips", CPU).batches([np.arange(7)])))
    assert masks.dtype == torch.uint8 and set(masks.unique().tolist()) == {0, 1, 2, IGNORE_INDEX}
    assert (masks[:, :3] == IGNORE_INDEX).all() and (masks[:, 3:] != IGNORE_INDEX).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_values_survive_in_every_data_type(tmp_path, dtype):
    chips = chips_of(tmp_path / "chips", CPU, dtype=dtype, bands=5)
    images, _ = next(iter(chips.batches([np.array([2])])))
    truth = gdal.Open(str(tmp_path / "chips/images/2.tif")).ReadAsArray()
    assert truth.dtype == dtype and np.array_equal(images[0].numpy(), truth)


def test_a_stopped_reader_leaves_no_thread_waiting(tmp_path):
    batches = chips_of(tmp_path / "chips", None).batches(in_order(7, 1))
    next(batches)
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


def test_reading_can_be_cancelled(tmp_path):
    dataset = open_dataset(write_chip_folder(tmp_path / "chips", {"training": 3}, size=32))
    reporter = Heard()
    reporter.cancel_at = 0
    with pytest.raises(Cancelled):
        load_chips(ChipReader(dataset), dataset.indices("training"), CPU, CPU, Stage(reporter, 3, "Reading chips"))


@pytest.mark.parametrize("harm", ["remove", "truncate", "resize"])
def test_a_damaged_chip_is_named(tmp_path, harm):
    dataset = open_dataset(write_chip_folder(tmp_path / "chips", {"training": 3}, size=32))
    path = tmp_path / "chips/images/1.tif"
    if harm == "remove":
        path.unlink()
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[:300])
    else:
        gdal.Translate(str(path), str(tmp_path / "chips/images/0.tif"), srcWin=[0, 0, 20, 32])
    with pytest.raises(InputError, match=r"1\.tif"):
        ChipReader(dataset).read([0, 1, 2])


def test_no_batch_is_left_with_a_single_chip():
    assert [len(batch) for batch in in_order(9, 4)] == [3, 3, 3]
    assert sorted(np.concatenate(shuffled(of(9), 4, 0, 1))) == list(range(9))
    assert in_order(0, 4) == []


def test_the_order_follows_from_seed_and_epoch():
    first, again, next_epoch, other = (
        np.concatenate(shuffled(of(50), 8, seed, epoch)) for seed, epoch in ((1, 1), (1, 1), (1, 2), (2, 1))
    )
    assert (first == again).all() and (first != next_epoch).any() and (first != other).any()


def test_chips_that_do_not_fit_stay_on_disk_and_it_is_said():
    reporter = Heard()
    assert choose_place(1000, CPU, reporter) == CPU and not reporter.logs
    assert choose_place(10**18, CPU, reporter) is None and "stay on disk" in reporter.logs[0]


def test_the_tally_counts_as_numpy_does():
    tally = PixelTally(3, CPU)
    expected = np.zeros((3, 3), int)
    for _ in range(2):
        logits, targets = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5), dtype=torch.uint8)
        targets[0, 0] = IGNORE_INDEX
        tally.add(logits, targets, torch.tensor(1.5), torch.tensor(4.0))
        expected += confusion.confusion_matrix(logits.argmax(1).numpy(), targets.numpy(), 3)
    assert (tally.matrix() == expected).all() and expected.sum() == 90
    assert tally.figures()["loss"] == 1.5


@pytest.mark.parametrize("classes", [2, 5, 254])
def test_the_tally_knows_each_pair_of_classes_from_what_has_no_label_or_no_answer(classes):
    answers = torch.cat([torch.arange(classes), torch.tensor([-1])])  # the last one: no number
    logits = torch.eye(classes)[answers].T.reshape(1, classes, 1, -1).repeat(1, 1, classes + 1, 1)
    logits[..., -1] = torch.inf
    targets = torch.cat([torch.arange(classes), torch.tensor([IGNORE_INDEX])]).to(torch.uint8)
    tally = PixelTally(classes, CPU)
    tally.count(logits, targets[None, :, None].expand(1, classes + 1, classes + 1))
    assert (tally.matrix() == 1).all() and tally.counts[-1] == 2 * classes + 1


def test_an_answer_that_is_no_number_is_none():
    tally = PixelTally(2, CPU)
    logits = torch.tensor([[1.0, float("nan"), 1.0], [0.0, 0.0, 2.0]]).reshape(1, 2, 1, 3)
    targets = torch.tensor([[[0, 0, 1]]], dtype=torch.uint8)
    tally.add(logits, targets, torch.tensor(float("nan")), torch.tensor(3.0))
    assert tally.matrix().tolist() == [[1, 0], [0, 1]]
    assert not tally.totals().isfinite().all() and tally.labelled and tally.figures()["loss"] is None


def test_what_has_no_label_has_no_loss():
    tally = PixelTally(2, CPU)
    tally.add(torch.zeros(1, 2, 1, 1), torch.full((1, 1, 1), IGNORE_INDEX), torch.tensor(0.0), torch.tensor(0.0))
    figures = tally.figures()
    assert not tally.labelled and tally.totals().isfinite().all() and figures["loss"] is figures["mean_iou"] is None


def test_an_epoch_without_a_number_is_the_worst():
    assert or_worst(None) == or_worst(None, -1) < or_worst(0.3, -1) < or_worst(0.2, -1) < or_worst(0.1)


def test_one_cycle_rises_to_the_peak_and_falls_to_nearly_nothing():
    rates = [2 * one_cycle(step, 101, ScheduleSettings()) for step in range(101)]
    assert rates[0] == pytest.approx(2 / 25) and rates[25] == pytest.approx(2) and rates[-1] == pytest.approx(2 / 1000)
    assert (np.diff(rates[:26]) > 0).all() and (np.diff(rates[25:]) < 0).all()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_has_a_rate_for_the_shortest_training(steps):
    assert all(0 < one_cycle(step, steps, ScheduleSettings()) <= 1 for step in range(steps))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_the_shortest_training_has_one_step_at_the_peak(steps):
    rates = [one_cycle(step, steps, ScheduleSettings()) for step in range(steps)]
    assert rates[min(1, steps - 1)] == max(rates) == 1
    assert steps < 3 or rates[-1] == pytest.approx(1 / 1000)


def test_devices_are_found_by_name():
    assert choose_device("cpu") == CPU and choose_device(" CPU ") == CPU
    assert describe_device(CPU).startswith("CPU, ")
    assert free_memory(CPU) > 10**8


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "0", ""])
def test_a_device_that_is_no_name_is_refused(name):
    with pytest.raises(InputError, match="auto, cpu, cuda or cuda:n"):
        choose_device(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(ResourceError, match="cuda:1, but torch finds no GPU"):
        choose_device("cuda:1")


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("could not create a primitive")],
)
def test_a_lack_of_memory_is_explained_with_what_needed_it(error):
    with pytest.raises(ResourceError, match=r"8 chips.*free\. Halve BATCH_SIZE"), explain_memory(CPU, "8 chips"):
        raise error


def test_the_real_error_of_the_cpu_is_known():
    with pytest.raises(ResourceError), explain_memory(CPU, "a giant"):
        torch.empty(2**50)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), explain_memory(CPU, "8 chips"):
        raise RuntimeError("shape")
    with contextlib.suppress(Cancelled), explain_memory(CPU, "8 chips"):
        raise Cancelled


def test_a_control_group_limits_the_memory(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "memory.stat").write_text("anon 100\nfile 300\ninactive_file 250\nactive_file 50\n")
    monkeypatch.setattr(device, "CONTROL_GROUP", tmp_path)
    assert free_memory(CPU) == 850, "files that were read give way"
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU) > 10**8


@pytest.mark.parametrize(
    ("tree", "own", "names"),
    [
        ("", "0::/job_7/step_0", ("memory.max", "memory.current", "inactive_file")),
        ("memory", "9:cpu,cpuacct:/\n4:memory:/job_7/step_0", (
            "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)  # fmt: skip
def test_the_groups_of_a_cluster_job_limit_the_memory(monkeypatch, tmp_path, tree, own, names):
    for group, most in (("", 2**63 - 4096), ("job_7", 1000), ("job_7/step_0", 5000)):
        folder = tmp_path / tree / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip((*names[:2], "memory.stat"), (most, 400, f"cache 300\n{names[2]} 250")):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(f"{own}\n")
    monkeypatch.setattr(device, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(device, "OWN_GROUPS", tmp_path / "own")
    assert free_memory(CPU) == 850, "of the job, whose step has no smaller limit"
    (tmp_path / "own").write_text("nonsense\n4:memory:/../other\n")
    assert free_memory(CPU) > 10**8


def test_a_band_that_was_constant_in_training_says_nothing_later():
    normalise = Normaliser((5.0, 0.0), (2.0, 0.0), CPU)
    assert normalise(torch.tensor([7.0, 4.0]).reshape(1, 2, 1, 1)).flatten().tolist() == [1.0, 0.0]


def test_automatic_epochs_are_few_for_many_chips_and_more_on_a_gpu():
    assert automatic_epochs(346, 256, "cpu") == 9
    assert automatic_epochs(12, 128, "cpu") == 60 and automatic_epochs(1_000_000, 256, "cuda") == 8
    assert automatic_epochs(346, 256, "cuda") > automatic_epochs(346, 256, "cpu")


def test_automatic_epochs_of_a_classifier_follow_from_chips_network_and_start():
    def work(name, size, batch_size=16):
        return work_per_chip(lambda: create_classifier(name, 3, 7, size), 3, size, batch_size)

    light, deep = work("efficientnet_lite0", 224), work("resnet50", 224)
    assert work("lecture_cnn", 64) < light < deep < work("resnet50", 320)
    assert work("vit_b_16", 32, 1) > 4 * work("vit_b_16", 32) > 1.5 * 4 * work("vit_b_16", 32, 10**6)
    epochs = [automatic_classifier_epochs(490, some, "cpu", False, 16) for some in (light, deep)]
    assert 12 <= epochs[0] <= 24 and epochs[1] == 8
    assert automatic_classifier_epochs(80, light, "cpu", False, 16) == 60
    assert automatic_classifier_epochs(240, light, "cpu", True, 16) == 20
    assert automatic_classifier_epochs(490, deep, "cuda", False, 16) > epochs[1]
    assert automatic_classifier_epochs(22, work("efficientnet_lite0", 32), "cpu", True, 16) == 150  # of two steps each
    frozen = [FineTuningSettings().settled(epochs, True)["freeze_epochs"] for epochs in (1, 8, 16, None)]
    assert frozen == [1, 1, 2, 1]


def test_a_plan_says_what_learns_when_and_what_it_costs():
    network = create_classifier("lecture_cnn", 3, 4, 32)
    settled = FineTuningSettings(freeze="warm_up", freeze_epochs=2, encoder_rate=0.1)
    plan = FineTuning(network, settled)
    groups = plan.groups(0.05)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    found = {(group["rate"], group["first_epoch"], group["weight_decay"]) for group in groups}
    assert found == {(0.1, 3, 0.05), (0.1, 3, 0.0), (1.0, 1, 0.05), (1.0, 1, 0.0)}
    learning = []
    for epoch in range(1, 5):
        plan.begin(epoch)
        learning.append(sum(value.requires_grad for value in network.parameters()))
    assert learning[0] == learning[1] == 2 and learning[2] == learning[3] == len(list(network.parameters()))
    assert [plan.step_cost(epoch) for epoch in range(1, 5)] == [1, 1, 3, 3]
    plan.begin(2)  # also after a later one
    assert sum(value.requires_grad for value in network.parameters()) == 2
