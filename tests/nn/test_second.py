"""SECOND: as many parameters as published, and a forward pass by dense convolutions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.nn import sparse, sparse_spconv
from geodistill.nn.second import LAYERS, Normed, Second, sparse_map
from geodistill.nn.sparse import StridedConv
from geodistill.nn.voxels import VoxelGrid, voxelize

GRID = VoxelGrid((0.0, -3.2, -3.0), (6.4, 3.2, 1.0), (0.2, 0.2, 0.1), 5, 400)


def scans() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([6.4, 6.4, 4, 1], dtype=torch.float64)
    low = torch.tensor([0, -3.2, -3, 0], dtype=torch.float64)
    return [
        torch.rand(n, 4, generator=generator, dtype=torch.float64) * size + low for n in (300, 80)
    ]


@pytest.mark.parametrize(("compression", "millions"), [(1, 5.326), (4, 1.343), (16, 0.341)])
def test_parameters_are_as_many_as_published(compression: int, millions: float) -> None:
    model = Second(compression=compression)
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=6e-4)
    assert len(model.state_dict()) == 162


@pytest.mark.parametrize("layers", [LAYERS[0] - 1, *LAYERS, LAYERS[-1] + 1])
def test_of_which_grids_the_encoder_makes_two_layers(layers: int) -> None:
    grid = VoxelGrid((0.0, 0.0, 0.0), (1.6, 1.6, 0.1 * layers), (0.1, 0.1, 0.1), 5, 400)
    model = Second(compression=16).eval()
    found = model.encoder(sparse_map(voxelize([torch.rand(20, 4)], grid)))
    assert found.shape == (1, 2 * 32, 2, 2) or layers not in LAYERS
    assert (found.shape[1] == 64) == (layers in LAYERS)


def test_one_voxel_is_enough_to_learn_from() -> None:
    torch.manual_seed(0)
    model = Second(compression=16)
    norm = model.encoder.first.norm
    torch.nn.init.normal_(norm.bias)
    given = sparse_map(voxelize([torch.tensor([[1.0, 0.0, 0.0, 0.5]])], GRID))
    found = model.encoder.first(given).features
    assert torch.equal(found, torch.relu(norm.bias)[None])  # it is its own mean
    model.encoder(given).sum().backward()
    assert all(buffer.isfinite().all() for buffer in model.buffers())


@pytest.mark.parametrize("by_spconv", [False, True])
def test_networks_that_see_the_same_voxels_search_neighbours_once(
    by_spconv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_spconv:
        pytest.importorskip("spconv.pytorch")
        monkeypatch.setattr(sparse_spconv, "serves", lambda features: True)
    models = [Second(compression=c).eval() for c in (4, 16)]
    points = [scan.float() for scan in scans()]
    searches: list[str] = []
    for name in ("submanifold_pairs", "strided_pairs"):
        real = getattr(sparse, name)

        def counted(*given, name: str = name, real: Callable = real):
            searches.append(name)
            return real(*given)

        monkeypatch.setattr(sparse, name, counted)
    with torch.no_grad():
        alone = [model(voxelize(points, GRID)) for model in models]
        each = 0 if by_spconv else 4 + 4  # of four resolutions, and of the ways to the next
        assert len(searches) == 2 * each
        voxels = voxelize(points, GRID)
        together = [model(voxels) for model in models]
        assert len(searches) == 3 * each
    for one, two in zip(alone, together, strict=True):
        assert torch.equal(one.logits, two.logits) and torch.equal(one.codes, two.codes)


def dense_layer(layer: Normed, x: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """By dense convolutions, with what is there kept apart."""
    own = layer.convolution
    weight = own.weight.permute(4, 3, 0, 1, 2)
    if isinstance(own, StridedConv):
        ones = torch.ones(1, 1, *own.kernel, dtype=x.dtype)
        there = (F.conv3d(there, ones, stride=own.stride, padding=own.padding) > 0).to(x)
        x = F.conv3d(x, weight, stride=own.stride, padding=own.padding)
    else:
        x = F.conv3d(x, weight, padding=[k // 2 for k in own.kernel])
    norm = layer.norm
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return F.relu(x) * there, there


def test_the_encoder_is_that_of_dense_convolutions() -> None:
    torch.manual_seed(0)
    model = Second(compression=4).double().eval()
    for layer in model.encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias, std=0.3)
            torch.nn.init.normal_(layer.running_mean, std=0.3)  # type: ignore[arg-type]
    given = sparse_map(voxelize(scans(), GRID))
    assert given.shape == (41, 32, 32)
    x = given.dense()
    there = given.with_features(torch.ones_like(given.features[:, :1])).dense()
    layers = [model.encoder.first, *(part for s in model.encoder.stages for part in s)]  # type: ignore[union-attr]
    for layer in [*layers, model.encoder.last]:
        x, there = dense_layer(layer, x, there)
    assert x.shape == (2, 64, 2, 4, 4) and x.abs().sum() > 0
    torch.testing.assert_close(model.encoder(given), x.reshape(2, 128, 4, 4))
    found = model(voxelize(scans(), GRID))
    assert found.logits.shape == (2, 4 * 4 * 6, 3)
