"""Each loss against numbers counted pixel by pixel, with pixels without a label and classes that are not there."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision

from plugin.engine.classes import IGNORE_INDEX, ClassTable
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.errors import InputError
from plugin.engine.recipe.loss import LOSSES, USUAL, LossSettings, given_weights
from plugin.engine.recipe.sampling import SamplingSettings
from plugin.engine.training.losses.cross_entropies import cross_entropy
from plugin.engine.training.losses.table import LOSS_FUNCTIONS, ChosenLoss
from plugin.engine.training.losses.weights import class_weights, loss_weights, presence_weights
from plugin.engine.training.sampling import Sampling

CPU = torch.device("cpu")
USED = LossSettings()
SMOOTH = LossSettings(label_smoothing=0.2)
OF_CLASSES = [name for name, row in LOSSES.items() if "segmentation" in row.tasks]
OF_ANSWERS = [name for name, row in LOSSES.items() if "multilabel" in row.tasks]
OF_NUMBERS = [name for name, row in LOSSES.items() if "regression" in row.tasks]
C = 4
WEIGHTS = [0.5, 1.0, 2.0, 3.0]


def loss_of(name, logits, targets, weights=None, settings=USED):
    weights = torch.ones(logits.shape[1]) if weights is None else torch.tensor(weights)
    return LOSS_FUNCTIONS[name](logits, targets, weights, settings)


def batch():
    """Logits and targets of two chips; a third of the pixels has no label, and no label is class 3."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, C, 5, 6, generator=generator)
    targets = torch.randint(0, C - 1, (2, 5, 6), generator=generator).to(torch.uint8)
    targets[torch.rand(2, 5, 6, generator=generator) < 0.3] = IGNORE_INDEX
    return logits, targets


def labelled(logits, targets):
    """(probabilities, class) of each labelled pixel, in plain Python."""
    for chip in range(len(targets)):
        for row, col in np.ndindex(*targets.shape[1:]):
            if targets[chip, row, col] != IGNORE_INDEX:
                scores = [math.exp(value) for value in logits[chip, :, row, col].tolist()]
                yield [score / sum(scores) for score in scores], int(targets[chip, row, col])


def overlap(pixels, kind, alpha, beta):
    """1 − the Tversky index of a class."""
    tp = sum(p[kind] for p, truth in pixels if truth == kind)
    fp = sum(p[kind] for p, truth in pixels if truth != kind)
    fn = sum(1 - p[kind] for p, truth in pixels if truth == kind)
    return 1 - tp / (tp + alpha * fp + beta * fn)


def over_classes(pixels, of_class):
    shown = sorted({truth for _, truth in pixels})
    return sum(WEIGHTS[kind] * of_class(kind) for kind in shown) / sum(WEIGHTS[kind] for kind in shown)


def over_pixels(pixels, cost):
    return sum(WEIGHTS[truth] * cost(p, truth) for p, truth in pixels) / sum(WEIGHTS[truth] for _, truth in pixels)


def lovasz_of(pixels, kind):
    """Pixels join in the order of their errors; each counts by what the Jaccard loss grows."""
    errors = sorted(((abs((truth == kind) - p[kind]), truth == kind) for p, truth in pixels), reverse=True)
    total, before, own, others = sum(of_class for _, of_class in errors), 0.0, 0, 0
    found = 0.0
    for error, of_class in errors:
        own, others = own + of_class, others + (not of_class)
        jaccard = 1 - (total - own) / (total + others)
        found += error * (jaccard - before)
        before = jaccard
    return found


def costliest(pixels, share):
    costs = sorted(((-WEIGHTS[truth] * math.log(p[truth]), WEIGHTS[truth]) for p, truth in pixels), reverse=True)
    taken = costs[: math.ceil(share * len(costs))]
    return sum(cost for cost, _ in taken) / sum(weight for _, weight in taken)


def unified(pixels):
    single = over_pixels(pixels, lambda p, truth: -0.6 * (1 - p[truth]) ** 0.5 * math.log(p[truth]))
    return 0.5 * single + 0.5 * over_classes(pixels, lambda kind: overlap(pixels, kind, 0.4, 0.6) ** 0.5)


