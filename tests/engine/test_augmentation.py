"""Chips are varied as the settings say: to the pixel, without a class that is not there, without a gap that spreads."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from chip_folder import CLASSES, write_chip_folder

from plugin.engine.chips.dataset import DatasetInfo, open_dataset
from plugin.engine.classes import IGNORE_INDEX, ClassTable
from plugin.engine.errors import InputError
from plugin.engine.recipe.augmentation import PRESETS, AugmentationSettings
from plugin.engine.recipe.loss import LossSettings
from plugin.engine.training.augmentation import augment
from plugin.engine.training.augmentation.augment import STEPS, Augmentation
from plugin.engine.training.augmentation.draws import within
from plugin.engine.training.augmentation.example import Bands, Example, find_colors
from plugin.engine.training.augmentation.geometry import draw_affine, move, sampling_grid
from plugin.engine.training.augmentation.radiometry import color_matrices, gaussians, means
from plugin.engine.training.chips import ChipReader, SceneReader
from plugin.engine.training.examples import vary_examples
from plugin.engine.training.losses.cross_entropies import binary_cross_entropy, cross_entropy
from plugin.engine.training.task import Moment, Task

CPU = torch.device("cpu")
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
# Whatever an `Example` may be asked to go through that moves pixels.
GEOMETRY = {
    "augment": True, "scale_jitter": 0.5, "rotation": 180.0, "zoom": 0.5, "shift": 0.3, "shear": 20.0, "elastic": 0.05,
}  # fmt: skip
RADIOMETRY = {
    "blur": 1.5, "sharpen": 1.0, "gamma_jitter": 0.5, "hue": 90.0, "saturation": 0.5, "contrast": 0.4,
    "brightness": 0.5, "radiometric_jitter": 0.3, "noise": 0.2,
}  # fmt: skip
OTHERS = {"band_dropout": 0.3, "cutout": 0.4, "mixup": 0.5, "cutmix": 0.5}


def described(names=("red", "green", "blue"), mean=100.0, std=20.0, low=40.0, high=180.0) -> DatasetInfo:
    """A dataset of which all that augmentation asks for is the same in each band."""
    bands = len(names)
    return DatasetInfo(
        task="segmentation", band_names=tuple(names), bands=tuple(range(1, bands + 1)), dtype="float32", nodata=None,
        chip_size=16, stride=16, crs="", pixel_size=1.0, classes=ClassTable.from_rows(CLASSES), label_nodata=0,
        sources=(), split={}, mean=(mean,) * bands, std=(std,) * bands, minimum=(low,) * bands, maximum=(high,) * bands,
        chip_counts={}, pixel_counts={},
    )  # fmt: skip


def varied(example, seed=0, info=None, **settings):
    """An example as the given settings alone make it."""
    settings = AugmentationSettings(augmentation="none" if "augment" not in settings else "flips", **settings)
    info = info or described([f"band {number}" for number in range(example.images.shape[1])])
    return Augmentation(settings, info, CPU)(example, torch.Generator().manual_seed(seed))


def classes(count):
    return torch.arange(count, dtype=torch.uint8) % 3


def noise(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def places(count, size=16):
    """Chips that hold the x and y of each pixel, and masks that hold its number."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images = torch.stack([x, y]).float().repeat(count, 1, 1, 1)
    return Example(images, None, (y * size + x).to(torch.uint8).repeat(count, 1, 1))


def assert_spread(values, low, high):
    """That numbers are drawn from a range, each equally likely (Kolmogorov and Smirnov's test at one in a thousand)."""
    values = np.sort(np.asarray(values, np.float64).ravel())
    assert low - 1e-4 <= values[0] and values[-1] <= high + 1e-4
    expected = (np.arange(len(values)) + 0.5) / len(values)
    furthest = np.abs((values - low) / (high - low) - expected).max()
    assert furthest < 1.95 / math.sqrt(len(values)), furthest


# The settings


def test_a_setting_that_is_given_wins_and_the_preset_says_the_others():
    settings = AugmentationSettings(augmentation="standard", rotation=90.0, zoom=0.0).settled()
    assert (settings.rotation, settings.zoom) == (90, 0)
    assert settings.shift == PRESETS["standard"].strengths["shift"] and settings.cutmix == 0
    assert None not in vars(settings).values() and settings.settled() == settings
    assert AugmentationSettings(augmentation="none", noise=0.5).strengths()["noise"] == 0.5


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_within_bounds_and_flip_but_for_none(name):
    settings = AugmentationSettings(augmentation=name).settled()
    assert settings.augment == (name != "none")
    strengths = PRESETS[name].strengths
    assert all(value > 0 for value in strengths.values()) and {*strengths} < {*vars(settings)}
    assert not AugmentationSettings(augmentation=name, augment=False).settled().augment
    with pytest.raises(InputError, match="none, flips, light, standard, strong"):
        AugmentationSettings(augmentation="weak")


def test_the_default_is_what_it_was_before_there_were_presets():
    on = {name for name, value in AugmentationSettings().strengths().items() if value}
    assert on == {"augment"}
    assert not any(AugmentationSettings(augment=False).strengths().values())


def test_each_setting_belongs_to_one_step():
    names = [name for step in STEPS.values() for name in step]
    assert len(names) == len(set(names)) and {"augmentation", *names} == set(AugmentationSettings.declared())
    assert {*GEOMETRY, *RADIOMETRY, *OTHERS} == set(names)


