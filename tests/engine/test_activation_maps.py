"""Filters, feature maps and class activation, with networks that look at known features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from known_classifier import header, trained_looking
from matplotlib import image as pictures
from osgeo import gdal
from synthetic import LEFT, TOP, rectangle, write_polygons, write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.config import ActivationMapsConfig
from plugin.engine.drafts import hidden_folder
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.events import Stage
from plugin.engine.mapping import activation_maps
from plugin.engine.mapping.activation import rasters
from plugin.engine.mapping.activation.grad_cam import chip_activation, pixel_gradients, weighted
from plugin.engine.mapping.activation.taps import Tap
from plugin.engine.mapping.outputs import map_raster
from plugin.engine.mapping.pipeline.calculation import Keeper, Work
from plugin.engine.mapping.reading.tile_reader import Batch
from plugin.engine.models.classifier_network import Classifier
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import ModelHeader
from plugin.engine.models.model_file import save_model

TWO = ClassTable.from_rows([(1, "ground", "#888888"), (5, "spot", "#ff0000")])
SIZE = 16


def spotter(size: int = SIZE) -> Classifier:
    """Its first block keeps bright pixels; the logit of "spot" is how much of them a chip shows, that of "ground" 0."""
    network = trained_looking("lecture_cnn", size, 1, 2, filters=[2, 2], hidden_sizes=[])
    state = network.state_dict()
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        value.zero_()
        if "running_var" in key or (key.endswith(".1.weight")):  # batch norms leave things as they are
            value.fill_(1)
    first, second = (key for key, value in state.items() if value.ndim == 4)
    state[first][0, 0, 1, 1] = 1
    state[second][0, 0, 1, 1] = 1
    output = next(key for key in state if key.endswith("output.weight"))
    state[output].view(2, 2, size // 4, size // 4)[1, 0] = 1
    network.load_state_dict(state)
    return network


def segmenter() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("unet", "resnet18", 1, 2).eval().requires_grad_(False)


def save(folder: Path, network: torch.nn.Module, **values: Any) -> str:
    made: dict[str, Any] = {"classes": TWO, "chip_size": SIZE, "mean": (0.0,), "std": (1.0,),
                            "arguments": {"filters": [2, 2], "hidden_sizes": []}}  # fmt: skip
    if not isinstance(network, Classifier):
        made |= {
            "task": "segmentation",
            "architecture": "unet",
            "encoder": "resnet18",
            "whole_window": False,
            "chip_size": 64,
            "arguments": {},
        }
    save_model(folder / "m.safetensors", network, header(1, **{**made, **values}))
    return str(folder / "m.safetensors")


def scene(height: int = 80, width: int = 96) -> np.ndarray:
    """Dark, with a bright square at rows 30 to 38, columns 50 to 58."""
    data = np.full((height, width), 2, np.uint8)
    data[30:38, 50:58] = 20
    return data


def run(folder: Path, model: str, reporter: Any = None, **settings: Any) -> dict[str, Any]:
    usual = {"model": model, "device": "cpu", "output": str(folder / "a.tif")}
    return activation_maps.activation_maps(ActivationMapsConfig(**{**usual, **settings}), reporter or Heard())


def pixels(path: Path | str) -> np.ndarray:
    found: np.ndarray = gdal.Open(str(path)).ReadAsArray()
    return found


# --- class activation of classifiers


def test_grad_cam_is_the_weighted_sum_of_the_maps() -> None:
    network = trained_looking("lecture_cnn", 32, 2, 3, filters=[4, 8])
    images = torch.randn(3, 2, 32, 32)
    found, logits = chip_activation(Tap(network, ""), images, 1)
    maps = network.features(images)
    # The gradient by hand: how the logit changes with each value of the map.
    for number in range(3):
        slopes = torch.zeros_like(maps[0])
        base = network.head(maps[number : number + 1])[0, 1]
        for place in np.ndindex(*slopes.shape):
            changed = maps[number : number + 1].clone()
            changed[(0, *place)] += 1e-2
            slopes[place] = (network.head(changed)[0, 1] - base) / 1e-2
        expected = torch.relu((slopes.mean((1, 2))[:, None, None] * maps[number]).sum(0))
        assert torch.allclose(found[number], expected, atol=2e-3)
    assert torch.allclose(logits, network(images), atol=1e-5)


def test_the_activation_of_a_class_lies_where_the_class_is(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "i.tif", scene())
    heard = Heard()
    result = run(tmp_path, save(tmp_path, spotter()), heard, input=image, target_class="spot")
    found = pixels(tmp_path / "a.tif")
    assert found.shape == (80, 96) and result["channels"] == 1
    row, col = np.unravel_index(found.argmax(), found.shape)
    assert 30 <= row < 38 and 50 <= col < 58
    far = np.ones(found.shape, bool)
    far[24:44, 44:64] = False
    assert found[far].max() < 0.1 * found.max()
    source = gdal.Open(str(tmp_path / "a.tif"))
    assert source.GetGeoTransform() == (LEFT, 1, 0, TOP, 0, -1)
    assert source.GetRasterBand(1).GetDescription() == "activation of spot"
    assert "singlebandpseudocolor" in (tmp_path / "a.qml").read_text()
    run(tmp_path, str(tmp_path / "m.safetensors"), input=image, target_class="5")
    assert np.array_equal(pixels(tmp_path / "a.tif"), found)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_tiles_leave_no_seams_in_the_activation_of_chips(tmp_path: Path, stride: int) -> None:
    data = np.random.default_rng(0).integers(0, 200, (90, 75)).astype(np.uint8)
    image = write_raster(tmp_path / "i.tif", data)
    model = save(tmp_path, spotter())
    run(tmp_path, model, input=image, target_class="spot", stride=stride)
    whole = pixels(tmp_path / "a.tif")
    assert np.isfinite(whole).all() and whole.std() > 0
    run(tmp_path, model, input=image, target_class="spot", stride=stride, tile_size=32, batch_size=3)
    assert np.allclose(pixels(tmp_path / "a.tif"), whole, rtol=1e-4, atol=1e-3)
    part = (LEFT + 20, TOP - 61, LEFT + 70, TOP - 11)
    run(tmp_path, model, input=image, target_class="spot", stride=stride, extent=part)
    assert np.allclose(pixels(tmp_path / "a.tif"), whole[11:61, 20:70], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(150, 200), (500, 140)])
def test_rasters_of_any_size_get_an_activation(tmp_path: Path, height: int, width: int) -> None:
    image = write_raster(tmp_path / "i.tif", scene(height, width))
    model = save(tmp_path, spotter())
    run(tmp_path, model, input=image, target_class="spot")
    whole = pixels(tmp_path / "a.tif")
    assert whole.shape == (height, width) and np.isfinite(whole).all()
    run(tmp_path, model, input=image, target_class="spot", extent=(LEFT + 3, TOP - 137, LEFT + 136, TOP))
    assert np.allclose(pixels(tmp_path / "a.tif"), whole[:137, 3:136], rtol=1e-4, atol=1e-3)


def test_what_a_killed_job_left_is_in_nobodys_way(tmp_path: Path) -> None:
    hidden = hidden_folder(tmp_path / "a.tif")
    hidden.mkdir()
    (hidden / "a.tif").write_text("half a raster")
    image = write_raster(tmp_path / "i.tif", scene())
    run(tmp_path, save(tmp_path, spotter()), input=image, target_class="spot")
    assert pixels(tmp_path / "a.tif").shape == (80, 96)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "a.qml", "i.tif", "m.safetensors"}


def test_cancelling_is_heard_between_the_batches_of_a_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def count(tap: Tap, chips: torch.Tensor, target: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(chips))
        return chip_activation(tap, chips, target)

    monkeypatch.setattr(rasters, "chip_activation", count)
    monkeypatch.setattr(Stage, "INTERVAL", 0)
    image = write_raster(tmp_path / "i.tif", scene())
    with pytest.raises(Cancelled):
        run(tmp_path, save(tmp_path, spotter()), Heard(cancel_after=2), input=image, target_class="spot", stride=4)
    assert seen == [16, 16, 16]  # of 480 chips, in one tile


def test_overlapping_chips_fade_into_each_other(tmp_path: Path) -> None:
    """An even ground gives an even activation but for the chips' own pattern, without steps at their edges."""
    image = write_raster(tmp_path / "i.tif", np.full((96, 96), 100, np.uint8))
    run(tmp_path, save(tmp_path, spotter()), input=image, target_class="spot", stride=8)
    found = pixels(tmp_path / "a.tif")
    assert np.abs(np.diff(found, axis=0)).max() < 0.02 * found.max() and found.min() > 0


