"""Models: the published sizes, any input size, the registry."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from manifests.errors import UserError
from trainer import models
from trainer.models import nafnet


@pytest.mark.parametrize(
    ("preset", "millions"), [("gopro-width32", 17.11), ("gopro-width64", 67.89), ("sidd-width64", 115.98)]
)
def test_parameter_counts_are_the_published_ones(preset: str, millions: float) -> None:
    assert round(models.count_parameters("nafnet", preset) / 1e6, 2) == millions


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (16, 16), (33, 50)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    model = models.build("nafnet", "tiny")
    assert model(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_block_is_the_identity_at_first_and_the_formula_later() -> None:
    torch.manual_seed(0)
    block, x = nafnet.Block(6), torch.rand(2, 6, 5, 7)
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.beta)
    torch.nn.init.normal_(block.gamma)

    def norm(layer: nafnet.LayerNorm2d, t: torch.Tensor) -> torch.Tensor:
        centred = t - t.mean(1, keepdim=True)
        unit = centred / (t.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        return unit * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)

    first, second = block.depthwise(block.expand(norm(block.norm1, x))).chunk(2, 1)
    gated = first * second
    gated = gated * block.attention(F.adaptive_avg_pool2d(gated, 1))
    middle = x + block.beta * block.project(gated)
    first, second = block.feed(norm(block.norm2, middle)).chunk(2, 1)
    expected = middle + block.gamma * block.feed_project(first * second)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_the_gate_has_the_gradient_of_its_formula() -> None:
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(nafnet.simple_gate, (x,))
    torch.testing.assert_close(nafnet.simple_gate(x), nafnet.simple_gate(x.detach()))


def test_every_parameter_gets_a_gradient() -> None:
    model = models.build("nafnet", "tiny", width=8)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model(torch.rand(1, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nafnett", "tiny", {}), "did you mean nafnet"),
        (("nafnet", "tinny", {}), "did you mean tiny"),
        (("nafnet", "tiny", {"widht": 3}), "did you mean width"),
        (("nafnet", "tiny", {"encoder": [1]}), "as many levels"),
    ],
)
def test_wrong_names_are_said_in_one_line(arguments: tuple[str, str, dict[str, object]], said: str) -> None:
    name, preset, changes = arguments
    with pytest.raises(UserError, match=said):
        models.build(name, preset, **changes)