def test_the_guide_tells_what_the_presets_are():
    text = GUIDE.read_text(encoding="utf-8").split("### Augmentation\n")[1].split("\n## ")[0]
    told = {name: {} for name in ("light", "standard", "strong")}
    for setting, *numbers in re.findall(r"^\| `(\w+)` \| ([\d.–]+) \| ([\d.–]+) \| ([\d.–]+) \|", text, re.MULTILINE):
        for preset, number in zip(told.values(), numbers):
            if number != "–":
                preset[setting.lower()] = float(number)
    assert told == {name: PRESETS[name].strengths for name in told}


# What is off, seeds, sizes


@pytest.mark.parametrize("preset", ["none", "flips"])
def test_what_is_off_leaves_every_bit_and_draws_nothing(preset):
    example, generator = Example(noise(4, 3, 8, 8), None, classes(4)), torch.Generator().manual_seed(3)
    before = generator.get_state()
    settings = AugmentationSettings(augmentation=preset, augment=False)
    assert Augmentation(settings, described(), CPU)(example, generator) is example
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("change", [{name: value} for name, value in {**GEOMETRY, **RADIOMETRY, **OTHERS}.items()])
def test_each_setting_by_itself_changes_chips_and_a_seed_means_the_same(change):
    images = noise(6, 3, 16, 16)
    missing = torch.zeros(images.shape, dtype=torch.bool)
    missing[:, 1, 3:6, 2:9] = True
    example = Example(images.masked_fill(missing, 0.0), missing, classes(6))
    first, again, other = (varied(example, seed, described(), **change) for seed in (1, 1, 7))
    assert torch.equal(first.images, again.images) and torch.equal(first.missing, again.missing)
    assert not torch.equal(first.images, other.images) and not torch.equal(first.images, example.images)
    assert torch.equal(example.images[missing], torch.zeros(6 * 21))  # nothing is written into what was given
    assert (first.images[first.missing] == 0).all() and first.images.isfinite().all()
    assert first.missing.any() and first.missing.dtype == torch.bool and first.images.dtype == torch.float32


@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("gaps", [True, False])
def test_all_at_once_with_any_number_of_chips_and_bands(count, bands, gaps):
    images = noise(count, bands, 24, 24)
    missing = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) < 0.1 if gaps else None
    example = Example(images, missing, torch.randint(0, 3, (count, 24, 24)).to(torch.uint8)).showing(images)
    for seed in range(4):
        found = varied(example, seed, **GEOMETRY, **RADIOMETRY, **OTHERS)
        assert found.images.shape == images.shape and found.images.isfinite().all()
        assert (found.images[found.missing] == 0).all()
        assert set(found.targets.unique().tolist()) <= {0, 1, 2, IGNORE_INDEX}


def test_nothing_asks_the_device_for_a_number():
    meta = torch.device("meta")  # which has none
    missing = torch.zeros((4, 3, 16, 16), dtype=torch.bool, device=meta)
    for targets in (torch.zeros((4, 16, 16), dtype=torch.uint8), torch.zeros((4, 16, 16)), classes(4)):
        example = Example(torch.zeros((4, 3, 16, 16), device=meta), missing, targets.to(meta))
        settings = AugmentationSettings(**GEOMETRY, **RADIOMETRY, **OTHERS)
        for seed in range(8):
            generator = torch.Generator().manual_seed(seed)
            found = Augmentation(settings, described(), meta)(example, generator)
            assert found.images.shape == example.images.shape and found.images.device == meta


def test_all_that_is_drawn_goes_to_the_device_in_one_copy(monkeypatch):
    copied = []
    monkeypatch.setattr(augment, "to_device", lambda values, device: copied.append(values) or values)
    example = Example(noise(4, 3, 16, 16), None, classes(4))
    settings = AugmentationSettings(**GEOMETRY, **RADIOMETRY, **OTHERS)
    for seed in range(5):
        Augmentation(settings, described(), CPU)(example, torch.Generator().manual_seed(seed))
        assert len(copied) == seed + 1 and copied[-1].dtype == torch.float32


# Geometry


def test_image_and_mask_turn_together_and_the_eight_ways_are_equally_frequent():
    square = torch.arange(9, dtype=torch.uint8).reshape(3, 3)
    masks = square.repeat(4000, 1, 1)
    images = torch.stack([masks, masks + 100], dim=1)
    turned, missing, turned_masks, *_ = varied(Example(images, images > 105, masks), augment=True)
    assert torch.equal(turned[:, 0], turned_masks) and torch.equal(turned[:, 1], turned_masks + 100)
    assert torch.equal(missing, turned > 105)
    ways = Counter(tuple(mask.flatten().tolist()) for mask in turned_masks)
    expected = {tuple(way.rot90(k).flatten().tolist()) for way in (square, square.flip(1)) for k in range(4)}
    assert set(ways) == expected and min(ways.values()) > 400


def test_chips_without_masks_turn_in_the_same_eight_ways():
    square = torch.arange(9, dtype=torch.uint8).reshape(1, 1, 3, 3).repeat(50, 2, 1, 1)
    turned, missing, targets, *_ = varied(Example(square, None, classes(50)), 4, augment=True)
    both = varied(Example(square, None, square[:, 0]), 4, augment=True)
    assert torch.equal(turned, both.images) and torch.equal(turned[:, 0], turned[:, 1])
    assert missing is None and torch.equal(targets, classes(50))


def test_flips_and_turns_alone_are_to_the_bit_what_coins_say():
    images = noise(20, 3, 8, 8)
    found = varied(Example(images, None, classes(20)), 9, augment=True).images
    coins = torch.randint(0, 2, (3, 20, 1, 1, 1), generator=torch.Generator().manual_seed(9)).flatten(1).bool()
    for chip, image in enumerate(images):
        if coins[0, chip]:
            image = image.flip(-1)
        if coins[1, chip]:
            image = image.flip(-2)
        if coins[2, chip]:
            image = image.transpose(-1, -2)
        assert torch.equal(found[chip], image)