def one_against_the_rest(p, truth):
    return -sum(math.log(share if kind == truth else 1 - share) for kind, share in enumerate(p)) / C


BY_HAND = {
    "cross_entropy": lambda pixels: over_pixels(pixels, lambda p, truth: -math.log(p[truth])),
    "binary_cross_entropy": lambda pixels: over_pixels(pixels, one_against_the_rest),
    "dice": lambda pixels: over_classes(pixels, lambda kind: overlap(pixels, kind, 0.5, 0.5)),
    "jaccard": lambda pixels: over_classes(pixels, lambda kind: overlap(pixels, kind, 1, 1)),
    "tversky": lambda pixels: over_classes(pixels, lambda kind: overlap(pixels, kind, 0.3, 0.7)),
    "focal": lambda pixels: over_pixels(pixels, lambda p, truth: -((1 - p[truth]) ** 2) * math.log(p[truth])),
    "focal_tversky": lambda pixels: over_classes(pixels, lambda kind: overlap(pixels, kind, 0.3, 0.7) ** 0.75),
    "unified_focal": unified,
    "ohem": lambda pixels: costliest(pixels, 0.25),
    "lovasz": lambda pixels: over_classes(pixels, lambda kind: lovasz_of(pixels, kind)),
    "symmetric_cross_entropy": lambda pixels: over_pixels(
        pixels, lambda p, truth: -0.1 * math.log(p[truth]) + 6 * (1 - p[truth])
    ),
    "generalized_cross_entropy": lambda pixels: over_pixels(pixels, lambda p, truth: (1 - p[truth] ** 0.7) / 0.7),
}


def test_each_loss_has_a_formula_and_each_task_a_usual_one():
    assert LOSS_FUNCTIONS.keys() == LOSSES.keys() and set(BY_HAND) == set(OF_CLASSES)
    assert all(LossSettings().terms(task) == [(loss, 1.0)] for task, loss in USUAL.items())


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_loss_of_pixels_is_what_is_counted_by_hand(name):
    logits, targets = batch()
    pixels = list(labelled(logits, targets))
    loss, weight = loss_of(name, logits, targets, WEIGHTS)
    assert loss.item() == pytest.approx(BY_HAND[name](pixels), rel=1e-5, abs=2e-5 if name == "lovasz" else 1e-7)
    if name in ("ohem", *(name for name, row in LOSSES.items() if row.balanced)):
        assert name == "ohem" or weight == len(pixels)
    else:
        assert weight.item() == pytest.approx(sum(WEIGHTS[truth] for _, truth in pixels))


