"""Bilinear look-ups against grid_sample and by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from geodistill.checks import ShapeError, UsageError
from geodistill.shade.textures import sample_texture


def noise(height: int = 5, width: int = 7) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (height, width, 4), generator=draw, dtype=torch.uint8)


def test_the_first_row_is_the_top_and_the_origin_the_lower_left() -> None:
    texture = torch.zeros(2, 2, 4, dtype=torch.uint8)
    texture[0, 0, 0], texture[0, 1, 1], texture[1, 0, 2], texture[1, 1, 3] = 255, 255, 255, 255
    uv = torch.tensor([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [0.75, 0.25]])
    torch.testing.assert_close(sample_texture(texture, uv), torch.eye(4))


def test_inside_it_is_grid_sample() -> None:
    texture = noise()
    uv = torch.rand(50, 2, generator=torch.Generator().manual_seed(1)) * 0.7 + 0.15
    image = texture.permute(2, 0, 1)[None].float() / 255
    at = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], -1)[None, None]
    expected = F.grid_sample(image, at, align_corners=False)[0, :, 0].T
    torch.testing.assert_close(sample_texture(texture, uv), expected, rtol=0, atol=1e-5)


def test_it_wraps_around() -> None:
    texture = noise()
    uv = torch.rand(50, 2, generator=torch.Generator().manual_seed(1))
    shifted = uv + torch.tensor([3.0, -2.0])
    found = sample_texture(texture, shifted)
    torch.testing.assert_close(found, sample_texture(texture, uv), rtol=0, atol=1e-4)
    corner = texture[[0, 0, -1, -1], [0, -1, 0, -1]].float().mean(0) / 255
    for place in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)):
        torch.testing.assert_close(sample_texture(texture, torch.tensor(place)), corner)


def test_gradients_reach_the_coordinates() -> None:
    uv = torch.rand(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda uv: sample_texture(noise(), uv), uv.requires_grad_())


def test_other_textures_are_refused() -> None:
    with pytest.raises(UsageError, match=r"texture must be torch.uint8, got torch.float32"):
        sample_texture(noise().float(), torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="texture must have shape"):
        sample_texture(noise()[..., :3], torch.zeros(1, 2))