@pytest.mark.parametrize("names", [*([name] for name in GEOMETRY), list(GEOMETRY)])
def test_image_and_mask_stay_together_to_the_pixel(names):
    example = places(60)
    found = varied(example, **{name: GEOMETRY[name] for name in names})
    number = found.targets.long()
    shown = torch.stack([number % 16, number // 16], dim=1)
    # The mask shows the pixel that is nearest to the place that the image is mixed for.
    assert (found.images - shown).abs().max() <= 0.5 + 1e-3
    assert found.targets.dtype == torch.uint8 and (found.targets != example.targets).any()


@pytest.mark.parametrize("names", [*([name] for name in GEOMETRY if name != "augment"), list(GEOMETRY)[1:]])
def test_what_a_pixel_shows_is_what_lies_at_its_place_or_at_its_mirror_image(names):
    settings = {name: GEOMETRY[name] for name in names}
    images = noise(5, 2, 16, 16)
    found = varied(Example(images, None, classes(5)), 3, **settings).images.numpy()
    strength = AugmentationSettings(augmentation="none", **settings).strengths()
    grid = drawn_grid(5, 16, strength, 3).double().numpy()
    column, row = np.moveaxis((grid + 1) * 8 - 0.5, -1, 0)  # pixels, (5, 16, 16) each
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    expected = np.zeros(images.shape)
    chip = np.arange(5)[:, None, None]
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
        y, x = (np.mod(place, 32) for place in (top + down, left + right))
        y, x = np.where(y > 15, 31 - y, y), np.where(x > 15, 31 - x, x)
        expected += weight[:, None] * np.moveaxis(images.numpy()[chip, :, y, x], -1, 1)
    assert np.abs(found - expected).max() < 1e-4


def drawn_grid(count, size, strength, seed):
    """Where chips are seen that a step moves."""
    shape = torch.Size((count, 1, size, size))
    drawn = move(shape, strength, Bands(described(("a",)), CPU), torch.Generator().manual_seed(seed))
    return sampling_grid(size, *drawn.numbers)


@pytest.mark.parametrize("elastic", [0.0, 0.1])
def test_chips_that_are_flipped_and_moved_are_as_if_one_came_after_the_other(elastic):
    strength = AugmentationSettings(rotation=40.0, zoom=0.4, shift=0.2, shear=20.0, elastic=elastic).strengths()
    images = noise(24, 2, 16, 16)
    example = Example(images, None, torch.arange(256, dtype=torch.uint8).view(1, 16, 16).repeat(24, 1, 1))

    bands, generator = Bands(described(("a", "b")), CPU), torch.Generator()
    lying = move(images.shape, AugmentationSettings().strengths(), bands, generator.manual_seed(6))
    moved = move(images.shape, strength, bands, generator.manual_seed(6))
    found = moved.show(example, *moved.numbers)
    coins = torch.randint(0, 2, (3, 24), generator=generator.manual_seed(6))
    numbers = [draw_affine(24, strength, generator)]
    if elastic:
        pulls = within((24, 2, 49), 2 * elastic, generator)
        numbers.append(numbers[0][:, :, :2] @ pulls)
    expected = moved.show(lying.show(example, *lying.numbers), *numbers)
    assert torch.allclose(found.images, expected.images, atol=1e-4)
    assert (found.targets == expected.targets).float().mean() > 0.999  # but where two pixels are equally near
    assert len(coins.T.unique(dim=0)) == 8


def test_what_is_zero_moves_nothing():
    strength = dict.fromkeys(AugmentationSettings().strengths(), 0.0)
    centres = (torch.arange(16) * 2 + 1) / 16 - 1
    grid = sampling_grid(16, draw_affine(3, strength, torch.Generator()))
    assert torch.allclose(grid[..., 0], centres.expand(3, 16, 16), atol=1e-6)
    assert torch.allclose(grid[..., 1], centres[:, None].expand(3, 16, 16), atol=1e-6)


def affine(**settings):
    strength = AugmentationSettings(augmentation="none", **settings).strengths()
    return draw_affine(4000, strength, torch.Generator().manual_seed(0)).numpy()


def test_rotation_zoom_shift_shear_and_crop_are_drawn_as_declared():
    turned = affine(rotation=30.0)
    assert_spread(np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])), -30, 30)
    assert np.allclose(np.linalg.det(turned[:, :, :2]), 1, atol=1e-5) and (turned[:, :, 2] == 0).all()
    zoomed = affine(zoom=0.5)
    assert_spread(np.log(zoomed[:, 0, 0]), -math.log(1.5), math.log(1.5))
    assert np.allclose(zoomed[:, :, :2], zoomed[:, :1, :1] * np.eye(2), atol=1e-6)
    shifted = affine(shift=0.2)
    assert_spread(shifted[:, 0, 2], -0.4, 0.4)  # of a chip that is 2 wide
    assert_spread(shifted[:, 1, 2], -0.4, 0.4)
    assert abs(np.corrcoef(shifted[:, :, 2].T)[0, 1]) < 0.05
    sheared = affine(shear=20.0)
    for value in (sheared[:, 0, 1], sheared[:, 1, 0]):
        assert_spread(np.degrees(np.arctan(value)), -20, 20)
    cropped = affine(scale_jitter=0.5)
    side = cropped[:, 0, 0]
    assert_spread(side, 0.5, 1)
    assert_spread(cropped[:, 0, 2] / (1 - side), -1, 1)
    assert (np.abs(cropped[:, :, 2]) + side[:, None]).max() <= 1 + 1e-6  # never beyond the chip