@pytest.mark.parametrize("name", OF_CLASSES)
def test_pixels_without_a_label_are_as_if_they_were_not_there(name):
    logits, targets = batch()
    targets[:, 3:] = IGNORE_INDEX
    logits.requires_grad_()
    loss, weight = loss_of(name, logits, targets, WEIGHTS)
    loss.backward()
    without, less = loss_of(name, logits[:, :, :3], targets[:, :3], WEIGHTS)
    assert loss.item() == pytest.approx(without.item(), rel=1e-6) and weight == less
    assert logits.grad.movedim(1, -1)[targets == IGNORE_INDEX].abs().max() == 0
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_of_extreme_logits_and_no_labels_loss_and_gradient_are_numbers(name, smoothing):
    for extreme in (1.0, 1e2, 1e4):
        logits, targets = batch()
        logits = (extreme * logits.sign()).requires_grad_()
        loss, _ = loss_of(name, logits, targets, WEIGHTS, LossSettings(label_smoothing=smoothing, focal_gamma=0.5))
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()
    right = (1e4 * torch.eye(C)[torch.tensor([0, 1, 2, 0])].T[None]).requires_grad_()
    loss, _ = loss_of(name, right, torch.tensor([[0, 1, 2, 0]]), settings=LossSettings(focal_gamma=0.5))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-3) and right.grad.isfinite().all()
    logits, targets = batch()
    logits.requires_grad_()
    loss, weight = loss_of(name, logits, torch.full_like(targets, IGNORE_INDEX), WEIGHTS)
    loss.backward()
    assert (loss, weight) == (0, 0)
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", OF_ANSWERS)
def test_a_yes_or_no_is_a_choice_of_two_classes(name):
    """What several classes a chip cost is what each would as a network of two classes, yes and no, over all."""
    generator = torch.Generator().manual_seed(4)
    logits, targets = 2 * torch.randn(9, C, generator=generator), torch.randint(0, 2, (9, C), generator=generator)
    loss, _ = loss_of(name, logits, targets, WEIGHTS)
    if LOSSES[name].balanced:
        found = torch.sigmoid(logits).tolist()
        expected = sum(
            WEIGHTS[kind] * {"dice": lambda x: x, "jaccard": lambda x: x, "tversky": lambda x: x}.get(
                name, lambda x: x**0.75)(
                overlap([([p[kind], 1 - p[kind]], 1 - int(t[kind])) for p, t in zip(found, targets)], 0,
                        *{"dice": (0.5, 0.5), "jaccard": (1, 1)}.get(name, (0.3, 0.7))))
            for kind in range(C)
        ) / sum(WEIGHTS)  # fmt: skip
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        return
    answers = [
        ([1 / (1 + math.exp(-score)), 1 / (1 + math.exp(score))], 0 if yes else 1, WEIGHTS[kind] if yes else 1)
        for scores, row in zip(logits.tolist(), targets.tolist())
        for kind, (score, yes) in enumerate(zip(scores, row))
    ]
    cost = {
        "binary_cross_entropy": lambda p: -math.log(p),
        "focal": lambda p: -((1 - p) ** 2) * math.log(p),
        "symmetric_cross_entropy": lambda p: -0.1 * math.log(p) + 6 * (1 - p),
        "generalized_cross_entropy": lambda p: (1 - p**0.7) / 0.7,
        "ohem": lambda p: -math.log(p),
    }[name]
    paid = sorted(((weight * cost(p[answer]), weight) for p, answer, weight in answers), reverse=True)
    paid = paid[: math.ceil(len(paid) / 4)] if name == "ohem" else paid
    assert loss.item() == pytest.approx(sum(value for value, _ in paid) / sum(weight for _, weight in paid), rel=1e-5)


@pytest.mark.parametrize("name", OF_ANSWERS)
def test_of_extreme_answers_loss_and_gradient_are_numbers(name):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1.0]]).requires_grad_()
    for targets in ([[1, 0, 0], [0, 1, 1]], [[0, 1, 0], [1, 0, 1]], [[0, 0, 0], [0, 0, 0]]):
        loss, _ = loss_of(name, logits, torch.tensor(targets), settings=LossSettings(focal_gamma=0.5))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


def test_losses_of_libraries_say_the_same():
    logits, targets = batch()
    indices = targets.long()
    known = indices != IGNORE_INDEX
    seen = C / 3  # theirs counts a class that is not there as perfect
    theirs = {
        "dice": lambda logits, targets: smp.losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX)(logits, targets)
        * seen,
        "jaccard": lambda logits, targets: smp.losses.JaccardLoss("multiclass", classes=[0, 1, 2])(
            logits.movedim(1, -1)[known].T[None], targets[known][None]
        ),
        "tversky": lambda logits, targets: smp.losses.TverskyLoss(
            "multiclass", ignore_index=IGNORE_INDEX, alpha=0.3, beta=0.7
        )(logits, targets) * seen,
        "lovasz": smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX),
    }  # fmt: skip
    for name, expected in theirs.items():
        loss, _ = loss_of(name, logits, targets)
        assert loss.item() == pytest.approx(expected(logits, indices).item(), abs=2e-5), name
    for smoothing in (0.0, 0.2):
        loss, _ = loss_of("cross_entropy", logits, targets, WEIGHTS, LossSettings(label_smoothing=smoothing))
        expected = torch.nn.functional.cross_entropy(
            logits, indices, torch.tensor(WEIGHTS), ignore_index=IGNORE_INDEX, label_smoothing=smoothing
        )
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    answers, yes = torch.randn(7, C), torch.randint(0, 2, (7, C))
    loss, _ = loss_of("focal", answers, yes, settings=LossSettings(focal_gamma=1.5))
    expected = torchvision.ops.sigmoid_focal_loss(answers, yes.float(), alpha=-1, gamma=1.5, reduction="mean")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_becomes_of_numbers_at_their_ends():
    logits, targets = batch()

    def loss(name, **settings):
        return loss_of(name, logits, targets, WEIGHTS, LossSettings(**settings))[0].item()

    plain = loss("cross_entropy")
    assert loss("focal", focal_gamma=0) == pytest.approx(plain, rel=1e-5) == loss("ohem", ohem_share=1.0)
    assert loss("tversky", tversky_alpha=0.5, tversky_beta=0.5) == pytest.approx(loss("dice"))
    assert loss("focal_tversky", focal_tversky_gamma=1) == pytest.approx(loss("tversky"))
    assert loss("generalized_cross_entropy", generalized_q=0.01) == pytest.approx(plain, rel=0.02)
    assert loss("symmetric_cross_entropy", symmetric_alpha=1, symmetric_beta=0) == pytest.approx(plain)
    two = logits[:, :2], (targets % 2).where(targets != IGNORE_INDEX, torch.tensor(IGNORE_INDEX))
    for settings in (USED, SMOOTH):
        both = [
            loss_of(name, *two, [1.0, 3.0], settings)[0].item() for name in ("cross_entropy", "binary_cross_entropy")
        ]
        # Torch smooths a class with the weights of all.
        assert settings is SMOOTH or both[0] == pytest.approx(both[1], rel=1e-5)