def test_ground_without_data_or_outside_of_the_area_has_no_activation(tmp_path: Path) -> None:
    data = scene().astype(np.int16)
    data[:, :20] = -1
    image = write_raster(tmp_path / "i.tif", data, nodata=-1)
    shape = rectangle(LEFT + 10, TOP - 60, LEFT + 70, TOP - 20)
    area = write_polygons(tmp_path / "area.gpkg", [(1, shape)], layer="area")
    run(tmp_path, save(tmp_path, spotter()), input=image, target_class="spot", area=area)
    found = pixels(tmp_path / "a.tif")
    assert found.shape == (40, 60) and np.isnan(found[:, :10]).all() and np.isfinite(found[:, 10:]).all()


def test_a_class_that_is_nowhere_is_told(tmp_path: Path) -> None:
    heard = Heard()
    image = write_raster(tmp_path / "i.tif", np.zeros((40, 40), np.uint8))
    run(tmp_path, save(tmp_path, spotter()), heard, input=image, target_class="spot")
    assert any("is 0 everywhere: nothing in the raster" in text for text in heard.warnings)


@pytest.mark.parametrize("name", ["resnet18", "vit_b_32", "swin_t", "efficientnet_lite0"])
def test_every_kind_of_network_shows_its_activation(tmp_path: Path, name: str) -> None:
    network = trained_looking(name, 32, 1, 2)
    model = save(tmp_path, network, architecture=name, chip_size=32, arguments={})
    image = write_raster(tmp_path / "i.tif", np.random.default_rng(0).integers(0, 9, (40, 50)).astype(np.uint8))
    run(tmp_path, model, input=image, target_class="spot")
    assert np.isfinite(pixels(tmp_path / "a.tif")).all()