def test_all_affine_settings_are_composed_in_the_declared_order():
    names = ("scale_jitter", "rotation", "zoom", "shift", "shear")
    strength = AugmentationSettings(augmentation="none", **{name: GEOMETRY[name] for name in names}).strengths()
    found = draw_affine(50, strength, torch.Generator().manual_seed(1)).double()
    generator = torch.Generator().manual_seed(1)
    crop = 1 - 0.5 * torch.rand(50, generator=generator).double()
    middle = (1 - crop) * (2 * torch.rand((2, 50), generator=generator) - 1)
    angle = math.pi * (2 * torch.rand(50, generator=generator).double() - 1)
    zoom = (math.log(1.5) * (2 * torch.rand(50, generator=generator).double() - 1)).exp()
    lean = (math.radians(20) * (2 * torch.rand((2, 50), generator=generator).double() - 1)).tan()
    shift = 0.6 * (2 * torch.rand((2, 50), generator=generator).double() - 1)
    for chip in range(50):
        turn = torch.tensor([[angle[chip].cos(), -angle[chip].sin()], [angle[chip].sin(), angle[chip].cos()]])
        shear = torch.tensor([[1, lean[0, chip]], [lean[1, chip], 1]]).double()
        expected = crop[chip] * (turn.double() @ shear) / zoom[chip]
        assert torch.allclose(found[chip, :, :2], expected, atol=1e-5)
        assert torch.allclose(found[chip, :, 2], middle[:, chip] + crop[chip] * shift[:, chip], atol=1e-5)


def test_ground_is_pulled_smoothly_within_bounds_and_never_folds():
    strength = AugmentationSettings(augmentation="none", elastic=0.1).strengths()  # the most that is allowed
    grid = drawn_grid(300, 32, strength, 0)
    still = sampling_grid(32, torch.eye(3)[None, :2])
    pull = (grid - still) / 2  # in sides
    assert 0.06 < pull.abs().max() <= 0.1 and pull.mean().abs() < 0.002
    assert pull.std() == pytest.approx(0.1 / math.sqrt(3) * 0.48, rel=0.1)  # knots, averaged by cubic B-splines
    right, down = grid[:, :-1, 1:] - grid[:, :-1, :-1], grid[:, 1:, :-1] - grid[:, :-1, :-1]
    assert (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).min() > 0
    assert (pull[:, :, 1:] - pull[:, :, :-1]).abs().max() < 0.025


def test_a_part_of_a_chip_is_shown_as_large_as_the_whole():
    size = 64
    ramp = torch.linspace(-1, 1, size)
    images = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)]).expand(200, 2, size, size)
    seen, missing, *_ = varied(Example(images, None, classes(200)), scale_jitter=0.5)
    assert missing is None and seen.shape == images.shape
    across, down = seen[:, 0, 0], seen[:, 1, :, 0]  # (200, 64)
    sides = (across[:, -1] - across[:, 0]) / 2
    assert 0.48 < sides.min() < 0.55 and 0.95 < sides.max() <= 1.0 and abs(sides.mean() - 0.75) < 0.03
    assert torch.allclose(sides, (down[:, -1] - down[:, 0]) / 2, atol=0.02)  # squares stay squares
    assert seen.min() >= -1.001 and seen.max() <= 1.001  # never beyond the chip
    middles = seen.mean((2, 3))
    assert middles.std(0).min() > 0.1 and abs(middles[:, 0] - middles[:, 1]).max() > 0.2


MOVES = {name: value for name, value in GEOMETRY.items() if name != "augment"}
SMEARING = {**{name: {name: value} for name, value in {**MOVES, "blur": 2.0, "sharpen": 3.0}.items()}, "all": MOVES}


@pytest.mark.parametrize("settings", SMEARING.values(), ids=list(SMEARING))
def test_what_is_missing_stays_missing_and_does_not_spread(settings):
    images = torch.full((40, 2, 32, 32), 5.0)
    missing = torch.zeros(images.shape, dtype=torch.bool)
    missing[:, 0, 10:20, 12:22] = True
    found = varied(Example(images.masked_fill(missing, 0.0), missing, classes(40)), **settings)
    seen, gaps = found.images, found.missing
    assert (seen[gaps] == 0).all() and torch.allclose(seen[~gaps], torch.tensor(5.0), atol=1e-3)
    assert not gaps[:, 1].any() and 0.5 * missing.float().mean() < gaps.float().mean() < 4 * missing.float().mean()


@pytest.mark.parametrize("name", GEOMETRY)
def test_numbers_to_be_found_move_with_the_image_and_unknown_ones_stay_unknown(name):
    ramp = noise(30, 1, 24, 24).cumsum(3)
    unknown = torch.zeros((30, 24, 24), dtype=torch.bool)
    unknown[:, 8:14, 5:15] = True
    example = Example(
        ramp.masked_fill(unknown[:, None], 0.0), unknown[:, None], ramp[:, 0].masked_fill(unknown, math.nan)
    )
    found = varied(example, **{name: GEOMETRY[name]})
    assert torch.equal(found.targets.isnan(), found.missing[:, 0])
    known = ~found.missing[:, 0]
    assert torch.equal(found.targets[known], found.images[:, 0][known])
    assert found.targets.isnan().any() and found.targets.dtype == torch.float32


# Values