def test_smoothing_spreads_a_share_of_each_label_over_the_answers_of_all_classes():
    logits, targets = batch()
    loss, _ = loss_of("binary_cross_entropy", logits, targets, WEIGHTS, SMOOTH)
    expected = over_pixels(
        list(labelled(logits, targets)),
        lambda p, truth: -sum(
            (0.9 if kind == truth else 0.1) * math.log(share) + (0.1 if kind == truth else 0.9) * math.log(1 - share)
            for kind, share in enumerate(p)
        ) / C,
    )  # fmt: skip
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_lovasz_loss_of_many_pixels_is_close_to_the_sorted_one():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 3, 90, 90, generator=generator).requires_grad_()
    targets = torch.randint(0, 3, (2, 90, 90), generator=generator)
    targets[:, :20] = IGNORE_INDEX
    loss, _ = loss_of("lovasz", logits, targets)
    (gradient,) = torch.autograd.grad(loss, logits)
    exact = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(logits, targets)
    (expected,) = torch.autograd.grad(exact, logits)
    assert loss.item() == pytest.approx(exact.item(), abs=1e-4)
    assert torch.allclose(gradient.sum((0, 2, 3)), expected.sum((0, 2, 3)), atol=1e-4)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), expected.flatten(), 0) > 0.97


def test_the_costliest_are_chosen_among_labels_alone_where_all_cost_nothing():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).expand(1, 2, 1, 40)
    targets = torch.full((1, 1, 40), IGNORE_INDEX)
    targets[..., -8:] = 0
    for share, weight in ((1.0, 8), (0.5, 4), (0.01, 1)):
        assert loss_of("ohem", logits, targets, settings=LossSettings(ohem_share=share)) == (0, weight)


def test_pixels_with_the_same_error_share_evenly_what_they_make_worse_in_the_lovasz_loss():
    targets = torch.tensor([[[0, 0, 0, 1, 1, IGNORE_INDEX]]])
    loss, _ = loss_of("lovasz", torch.zeros(1, 2, 1, 6), targets)
    assert loss.item() == pytest.approx(0.5, abs=1e-6)  # all errors are a half, and all together make it 1


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_loss_of_numbers_is_what_is_counted_by_hand(name):
    generator = torch.Generator().manual_seed(6)
    answers, targets = torch.randn(2, 1, 4, 4, generator=generator), torch.randn(2, 4, 4, generator=generator) * 3
    targets[0, :2] = math.nan
    settings = LossSettings(huber_delta=0.8)
    cost = {"mse": lambda x: x * x, "mae": abs, "huber": lambda x: x * x / 2 if x < 0.8 else 0.8 * (x - 0.4)}[name]
    misses = [abs(a - t) for a, t in zip(answers.flatten().tolist(), targets.flatten().tolist()) if t == t]
    answers.requires_grad_()
    loss, weight = loss_of(name, answers, targets, [], settings)
    assert loss.item() == pytest.approx(sum(map(cost, misses)) / len(misses), rel=1e-5) and weight == len(misses) == 24
    for values in (targets, torch.full_like(targets, math.nan)):
        loss, weight = loss_of(name, 1e4 * answers, values, [], settings)
        (gradient,) = torch.autograd.grad(loss, answers)
        assert loss.isfinite() and gradient.isfinite().all() and (gradient[0, 0, :2] == 0).all()
    assert (loss, weight) == (0, 0)


