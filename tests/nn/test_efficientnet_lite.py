"""EfficientNet-Lite0: its shapes, its padding, and what its trained weights see."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from geodistill.checks import InputError
from geodistill.nn.efficientnet_lite import EfficientNetLite0, SameConv2d
from geodistill.teachers.base import Preprocessing, prepare
from geodistill.teachers.lite import load_network


@pytest.fixture(scope="module")
def trained() -> EfficientNetLite0:
    try:
        return load_network()
    except InputError as error:
        pytest.skip(str(error))


def test_it_has_the_published_number_of_parameters() -> None:
    network = EfficientNetLite0()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008


@pytest.mark.parametrize(
    "count, channels, stride", [(1, 16, 2), (3, 24, 4), (5, 40, 8), (8, 80, 16), (11, 112, 16)]
)
def test_maps_have_their_strides(count: int, channels: int, stride: int) -> None:
    found = EfficientNetLite0().eval().blocks(torch.zeros(1, 3, 64, 96), count)
    assert found.shape == (1, channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_padding_is_that_of_tensorflow(kernel: int, stride: int, size: int) -> None:
    """Output i sees inputs from i * stride - before, where before is half the padding, rounded
    down (TensorFlow's documentation of SAME)."""
    torch.manual_seed(0)
    layer = SameConv2d(1, 1, kernel, stride, bias=False)
    x = torch.randn(1, 1, size, size)
    out = layer(x)
    outputs = -(-size // stride)
    assert out.shape == (1, 1, outputs, outputs)
    before = max(0, (outputs - 1) * stride + kernel - size) // 2
    wide = F.pad(x, (kernel, 2 * kernel, kernel, 2 * kernel))
    for i in range(outputs):
        for j in range(outputs):
            top, left = (kernel + k * stride - before for k in (i, j))
            window = wide[0, 0, top : top + kernel, left : left + kernel]
            expected = (window * layer.weight[0, 0]).sum()
            torch.testing.assert_close(out[0, 0, i, j], expected)


@pytest.mark.parametrize("name, label, chance", [("chelsea", 285, 0.800), ("coffee", 967, 0.8575)])
def test_it_knows_a_cat_and_an_espresso(
    trained: EfficientNetLite0, name: str, label: int, chance: float
) -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    image = torch.from_numpy(getattr(data, name)().copy())[None].float() / 255
    square = F.interpolate(
        image.permute(0, 3, 1, 2), (224, 224), mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    chances = trained(prepare(square, Preprocessing(32))[0]).softmax(-1)[0]
    assert chances.argmax() == label
    assert float(chances.max()) == pytest.approx(chance, abs=2e-3)


def test_what_a_token_sees_is_centred_on_its_patch(trained: EfficientNetLite0) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 192, 192, requires_grad=True)
    found = trained.blocks(images, 11)[:, :, 6, 6]
    (slope,) = torch.autograd.grad((found * torch.randn_like(found)).sum(), images)
    energy = slope.square().sum(dim=(0, 1))
    centers = torch.arange(192) + 0.5
    across = (energy.sum(dim=0) * centers).sum() / energy.sum()
    down = (energy.sum(dim=1) * centers).sum() / energy.sum()
    expected = 6 * 16 + 8
    assert abs(float(across) - expected) < 4 and abs(float(down) - expected) < 4