def test_jitter_changes_each_band_of_each_chip_by_itself_and_leaves_gaps():
    images = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    missing = torch.zeros(images.shape, dtype=torch.bool)
    missing[:, :, 0], images[:, :, 0] = True, 0.0
    images[:, :, 1, 1] = 0.0  # the mean, which is a value like any other
    seen, gaps, *_ = varied(Example(images, missing, classes(3)), 2, radiometric_jitter=0.3)
    assert (seen[:, :, 0] == 0).all() and (seen[:, :, 1, 1] != 0).all() and torch.equal(gaps, missing)
    whole = varied(Example(images, None, classes(3)), 2, radiometric_jitter=0.3).images
    assert torch.equal(whole[:, :, 1:], seen[:, :, 1:])


def lines(name, strength, bands=2, count=2000, images=None):
    """Gain and offset that each band of each chip got, (count, bands) each."""
    images = noise(count, bands, 6, 6) if images is None else images
    seen = varied(Example(images, None, classes(count)), **{name: strength}).images
    middle, was = seen.mean((2, 3), keepdim=True), images.mean((2, 3), keepdim=True)
    gain = ((seen - middle) * (images - was)).sum((2, 3)) / (images - was).square().sum((2, 3))
    assert torch.allclose(seen, middle + gain[..., None, None] * (images - was), atol=1e-4)
    return gain, (middle - was).flatten(1), (middle - gain[..., None, None] * was).flatten(1)


def test_contrast_brightness_and_jitter_are_drawn_as_declared():
    gain, moved, _ = lines("contrast", 0.4)
    assert_spread(gain[:, 0], 0.6, 1.4)
    assert torch.allclose(gain[:, 0], gain[:, 1], atol=1e-4) and moved.abs().max() < 1e-4  # about the chip's own mean
    gain, moved, _ = lines("brightness", 0.5)
    assert_spread(moved[:, 0], -0.5, 0.5)
    assert torch.allclose(moved[:, 0], moved[:, 1], atol=1e-4) and (gain - 1).abs().max() < 1e-4
    gain, _, offset = lines("radiometric_jitter", 0.3)
    assert_spread(gain, 0.7, 1.3)
    assert_spread(offset, -0.3, 0.3)
    found = torch.cat([gain, offset], dim=1)
    assert (torch.corrcoef(found.T) - torch.eye(4)).abs().max() < 0.08  # each by itself


def test_contrast_is_about_the_mean_of_what_is_known():
    images = noise(50, 2, 8, 8) + 3
    missing = torch.zeros(images.shape, dtype=torch.bool)
    missing[:, :, :4] = True
    found = varied(Example(images.masked_fill(missing, 0.0), missing, classes(50)), contrast=0.9).images
    assert torch.allclose(found[:, :, 4:].mean((2, 3)), images[:, :, 4:].mean((2, 3)), atol=1e-4)
    assert (found[:, :, 4:].std((2, 3)) / images[:, :, 4:].std((2, 3)) - 1).abs().max() > 0.5


def test_gamma_bends_the_usual_range_and_leaves_what_lies_beyond():
    info = described(("a", "b"), mean=100, std=20, low=70, high=400)  # 70 to 150: 2.5 standard deviations above
    stored = torch.tensor([60.0, 70.0, 90.0, 110.0, 130.0, 150.0, 200.0, 390.0, 100.0])
    images = ((stored - 100) / 20).reshape(3, 3).expand(3000, 2, 3, 3)
    found = varied(Example(images, None, classes(3000)), info=info, gamma_jitter=0.5).images * 20 + 100
    found = found.flatten(2).double()
    assert torch.allclose(found[:, 0], found[:, 1], atol=1e-3)
    assert torch.allclose(found[:, 0, [0, 1, 5, 6, 7]], stored[[0, 1, 5, 6, 7]].double(), atol=1e-3)
    power = ((found[:, 0, 2] - 70) / 80).log() / math.log(20 / 80)
    assert_spread(power.log(), -math.log(1.5), math.log(1.5))
    for place, value in ((3, 110), (4, 130), (8, 100)):
        assert torch.allclose((found[:, 0, place] - 70) / 80, (torch.tensor((value - 70) / 80) ** power), atol=1e-3)


def test_hue_turns_about_grey_and_saturation_moves_from_it():
    third = torch.tensor([0.0, 2 * math.pi / 3, -2 * math.pi / 3])
    found = color_matrices(third, torch.ones(3)) @ torch.tensor([1.0, 0.0, 0.0])
    assert torch.allclose(found, torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), atol=1e-6)
    grey = color_matrices(torch.zeros(1), torch.zeros(1))[0] @ torch.tensor([0.3, 0.6, 0.9])
    assert torch.allclose(grey, torch.full((3,), 0.6), atol=1e-6)
    turns = (torch.arange(50) / 9, torch.linspace(0, 2, 50))
    assert torch.allclose(color_matrices(*turns) @ torch.ones(3), torch.ones(50, 3), atol=1e-6)  # grey stays grey


def colored(**settings):
    """Stored colours of one pixel before and after, (2000, 3), where bands have unequal units and are out of order."""
    info = described(("Blue", "red", "GREEN"))
    mean, std = torch.tensor([90.0, 110.0, 100.0]), torch.tensor([10.0, 30.0, 20.0])
    info = DatasetInfo(**{**vars(info), "mean": tuple(mean.tolist()), "std": tuple(std.tolist())})
    stored = torch.tensor([80.0, 150.0, 130.0]).expand(2000, 3)
    images = ((stored - mean) / std)[..., None, None].expand(2000, 3, 2, 2)
    found = varied(Example(images, None, classes(2000)), info=info, **settings).images
    assert (found == found[..., :1, :1]).all()
    order = [1, 2, 0]
    return stored[:, order].double(), (found[..., 0, 0] * std + mean)[:, order].double()