def info(task="segmentation", classes=("water", "road", "field", "Wood=old")):
    table = ClassTable.from_rows([(value + 1, name, "") for value, name in enumerate(classes)])
    return SimpleNamespace(task=task, classes=table)


def drawn(counts, **settings):
    return Sampling(SamplingSettings(**settings), info(), counts)


def test_a_sum_of_two_losses_has_the_share_of_each_and_their_own_weights():
    logits, targets = batch()
    counts = np.array([[90, 10, 5, 5], [90, 10, 5, 0]])
    settings = LossSettings(second_loss="dice", second_loss_share=0.3)
    loss, weight = ChosenLoss(settings, info(), drawn(counts), CPU)(logits, targets)
    root = class_weights(counts, "root").tolist()
    first, expected_weight = loss_of("cross_entropy", logits, targets, root)
    second, _ = loss_of("dice", logits, targets)  # which counts all classes the same by itself
    assert loss.item() == pytest.approx(0.7 * first.item() + 0.3 * second.item()) and weight == expected_weight
    even = ChosenLoss(LossSettings(loss="dice", class_weights="root"), info(), drawn(counts), CPU)
    assert even(logits, targets)[0].item() == pytest.approx(loss_of("dice", logits, targets, root)[0].item())


@pytest.mark.parametrize("name", OF_CLASSES)
def test_losses_calculate_in_32_bits_where_the_network_does_not(name):
    logits, targets = batch()
    half = logits.bfloat16()
    chosen = ChosenLoss(LossSettings(loss=name), info(), drawn(np.ones((2, C), int)), CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = chosen(half, targets)
    assert loss.dtype == torch.float32 and loss.item() == chosen(half.float(), targets)[0].item()


def test_a_loss_of_another_task_is_refused():
    with pytest.raises(InputError, match=r'LOSS is "lovasz", and the chips are for multilabel.*binary_cross_entropy'):
        LossSettings(loss="lovasz").terms("multilabel")
    with pytest.raises(InputError, match=r'SECOND_LOSS is "mse", and the chips are for segmentation.*dice'):
        LossSettings(second_loss="mse").terms("segmentation")
    with pytest.raises(InputError, match=r"CLASS_WEIGHTS is given, and the chips are for regression"):
        LossSettings(class_weights="root").check("regression", ClassTable(()))
    LossSettings(loss="huber").check("regression", ClassTable(()))


def test_class_weights_have_mean_one_and_their_powers():
    counts = [[600, 100], [300, 0]]
    assert class_weights(counts, "none").tolist() == [1, 1]
    root, balanced = class_weights(counts, "root"), class_weights(counts, "balanced")
    assert root[1] / root[0] == pytest.approx(3) and balanced[1] / balanced[0] == pytest.approx(9)
    assert root.mean() == pytest.approx(1) and balanced.mean() == pytest.approx(1)


def test_weights_by_effective_number_and_median_frequency_are_those_of_the_papers():
    counts = np.array([[600, 100, 0], [300, 0, 100]])
    found = class_weights(counts, "effective_number", 0.99)
    expected = np.array([(1 - 0.99) / (1 - 0.99**n) for n in (900, 100, 100)])
    assert found.tolist() == pytest.approx((expected / expected.mean()).tolist())
    assert class_weights(counts, "effective_number", 0).tolist() == [1, 1, 1]
    near = class_weights(counts, "effective_number", 1 - 1e-12)
    assert near.tolist() == pytest.approx(class_weights(counts, "balanced").tolist(), rel=1e-6)
    automatic = class_weights(counts, "effective_number")
    assert 1 < automatic[1] / automatic[0] < 9
    shares = np.array([900 / 1100, 100 / 700, 100 / 400])  # of the chips that show each
    expected = np.median(shares) / shares
    assert class_weights(counts, "median_frequency").tolist() == pytest.approx((expected / expected.mean()).tolist())


@pytest.mark.parametrize("kind", ["root", "balanced", "effective_number", "median_frequency"])
def test_a_class_without_pixels_weighs_one(kind):
    weights = class_weights([[900, 0, 100]], kind)
    assert weights[1] == 1 and weights[[0, 2]].mean() == pytest.approx(1)
    assert class_weights([[0, 0]], kind).tolist() == [1, 1]


def test_a_class_that_few_chips_show_weighs_more_but_never_without_bound():
    for kind in ("balanced", "median_frequency"):
        assert presence_weights([10, 50, 0, 100], 100, kind).tolist() == pytest.approx([9, 1, 1, 1])
    assert presence_weights([10], 100, "root").tolist() == pytest.approx([3])
    assert presence_weights([1], 100_000, "balanced").tolist() == [100]
    yes, no = ((1 - 0.99) / (1 - 0.99**count) for count in (10, 90))
    assert presence_weights([10], 100, "effective_number", 0.99).tolist() == pytest.approx([yes / no])


@pytest.mark.parametrize(
    "text, weights",
    [
        ("", None), (" ; ", None), ("1, 2.5,0,1", [1, 2.5, 0, 1]), ("1;2;3;4", [1, 2, 3, 4]), ("Road=3", [1, 3, 1, 1]),
        ("4 = 0.5, water=2", [2, 1, 1, 0.5]), ("Wood=old=7", [1, 1, 1, 7]), ("1=0,2=0,3=0", [0, 0, 0, 1]),
    ],
)  # fmt: skip
def test_weights_by_hand_are_numbers_in_order_or_by_name(text, weights):
    assert given_weights(text, info().classes) == weights


@pytest.mark.parametrize(
    "text, message",
    [
        ("1, 2", r"2 numbers, and there are 4 classes.*1 water, 2 road, 3 field"),
        ("1,2,3,4,5", r"5 numbers"), ("river=2", r"river names no class.*1 water"), ("road=1, ROAD=2", r"named twice"),
        ("road=much", r'"much" is no weight'), ("1,2,3,-4", r'"-4" is no weight'), ("nan,1,1,1", r'"nan" is no weight'),
        ("0,0,0,0", r"no class counts"), ("road=2, 3", r'"road=2" is no weight'), ("1e9,1,1,1", r"0 to 1e\+06"),
    ],
)  # fmt: skip
def test_weights_by_hand_that_do_not_fit_are_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        LossSettings(class_weight_list=text).check("segmentation", info().classes)


def test_weights_by_hand_take_the_place_of_others_and_are_taken_as_they_are():
    settings = TrainSegmenterConfig.from_json(
        {"chips": "", "output": "", "class_weight_list": "road=4", "class_weights": "balanced", "loss": "dice"}
    ).loss
    logits, targets = batch()
    loss, _ = ChosenLoss(settings, info(), drawn(np.array([[9, 1, 1, 1]])), CPU)(logits, targets)
    assert loss.item() == loss_of("dice", logits, targets, [1.0, 4.0, 1.0, 1.0])[0].item()


def test_classes_are_weighted_by_what_an_epoch_shows():
    counts = np.eye(2, dtype=int)[[0] * 18 + [1] * 2]
    classes = info(classes=("a", "b"))
    for task in ("classification", "multilabel"):
        kind = SimpleNamespace(task=task, classes=classes.classes)
        settings = LossSettings(class_weights="balanced")
        rare, even = (
            loss_weights(settings, "focal", kind, Sampling(SamplingSettings(sampling=sampling), kind, counts))
            for sampling in ("none", "balanced")
        )
        assert rare[1] / rare[0] == pytest.approx(9 if task == "classification" else 81)
        assert even.tolist() == pytest.approx([1, 1])


def test_pixels_without_a_label_teach_nothing():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    targets = torch.full((1, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    targets[0, 0, 0] = 1
    loss, _ = cross_entropy(logits, targets, torch.ones(3), USED)
    loss.backward()
    assert logits.grad[..., 0, 0].abs().sum() > 0 and logits.grad[..., 1:, :].abs().sum() == 0