# --- class activation of segmentation networks


@pytest.mark.parametrize("architecture", ["unet", "fcn"])
def test_a_segmentation_networks_activation_lies_where_it_sees_the_class(tmp_path: Path, architecture: str) -> None:
    """Where the head scores each place for itself, the activation is the score without its offset."""
    torch.manual_seed(0)
    network = create_model(architecture, "resnet18", 1, 2).eval().requires_grad_(False)
    head = network.decoder.head if architecture == "unet" else network.decoder.head[4]
    middle = head.kernel_size[0] // 2
    weight = torch.zeros_like(head.weight)
    weight[:, :, middle, middle] = torch.randn(head.weight.shape[:2])
    head.weight.copy_(weight)
    images = torch.randn(1, 1, 96, 96)
    tap = Tap(network, "")
    gradient, count = pixel_gradients(tap, images, 1, torch.ones(96, 96, dtype=torch.bool), True)
    found = weighted(tap.maps(images), gradient[None] / count)[0]
    wanted = torch.relu(network.decoder(network.encoder(images))[0, 1] - head.bias[1])
    assert count and np.corrcoef(found.flatten(), wanted.flatten())[0, 1] > 0.99


def test_a_segmentation_networks_activation_has_no_seams(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 9, (12, 14)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    image = write_raster(tmp_path / "i.tif", data)
    model = save(tmp_path, segmenter())
    found = []
    for tile_size, halo in ((256, 192), (96, 192)):
        heard = Heard()
        run(tmp_path, model, heard, input=image, target_class="spot", tile_size=tile_size, halo=halo)
        found.append(pixels(tmp_path / "a.tif"))
        assert any("The weights of the channels come from" in text for text in heard.logs)
    assert found[0].shape == data.shape and found[0].max() > 0
    assert np.abs(found[0] - found[1]).max() < 0.02 * found[0].max()


def test_a_tile_alone_has_the_gradients_that_it_has_beside_others() -> None:
    torch.manual_seed(0)
    network = create_model("segformer", "mobilenet_v2", 3, 3).eval().requires_grad_(False)
    tap, images = Tap(network, "encoder.features.16"), torch.randn(2, 3, 64, 64)
    wanted = torch.ones((2, 64, 64), dtype=torch.bool)
    alone = [pixel_gradients(tap, images[[place]], 1, wanted[[place]], False)[0] for place in range(2)]
    torch.testing.assert_close(sum(alone), pixel_gradients(tap, images, 1, wanted, False)[0], rtol=1e-4, atol=1e-4)


def test_weights_come_from_tiles_spread_over_the_raster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "WEIGHT_TILES", 3)
    image = write_raster(tmp_path / "i.tif", np.random.default_rng(0).integers(0, 9, (160, 160)).astype(np.uint8))
    heard = Heard()
    run(tmp_path, save(tmp_path, segmenter()), heard, input=image, target_class="spot", tile_size=32, halo=32)
    assert any("from 3 tiles of 25, spread over the raster" in text for text in heard.logs)
    assert heard.fractions[-1] == 1 and heard.fractions == sorted(heard.fractions)