def test_hue_and_saturation_are_drawn_as_declared_in_stored_values():
    before, after = colored(hue=40.0)
    # In the plane across the axis of greys: red along x.
    across = torch.tensor([[2.0, -1, -1], [0, math.sqrt(3), -math.sqrt(3)]]).double().T / math.sqrt(6)
    angle = [torch.atan2(*(colors @ across).T.flip(0)).rad2deg() for colors in (before, after)]
    assert_spread(angle[1] - angle[0], -40, 40)
    for measure in (lambda colors: colors.mean(1), lambda colors: (colors @ across).norm(dim=1)):
        assert torch.allclose(measure(before), measure(after), atol=1e-2)
    before, after = colored(saturation=0.5)
    stretch = (after @ across).norm(dim=1) / (before @ across).norm(dim=1)
    assert_spread(stretch, 0.5, 1.5)
    assert torch.allclose(before.mean(1), after.mean(1), atol=1e-2)


def test_hue_is_for_red_green_and_blue_alone():
    assert find_colors(("Blue", "red", "green")) == [1, 2, 0] and find_colors(("665 nm", "560 nm", "490nm")) == [
        0,
        1,
        2,
    ]
    for names in (("red", "green", "blue", "nir"), ("nir", "red", "green"), ("red", "green", "green"), ("a", "b", "c")):
        assert find_colors(names) is None
        example = Example(noise(3, len(names), 4, 4), None, classes(3))
        assert varied(example, info=described(names), hue=90.0, saturation=0.5) is example


def test_a_colour_that_is_not_known_in_full_is_not_turned():
    images, missing = noise(4, 3, 8, 8), torch.zeros((4, 3, 8, 8), dtype=torch.bool)
    missing[:, 1, :3] = True
    images.masked_fill_(missing, 0.0)
    found = varied(Example(images, missing, classes(4)), info=described(), hue=90.0).images
    assert torch.equal(found[:, :, :3], images[:, :, :3]) and not torch.equal(found[:, :, 3:], images[:, :, 3:])


def test_a_blurred_pixel_is_the_weighted_mean_of_what_is_known_around_it():
    images, sigma = noise(3, 2, 12, 12), torch.tensor([0.4, 1.0, 2.0])
    for missing in (None, torch.rand((3, 2, 12, 12), generator=torch.Generator().manual_seed(2)) < 0.3):
        given = images if missing is None else images.masked_fill(missing, 0.0)
        found = means(given, missing, gaussians(sigma, 4)).double().numpy()
        known = np.ones(images.shape) if missing is None else ~missing.numpy()
        for chip, band, row, col in np.random.default_rng(0).integers(0, (3, 2, 12, 12), (60, 4)):
            rows, cols = (np.arange(max(0, place - 4), min(12, place + 5)) for place in (row, col))
            far = (rows[:, None] - row) ** 2 + (cols - col) ** 2
            weight = np.exp(-far / (2 * float(sigma[chip]) ** 2)) * known[chip, band][np.ix_(rows, cols)]
            expected = (weight * given.numpy()[chip, band][np.ix_(rows, cols)]).sum() / weight.sum()
            assert found[chip, band, row, col] == pytest.approx(expected, abs=1e-4)


def test_every_second_chip_is_blurred_or_sharpened_as_declared():
    dot = torch.zeros(3000, 1, 15, 15)
    dot[:, :, 7, 7] = 1.0
    blurred = varied(Example(dot, None, classes(3000)), blur=1.5).images[:, 0]
    changed = blurred[:, 7, 7] < 1
    # A Gaussian of less than a quarter of a pixel leaves its pixel as it is.
    assert changed.float().mean() == pytest.approx(0.5 * (1 - 0.13), abs=0.04)
    sides = (blurred[:, 7, 8] / blurred[:, 7, 7])[changed]
    sigma = (-1 / (2 * sides.double().log())).sqrt()
    assert_spread(sigma[sigma > 0.5], 0.5, 1.5)
    assert torch.allclose(blurred.sum((1, 2)), torch.ones(3000), atol=0.02)
    soft = means(dot[:1], None, gaussians(torch.ones(1), 3))[0, 0]
    sharpened = varied(Example(dot, None, classes(3000)), sharpen=2.0).images[:, 0]
    amount = (sharpened[:, 7, 7] - 1) / (1 - soft[7, 7])
    assert (amount > 1e-6).float().mean() == pytest.approx(0.5, abs=0.04)
    assert_spread(amount[amount > 1e-6], 0, 2)
    both = varied(Example(dot, None, classes(3000)), blur=1.5, sharpen=2.0).images[:, 0, 7, 7]
    assert (both > 1 + 1e-6).float().mean() == pytest.approx(0.25, abs=0.03)
    assert (both < 1).float().mean() == pytest.approx(0.25 * 0.87, abs=0.03)


def test_noise_is_normal_and_of_each_band_and_chip_by_itself():
    found = varied(Example(torch.zeros(400, 3, 32, 32), None, classes(400)), noise=0.5).images
    spread = found.std((2, 3))
    assert_spread(spread.mean(1).clamp(max=0.5), 0, 0.5)
    assert torch.allclose(spread[:, 0], spread[:, 1], rtol=0.2)
    plain = (found / spread.mean(1)[:, None, None, None])[spread.mean(1) > 0.01]
    assert plain.mean().abs() < 0.02 and (plain.abs() > 1.96).float().mean() == pytest.approx(0.05, abs=0.005)
    rows = plain.flatten(2)
    for other in (rows[:, [1, 2, 0]], rows.roll(1, 0), rows.roll(1, 2)):
        assert (rows * other).mean().abs() < 0.01


# What is hidden


