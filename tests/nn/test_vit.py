"""The vision transformer against a twin written out token by token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.nn.vit import Vit, VitConfig

TINY = VitConfig(patch_px=4, width=12, depth=3, heads=2, grid=3, registers=2)


def random_vit(config: VitConfig = TINY) -> Vit:
    torch.manual_seed(0)
    network = Vit(config).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def twin(network: Vit, image: Tensor, blocks: int) -> Tensor:
    """One image [3, H, W], token by token and head by head."""
    state, config = network.state_dict(), network.config
    p = config.patch_px
    rows, columns = image.shape[1] // p, image.shape[2] // p
    kernel = state["patches.weight"].flatten(1)
    tokens = [state["class_token"][0, 0] + state["class_position"][0, 0], *state["registers"][0]]
    side = config.grid
    square = state["positions"].reshape(side, side, -1).permute(2, 0, 1)[None]
    places = F.interpolate(square, (rows, columns), mode="bicubic", align_corners=False)[0]
    for i in range(rows):
        for j in range(columns):
            patch = image[:, i * p : i * p + p, j * p : j * p + p].reshape(-1)
            tokens.append(kernel @ patch + state["patches.bias"] + places[:, i, j])
    x = torch.stack(tokens)

    def norm(x: Tensor, name: str) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        unit = centered / (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return unit * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    size = config.width // config.heads
    for b in range(blocks):
        block = f"blocks.{b}"
        y = norm(x, f"{block}.norm1")
        q, k, v = (linear(y, f"{block}.attention.{part}") for part in ("query", "key", "value"))
        heads = []
        for h in range(config.heads):
            span = slice(h * size, (h + 1) * size)
            scores = q[:, span] @ k[:, span].T / math.sqrt(size)
            heads.append(scores.softmax(-1) @ v[:, span])
        y = linear(torch.cat(heads, dim=1), f"{block}.attention.out")
        x = x + state[f"{block}.scale1"] * y
        y = linear(norm(x, f"{block}.norm2"), f"{block}.fc1")
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + state[f"{block}.scale2"] * linear(y, f"{block}.fc2")
    return norm(x, "norm")[1 + config.registers :].reshape(rows, columns, -1)


@pytest.mark.parametrize("size", [(12, 12), (8, 20), (4, 4)])
@pytest.mark.parametrize("blocks", [0, 2, 3])
def test_it_is_its_written_out_twin(size: tuple[int, int], blocks: int) -> None:
    network = random_vit()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    found = network(images, blocks)
    assert found.shape == (2, size[0] // 4, size[1] // 4, 12)
    for image, tokens in zip(images, found, strict=True):
        torch.testing.assert_close(tokens, twin(network, image, blocks))


def test_all_blocks_are_used_unless_told_otherwise() -> None:
    network = random_vit()
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(network(images), network(images, 3))
    assert not torch.allclose(network(images), network(images, 2))