@pytest.mark.parametrize("kind", ["chips", "tiles", "feature_maps"])
def test_resumed_maps_equal_those_that_were_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    image = write_raster(tmp_path / "i.tif", np.random.default_rng(0).integers(0, 9, (160, 160)).astype(np.uint8))
    model = save(tmp_path, spotter() if kind == "chips" else segmenter())
    settings = {"kind": kind, "channels": 3} if kind == "feature_maps" else {"target_class": "spot"}
    settings.update(input=image, tile_size=32, halo=32)
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", model, **settings)
    network_calls: list[object] = []
    kept, calculate, last = tmp_path / "kept", Keeper.calculate, 11
    kept.mkdir()

    def calculating(keeper: Keeper[Any], work: Work, advance: Any) -> Any:
        if isinstance(work.batch, Batch):
            network_calls.append(work)
            if len(network_calls) > last:
                raise ResourceError("The power is gone.", "Wait.")
        return calculate(keeper, work, advance)

    monkeypatch.setattr(Keeper, "calculate", calculating)
    with pytest.raises(ResourceError, match="power"):
        run(kept, model, resume=True, **settings)
    network_calls.clear()
    last, heard = 10**9, Heard()
    run(kept, model, heard, resume=True, **settings)
    assert 0 < len(network_calls) <= 25 - 11 + 2
    assert not any("The weights of the channels" in text for text in heard.logs)
    assert np.array_equal(pixels(kept / "a.tif"), pixels(tmp_path / "whole" / "a.tif"), equal_nan=True)
    assert sorted(path.name for path in kept.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())


# --- feature maps


def test_feature_maps_are_the_layers_values_in_their_place(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "i.tif", scene())
    heard = Heard()
    result = run(tmp_path, save(tmp_path, spotter()), heard, input=image, kind="feature_maps", layer="features.0")
    source = gdal.Open(str(tmp_path / "a.tif"))
    found = source.ReadAsArray()
    assert result["channels"] == 2 and source.GetGeoTransform() == (LEFT, 2, 0, TOP, 0, -2)
    pooled = scene().reshape(40, 2, 48, 2).max(axis=(1, 3))
    assert np.allclose(found[0], pooled) and np.allclose(found[1], 0)
    assert any("features.0" in text and "output shape" in text for text in heard.logs)