def test_bands_are_dropped_as_often_as_declared_but_never_all():
    found = varied(Example(torch.ones(4000, 3, 2, 2), None, classes(4000)), band_dropout=0.3)
    assert ((found.images == 0) == found.missing).all()
    dropped = found.missing[:, :, 0, 0]
    assert (found.missing == dropped[..., None, None]).all() and dropped.sum(1).max() == 2
    assert torch.allclose(dropped.float().mean(0), torch.full((3,), 0.3 - 0.3**3), atol=0.03)
    one = varied(Example(torch.ones(50, 1, 2, 2), None, classes(50)), band_dropout=0.9)
    assert (one.images == 1).all() and not one.missing.any()


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_what_is_cut_out_has_neither_values_nor_labels(kind):
    masks = torch.ones((800, 96, 96), dtype=torch.uint8 if kind == "classes" else torch.float32)
    found = varied(Example(torch.ones(800, 2, 96, 96), None, masks), cutout=0.4)
    hidden = found.missing[:, 0]
    assert torch.equal(hidden, found.missing[:, 1]) and torch.equal(found.images == 0, found.missing)
    unlabelled = found.targets == IGNORE_INDEX if kind == "classes" else found.targets.isnan()
    assert torch.equal(unlabelled, hidden)
    area = hidden.float().mean((1, 2))
    assert (area > 0).float().mean() == pytest.approx(0.5, abs=0.06)
    assert_spread((area[area > 0]).clamp(max=0.4), 0, 0.4)
    rows, cols = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & cols[:, None]) and (rows.sum(1) - cols.sum(1)).abs().max() <= 1
    covered = hidden[area > 0].float().mean(0)
    assert covered[48, 48] > covered[2, 2] > 0 and abs(covered[12, 48] - covered[83, 48]) < 0.1


# What is mixed


def test_squares_of_other_chips_bring_their_labels_along():
    numbers = torch.arange(40).float()
    images = numbers[:, None, None, None].expand(40, 2, 32, 32)
    missing = torch.zeros(images.shape, dtype=torch.bool)
    missing[7] = True
    masks = numbers[:, None, None].expand(40, 32, 32).to(torch.uint8)
    shares, mixed = [], 0
    for seed in range(300):
        found = varied(Example(images.masked_fill(missing, 0.0), missing, masks), seed, cutmix=0.5)
        assert found.mixed is None
        shown = torch.where(found.missing[:, 0], 7, found.images[:, 0])
        assert torch.equal(shown, found.targets.float())
        foreign = found.targets != masks
        assert torch.equal(found.targets[foreign], masks.roll(1, 0)[foreign])
        if foreign.any():
            mixed += 1
            shares.append(float(foreign.float().mean()))
    assert 110 < mixed < 190
    assert_spread(shares, 0, 0.5 * 1.02)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_the_answers_of_mixed_chips_are_mixed_by_their_share(name):
    images = torch.eye(4)[:, :, None, None].expand(4, 4, 32, 32)
    shares = []
    for seed in range(400):
        found = varied(Example(images, None, classes(4)), seed, **{name: 0.5})
        assert torch.equal(found.targets, classes(4))
        if found.mixed is None:
            assert found.images is images
            continue
        assert torch.equal(found.mixed.targets, classes(4).roll(1, 0))
        shares.append(found.mixed.share)
        parts = found.images.mean((2, 3))  # of each chip in each
        assert torch.allclose(parts.sum(1), torch.ones(4), atol=1e-5)
        assert torch.allclose(parts.diagonal(), torch.full((4,), 1 - shares[-1]), atol=0.05)
        assert torch.allclose(parts.roll(-1, 0).diagonal(), torch.full((4,), shares[-1]), atol=0.05)
    assert 150 < len(shares) < 250
    assert_spread(shares, 0, 0.5)


def test_where_the_other_chip_is_missing_a_chip_shows_itself():
    images = torch.arange(1.0, 5.0)[:, None, None, None].expand(4, 1, 4, 4)
    missing = torch.zeros(images.shape, dtype=torch.bool)
    missing[0, :, :2] = True
    found = varied(Example(images.masked_fill(missing, 0.0), missing, classes(4)), 2, mixup=0.5)
    assert found.mixed is not None and torch.equal(found.missing, missing)
    assert (
        (found.images[1, :, :2] == 2).all()
        and (found.images[1, :, 2:] < 2).all()
        and (found.images[0, :, :2] == 0).all()
    )


def task_of(loss, **settings):
    info = described(("a", "b", "c"), mean=0.0, std=1.0)
    return Task(info, loss, AugmentationSettings(augmentation="none", **settings), CPU)


def moment(seed):
    return Moment(torch.Generator().manual_seed(seed), torch.nn.Identity(), 0.0)


@pytest.mark.parametrize("kind", ["masks", "classes", "labels"])
def test_any_loss_judges_mixtures_by_what_it_says_of_either_answer(kind):
    images = noise(6, 3, 8, 8)
    targets = {"masks": torch.randint(0, 3, (6, 8, 8)), "classes": classes(6), "labels": torch.eye(3).repeat(2, 1)}[
        kind
    ]
    targets = targets.to(torch.uint8)
    weights = torch.tensor([0.5, 1.0, 2.0])
    plain = binary_cross_entropy if kind == "labels" else cross_entropy
    task = task_of(partial(plain, weights=weights, settings=LossSettings(label_smoothing=0.1)), mixup=0.5)
    network = (
        torch.nn.Identity()
        if kind == "masks"
        else torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    )
    seen = set()
    for seed in range(8):
        answers = task.learn(network, (images, targets), moment(seed))
        example = task.augment(task.prepare((images, targets)), torch.Generator().manual_seed(seed))
        share = example.mixed.share if example.mixed else 0.0
        # Chip by chip, each with its own two answers; a mean over weights is one over chips where these are known.
        logits, total, weight = network(example.images), 0.0, 0.0
        for chip in range(6):
            for part, other in ((1 - share, chip), (share, chip - 1)):
                cost, counted = plain(
                    logits[chip : chip + 1], targets[[other]], weights, LossSettings(label_smoothing=0.1)
                )
                total, weight = total + part * cost * counted, weight + part * counted
        assert torch.allclose(answers.loss, total / weight, atol=1e-5) and torch.allclose(answers.weight, weight)
        assert torch.equal(answers.targets, targets)
        seen.add(share > 0)
    assert seen == {True, False}


