"""Sparse convolution against the dense one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import ShapeError
from geodistill.nn import sparse_spconv
from geodistill.nn.sparse import SparseMap, StridedConv, SubmanifoldConv, convolve

SHAPE = (5, 7, 6)


def made(channels: int = 3, share: float = 0.25, seed: int = 0) -> SparseMap:
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(2, *SHAPE, generator=generator) < share
    cells = there.nonzero()
    cells = cells[torch.randperm(len(cells), generator=generator)]
    features = torch.randn(len(cells), channels, generator=generator, dtype=torch.float64)
    return SparseMap(features.requires_grad_(), cells, SHAPE, 2)


def dense_weight(weight: Tensor) -> Tensor:
    return weight.permute(4, 3, 0, 1, 2)


def at(dense: Tensor, cells: Tensor) -> Tensor:
    b, z, y, x = cells.T
    return dense[b, :, z, y, x]


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (5, 3, 1)])
def test_submanifold_outputs_are_dense_ones_where_something_is(
    kernel: tuple[int, int, int],
) -> None:
    x = made()
    layer = SubmanifoldConv(3, 4, kernel).double()
    padding = tuple(k // 2 for k in kernel)
    wanted = at(F.conv3d(x.dense(), dense_weight(layer.weight), padding=padding), x.cells)
    found = layer(x)
    torch.testing.assert_close(found.features, wanted)
    assert found.cells is x.cells
    _same_gradients(found.features, wanted, x, layer.weight)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((3, 3, 3), (2, 2, 2), (0, 1, 1)),
        ((3, 1, 1), (2, 1, 1), (0, 0, 0)),
        ((2, 2, 2), (2, 2, 2), (0, 0, 0)),
        ((3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_strided_outputs_are_the_dense_ones(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], padding: tuple[int, int, int]
) -> None:
    x = made()
    layer = StridedConv(3, 4, kernel, stride, padding).double()
    dense = F.conv3d(x.dense(), dense_weight(layer.weight), stride=stride, padding=padding)
    found = layer(x)
    torch.testing.assert_close(found.dense(), dense)  # nowhere else is anything
    ones = x.with_features(torch.ones_like(x.features[:, :1])).dense()
    reached = F.conv3d(ones, torch.ones(1, 1, *kernel).double(), stride=stride, padding=padding)
    assert len(found.cells) == int((reached > 0).sum())
    _same_gradients(found.features, at(dense, found.cells), x, layer.weight)


def _same_gradients(found: Tensor, wanted: Tensor, x: SparseMap, weight: Tensor) -> None:
    inputs = (x.features, weight)
    one = torch.autograd.grad(found.square().sum(), inputs, retain_graph=True)
    two = torch.autograd.grad(wanted.square().sum(), inputs)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


def test_layers_of_one_resolution_share_their_pairs() -> None:
    x = made()
    one, two = SubmanifoldConv(3, 4).double(), SubmanifoldConv(4, 5).double()
    after = two(one(x))
    assert after.shared is x.shared and list(x.shared) == [(3, 3, 3)]


def test_nothing_depends_on_the_order_of_cells() -> None:
    x = made()
    order = torch.randperm(len(x.cells), generator=torch.Generator().manual_seed(1))
    other = SparseMap(x.features[order], x.cells[order], SHAPE, 2)
    layer = SubmanifoldConv(3, 4).double()
    torch.testing.assert_close(layer(other).features, layer(x).features[order])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_spconv_gives_the_same(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its build for CPUs has no backward pass; that for GPUs is held against ours there."""
    pytest.importorskip("spconv.pytorch")
    found = made(3)
    x = SparseMap(found.features.detach().float(), found.cells, SHAPE, 2)
    torch.manual_seed(0)
    layers = nn.Sequential(
        SubmanifoldConv(3, 8),
        SubmanifoldConv(8, 8),
        StridedConv(8, 16, (3, 3, 3), (2, 2, 2), (0, 1, 1)),
        SubmanifoldConv(16, 16, (3, 1, 1)),
    )
    ours = layers(x).dense()
    wanted = torch.autograd.grad(ours.square().sum(), [*layers.parameters()])
    monkeypatch.setattr(sparse_spconv, "serves", lambda features: True)
    features = x.features.to(device).requires_grad_(device == "cuda")
    before = torch.get_rng_state()
    theirs = layers.to(device)(SparseMap(features, x.cells.to(device), SHAPE, 2)).dense()
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(theirs.detach().cpu(), ours.detach())
    if device == "cuda":
        given = torch.autograd.grad(theirs.square().sum(), [*layers.parameters()])
        for one, two in zip(given, wanted, strict=True):
            torch.testing.assert_close(one.cpu(), two)


def test_nothing_at_all() -> None:
    x = SparseMap(torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.int64), SHAPE, 2)
    assert SubmanifoldConv(3, 4)(x).features.shape == (0, 4)
    found = StridedConv(3, 4, (3, 3, 3), (2, 2, 2), (1, 1, 1))(x)
    assert found.dense().shape == (2, 4, 3, 4, 3) and found.dense().abs().sum() == 0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="weight must have shape"):
        convolve(torch.zeros(2, 3), torch.zeros(1, 1, 1, 4, 5), [], 2)