@pytest.mark.parametrize("form", ["GTiff", "COG"])
def test_maps_have_overviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(map_raster, "SCREEN", 32)
    image, model = write_raster(tmp_path / "i.tif", scene()), save(tmp_path, spotter())
    config = {"model": model, "device": "cpu", "output": str(tmp_path / "a.tif"), "input": image,
              "kind": "feature_maps", "layer": "features.0", "raster_format": form}  # fmt: skip
    activation_maps.activation_maps(ActivationMapsConfig.from_json(config), Heard())
    source = gdal.Open(str(tmp_path / "a.tif"))
    band = source.GetRasterBand(1)
    assert [band.GetOverview(place).XSize for place in range(band.GetOverviewCount())] == [24]
    assert np.allclose(band.ReadAsArray(), scene().reshape(40, 2, 48, 2).max(axis=(1, 3)))
    layout = source.GetMetadataItem("LAYOUT", "IMAGE_STRUCTURE")
    assert layout == ("COG" if form == "COG" else None)
    activation_maps.activation_maps(ActivationMapsConfig.from_json({**config, "overviews": False}), Heard())
    source = gdal.Open(str(tmp_path / "a.tif"))
    assert source.GetRasterBand(1).GetOverviewCount() == 0


def test_feature_maps_are_the_same_in_other_tiles_and_parts(tmp_path: Path) -> None:
    network = trained_looking("lecture_cnn", 32, 1, 2, filters=[4, 8])
    model = save(tmp_path, network, chip_size=32, arguments={"filters": [4, 8]})
    data = np.random.default_rng(0).integers(0, 9, (101, 133)).astype(np.uint8)
    image = write_raster(tmp_path / "i.tif", data)
    run(tmp_path, model, input=image, kind="feature_maps", channels=3)
    whole = pixels(tmp_path / "a.tif")
    assert whole.shape == (3, 26, 34)
    run(tmp_path, model, input=image, kind="feature_maps", channels=3, tile_size=32, halo=32)
    assert np.allclose(pixels(tmp_path / "a.tif"), whole, atol=1e-4)
    run(
        tmp_path, model, input=image, kind="feature_maps", channels=3, extent=(LEFT + 41, TOP - 90, LEFT + 99, TOP - 30)
    )
    assert np.allclose(pixels(tmp_path / "a.tif"), whole[:, 7:23, 10:25], atol=1e-4)


@pytest.mark.parametrize(
    "name, layer", [("vit_b_32", ""), ("lecture_cnn", "features.1"), ("resnet18", "layer1.0.relu")]
)
def test_layers_of_any_network_become_a_raster(tmp_path: Path, name: str, layer: str) -> None:
    arguments = {"filters": [2, 2], "padding": 0} if name == "lecture_cnn" else {}
    network = trained_looking(name, 32, 1, 2, **arguments)
    model = save(tmp_path, network, architecture=name, chip_size=32, arguments=arguments)
    image = write_raster(tmp_path / "i.tif", np.random.default_rng(0).integers(0, 9, (40, 50)).astype(np.uint8))
    result = run(tmp_path, model, input=image, kind="feature_maps", layer=layer, channels=2)
    found = pixels(tmp_path / "a.tif")
    assert result["channels"] == 2 and np.isfinite(found).all()
    assert found.shape[1:] == ((10, 13) if name == "resnet18" else (40, 50))


def test_feature_maps_of_a_segmentation_network(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "i.tif", scene())
    run(tmp_path, save(tmp_path, segmenter()), input=image, kind="feature_maps", channels=4)
    assert pixels(tmp_path / "a.tif").shape == (4, 80, 96)
    run(tmp_path, str(tmp_path / "m.safetensors"), input=image, kind="feature_maps", channels=4, layer="encoder")
    assert pixels(tmp_path / "a.tif").shape == (4, 3, 3)
    run(tmp_path, str(tmp_path / "m.safetensors"), input=image, kind="feature_maps", channels=4, layer="decoder.head")
    assert pixels(tmp_path / "a.tif").shape == (2, 80, 96)


# --- filters


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_the_first_filters_are_drawn(tmp_path: Path, bands: int) -> None:
    network = trained_looking("lecture_cnn", 32, bands, 2, filters=[8])
    names = ("red", "green", "blue") if bands == 3 else tuple(f"band {number}" for number in range(bands))
    made: ModelHeader = header(bands, classes=TWO, chip_size=32, band_names=names, arguments={"filters": [8]})
    save_model(tmp_path / "m.safetensors", network, made)
    heard = Heard()
    result = run(tmp_path, str(tmp_path / "m.safetensors"), heard, kind="filters", picture=str(tmp_path / "f.png"))
    picture = pictures.imread(tmp_path / "f.png")
    assert result["picture"] and result["output"] is None and min(picture.shape[:2]) > 100
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 20
    assert any(f"8 filters of 3 × 3 pixels over {bands} bands" in text for text in heard.logs)