def test_chips_are_varied_in_full_precision_whatever_the_network_calculates_in():
    images, targets, seen = noise(4, 3, 16, 16) * 40, torch.zeros((4, 16, 16), dtype=torch.uint8), []
    task = task_of(lambda logits, targets: (logits.mean(), torch.ones(())), **GEOMETRY, **RADIOMETRY)
    network = torch.nn.Identity()
    network.register_forward_hook(lambda module, given, found: seen.append(given[0]))
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            task.learn(network, (images, targets), moment(1))
    assert torch.equal(*seen) and seen[0].dtype == torch.float32


@pytest.mark.parametrize("settings", [{}, {"augment": True}, {**GEOMETRY, **RADIOMETRY, **OTHERS}])
@pytest.mark.parametrize("nodata", [None, 0])
def test_what_is_done_to_the_levels_of_bytes_is_done_to_each_pixel(settings, nodata):
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = images, torch.randint(0, 3, (5, 16, 16)).to(torch.uint8)
    settings = AugmentationSettings(augmentation="none", **{"augment": False, **settings, "gamma_jitter": 0.5})
    info = DatasetInfo(**{**vars(described()), "nodata": nodata, "mean": (90.0, 110.0, 4.0), "std": (30.0, 9.0, 2.0)})
    task = Task(info, None, settings, CPU)
    assert task.augment.changes_levels and task.prepare(batch, True).images is images
    for seed in range(4):
        one, other = (
            task.augment(task.prepare(batch, with_levels), torch.Generator().manual_seed(seed))
            for with_levels in (True, False)
        )
        assert one.levels is None and one.images.dtype == torch.float32
        assert torch.allclose(one.images, other.images, atol=1e-5) and torch.equal(one.targets, other.targets)
        assert (one.missing is None) == (other.missing is None)
        assert one.missing is None or torch.equal(one.missing, other.missing)


def test_chips_of_bytes_reach_the_network_as_values(monkeypatch):
    seen, lookups = [], []
    settings = {"gamma_jitter": 0.5, "rotation": 10.0}
    whole = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    task = task_of(lambda logits, targets: (logits.mean(), torch.ones(())), **settings)
    network = torch.nn.Identity()
    network.register_forward_hook(lambda module, given, found: seen.append(given[0]))
    plain = Example.without_levels
    monkeypatch.setattr(Example, "without_levels", lambda example: lookups.append(example.levels) or plain(example))
    for images in (whole, whole.to(torch.int16)):
        task.learn(network, (images, torch.zeros((4, 16, 16), dtype=torch.uint8)), moment(1))
    assert torch.allclose(*seen, atol=1e-4) and seen[0].dtype == torch.float32
    assert [levels is not None for levels in lookups] == [True, False, False, False]


@pytest.mark.parametrize("task", ["masks", "classes"])
def test_a_report_shows_each_chip_and_its_variants_in_stored_values(task, tmp_path):
    dataset = open_dataset(write_chip_folder(tmp_path / "chips", {"training": 3}, size=249, bands=5, nodata=0))
    info = dataset.info
    reader = ChipReader(dataset) if task == "masks" else SceneReader(dataset)
    loss = partial(cross_entropy, weights=torch.ones(3), settings=LossSettings())
    settings = AugmentationSettings(augmentation="flips", cutout=0.5)
    varied = vary_examples(Task(info, loss, settings, CPU), reader, [2, 0], 5, CPU)
    assert [chip.caption for chip in varied] == ["images/2.tif", "images/0.tif"]
    for chip in varied:
        image = dataset.read_image(int(chip.caption[7]))[:3, :246, :248].astype(float)
        image[image == 0] = np.nan  # missing, here and there
        expected = np.nanmean(image.reshape(3, 123, 2, 124, 2), axis=(2, 4))
        assert np.allclose(chip.images[0][:, :123], expected, atol=1e-2) and np.isnan(chip.images[0][:, 123]).all()
        assert len(chip.images) == 9 and len(chip.masks) == (9 if task == "masks" else 0)
        assert all(shown.shape == (3, 124, 124) for shown in chip.images)
        assert len({np.nan_to_num(shown).tobytes() for shown in chip.images}) > 5
        for shown, mask in zip(chip.images, chip.masks):  # together: values tell the class
            known = np.isfinite(shown[0]) & (mask != IGNORE_INDEX)
            assert (np.abs(shown[0] - (10 + 10.0 * mask))[known] < 7).mean() > 0.97
    assert (
        vary_examples(Task(info, loss, settings.replace(augmentation="none", cutout=0.0), CPU), reader, [0], 5, CPU)
        == []
    )


def test_a_constant_band_stays_constant_and_no_range_is_divided_by():
    info = described(std=0.0, low=100.0, high=100.0)
    bands = Bands(info, CPU)
    assert (bands.span == 0).all() and (bands.low == 0).all()
    found = varied(
        Example(torch.zeros(4, 3, 8, 8), None, classes(4)), info=info, gamma_jitter=0.9, hue=90.0, saturation=1.0
    )
    assert (found.images == 0).all()
