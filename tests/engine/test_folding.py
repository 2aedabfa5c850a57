"""Networks with folded batch norms answer as before, and the process keeps its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from plugin.engine.models.factory import create_model
from plugin.engine.models.folding import folded

ROOT = Path(__file__).resolve().parents[2]


def learned(network: nn.Module) -> nn.Module:
    """The network with batch norms as after a training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low in (
                (module.running_var, 0.5),
                (module.weight, 0.5),
                (module.running_mean, -1),
                (module.bias, -1),
            ):
                nn.init.uniform_(value, low, 1.5)
    return network.eval().requires_grad_(False)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    "architecture, encoder",
    [("unet", "resnet18"), ("unet", "efficientnet_lite0"), ("fcn8s", "mobilenet_v3_small"), ("segformer", "mit_b0")],
)
def test_a_folded_network_answers_as_before(architecture: str, encoder: str) -> None:
    torch.manual_seed(0)
    network = learned(create_model(architecture, encoder, 2, 3))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = folded(network, 2)
    assert norms(network) > norms(found) == 0
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    images = torch.randn(2, 2, 96, 128)
    expected = network(images)
    assert torch.allclose(found(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


class Twice(nn.Module):
    """Uses one convolution in front of two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norms = nn.Conv2d(2, 2, 1), nn.ModuleList(nn.BatchNorm2d(2) for _ in range(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for norm in self.norms:
            images = norm(self.convolution(images))
        return images


@pytest.mark.parametrize("network", [Twice(), nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), nn.Conv2d(2, 3, 1)])
def test_a_network_that_cannot_be_folded_stays_what_it_is(network: nn.Module) -> None:
    assert folded(learned(network), 2) is network


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is that of the GNU C library")
def test_freed_memory_is_kept() -> None:
    script = """if True:
        import resource, torch
        from plugin.engine.device import keep_memory
        keep_memory()
        faults = []
        for _ in range(40):  # the first blocks may lie between others, so that the next does not fit
            torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        print(min(after - before for before, after in zip(faults, faults[1:])))
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000, "64 MB are 16,384 pages"


def test_a_network_that_gives_no_numbers_is_not_folded() -> None:
    network = learned(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))
    nn.init.constant_(network[1].weight, float("nan"))
    assert folded(network, 2) is network