# --- photographs


def write_photograph(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures.imsave(path, data.repeat(3).reshape(*data.shape, 3))


def test_photographs_get_a_picture_each_and_a_table(tmp_path: Path) -> None:
    spot = np.zeros((SIZE, SIZE), np.uint8)
    spot[4:8, 8:12] = 20
    write_photograph(tmp_path / "photos" / "a" / "spot.png", spot)
    write_photograph(tmp_path / "photos" / "b.png", np.full((SIZE, SIZE), 2, np.uint8))
    result = run(tmp_path, save(tmp_path, spotter()), output=None, input_folder=str(tmp_path / "photos"),
                 target_class="spot", pictures=str(tmp_path / "out"))  # fmt: skip
    assert result["pictures"] and sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a", "answers.csv", "b.png.png",
    ]  # fmt: skip
    picture = (pictures.imread(tmp_path / "out" / "a" / "spot.png.png")[..., :3] * 255).round()
    side = picture.shape[0]
    original, laid = picture[:, :side], picture[:, -side:]
    changed = np.abs(original - laid).sum(axis=2)
    row, col = (np.array(np.unravel_index(changed.argmax(), changed.shape)) * SIZE / side).tolist()
    assert 4 <= row <= 8 and 8 <= col <= 12
    assert "a/spot.png" in (tmp_path / "out" / "answers.csv").read_text()


# --- what is refused


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"kind": "filters"}, "no PICTURE is given"),
        ({"kind": "filters", "picture": "f.svg"}, r"extension \.png"),
        ({}, "Neither INPUT nor INPUT_FOLDER"),
        ({"input": "i.tif", "output": None}, "no OUTPUT is given"),
        ({"input_folder": "photos"}, "no folder as PICTURES"),
        ({"input_folder": "photos", "kind": "feature_maps"}, "Feature maps of photographs"),
        ({"input": "image"}, "no TARGET_CLASS is given. Give one of 1 ground, 5 spot"),
        ({"input": "image", "target_class": "2"}, "no such class"),
        ({"input": "image", "kind": "feature_maps", "layer": "feature.0"}, 'no layer "feature.0"'),
        ({"input": "image", "kind": "feature_maps", "layer": "output"}, "is not a map"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    image = write_raster(tmp_path / "i.tif", scene())
    model = save(tmp_path, spotter())
    if settings.get("input") == "image":
        settings = {**settings, "input": image}
    with pytest.raises(InputError) as caught:
        run(tmp_path, model, **settings)
    assert words.replace("\\", "") in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif", "m.safetensors"}


def test_networks_without_a_map_say_so(tmp_path: Path) -> None:
    model = save(tmp_path, trained_looking("mlp", SIZE, 1, 2), architecture="mlp", arguments={})
    image = write_raster(tmp_path / "i.tif", scene())
    with pytest.raises(InputError, match="has no map of features"):
        run(tmp_path, model, input=image, target_class="spot")
    with pytest.raises(InputError, match="mlp has no convolution"):
        run(tmp_path, model, kind="filters", picture=str(tmp_path / "f.png"))


def test_a_folder_with_something_in_it_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        run(tmp_path, save(tmp_path, spotter()), input_folder=str(tmp_path), pictures=str(tmp_path / "out"))


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "i.tif", scene(200, 200))
    model = save(tmp_path, spotter())
    with pytest.raises(Cancelled):
        run(tmp_path, model, Heard(cancel_after=1), input=image, target_class="spot", tile_size=32)
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif", "m.safetensors"}


def test_a_raster_without_data_is_refused(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "i.tif", np.zeros((40, 40), np.uint8), nodata=0)
    with pytest.raises(InputError, match="has no data in the area to map"):
        run(tmp_path, save(tmp_path, spotter()), input=image, target_class="spot")
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif", "m.safetensors"}
