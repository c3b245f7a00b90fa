"""PointNet++'s layers against loops over points, and clouds drawn from scans."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from geodistill.checks import InputError, ShapeError
from geodistill.nn.point_clouds import gathered, thinned
from geodistill.nn.pointnet import (
    FeaturePropagation,
    Grouping,
    SetAbstraction,
    interpolation,
    layers,
    levels_of,
)

GROUPINGS = [Grouping(24, (0.4, 0.9), (4, 7)), Grouping(6, (1.5,), (5,))]


def clouds(count: int = 80, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, 3, generator=generator, dtype=torch.float64)


def lively(module: nn.Module) -> nn.Module:
    """With batch norms that do something, in eval mode."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]
    return module.double().eval()


def test_a_level_is_made_of_balls() -> None:
    xyz, features = clouds(), torch.randn(2, 80, 5, dtype=torch.float64)
    level = levels_of(xyz, GROUPINGS)[0]
    part = lively(SetAbstraction(5, ((8, 9), (6, 7, 10))))
    found = part(xyz, features.flatten(0, 1), level).view(2, 24, 19)
    assert torch.equal(level.xyz[:, 0], xyz[:, 0])
    for b in range(2):
        for m in range(24):
            center, made = level.xyz[b, m], []
            for radius, samples, scale in zip((0.4, 0.9), (4, 7), part.scales, strict=True):  # type: ignore[arg-type]
                near = [k for k in range(80) if (xyz[b, k] - center).norm() < radius][:samples]
                rows = [scale(torch.cat([xyz[b, k] - center, features[b, k]])[None]) for k in near]
                made.append(torch.cat(rows).amax(0))
            torch.testing.assert_close(found[b, m], torch.cat(made))


def test_features_come_back_from_the_three_nearest() -> None:
    xyz = clouds()
    level = levels_of(xyz, GROUPINGS)[0]
    fine = torch.randn(2, 80, 4, dtype=torch.float64)
    coarse = torch.randn(2, 24, 6, dtype=torch.float64)
    part = lively(FeaturePropagation(10, (8, 3)))
    found = part(fine.flatten(0, 1), coarse.flatten(0, 1), level).view(2, 80, 3)
    for b in range(2):
        for n in range(0, 80, 7):
            away = (level.xyz[b] - xyz[b, n]).norm(dim=1)
            near = away.argsort(stable=True)[:3]
            weights = 1 / (away[near] + 1e-8)
            between = (weights / weights.sum()) @ coarse[b, near]
            wanted = part.layers(torch.cat([between, fine[b, n]])[None])[0]  # type: ignore[operator]
            torch.testing.assert_close(found[b, n], wanted)


def test_a_centre_takes_its_own_feature_back() -> None:
    level = levels_of(clouds(), GROUPINGS)[0]
    near, weights = interpolation(level.xyz, level.xyz)
    assert torch.equal(near[:, 0], torch.arange(48).int())
    torch.testing.assert_close(weights[:, 0], torch.ones(48).double(), atol=1e-6, rtol=0)
    near, weights = interpolation(level.xyz, level.xyz[:, :2])  # of two the nearest two
    assert near.shape == (48, 2)
    torch.testing.assert_close(weights.sum(1), torch.ones(48).double())


def test_clouds_do_not_see_each_other() -> None:
    xyz, features = clouds(), torch.randn(160, 5, dtype=torch.float64)
    part = lively(SetAbstraction(5, ((8, 9), (6, 7))))
    together = part(xyz, features, levels_of(xyz, GROUPINGS)[0])
    alone = part(xyz[1:], features[80:], levels_of(xyz[1:], GROUPINGS)[0])
    torch.testing.assert_close(together[24:], alone)


def test_where_a_cloud_is_does_not_matter() -> None:
    xyz, features = clouds(), torch.randn(160, 5, dtype=torch.float64)
    part = lively(SetAbstraction(5, ((8, 9), (6, 7))))
    moved = xyz + torch.tensor([4.0, -8, 2])
    found = part(moved, features, levels_of(moved, GROUPINGS)[0])
    torch.testing.assert_close(found, part(xyz, features, levels_of(xyz, GROUPINGS)[0]))


def test_levels_without_a_way_back_are_the_same() -> None:
    for own, other in zip(
        levels_of(clouds(), GROUPINGS), levels_of(clouds(), GROUPINGS, back=False), strict=True
    ):
        assert torch.equal(own.xyz, other.xyz)
        assert all(torch.equal(a, b) for a, b in zip(own.groups, other.groups, strict=True))
        assert len(own.near) and not len(other.near)


def test_gradients_of_levels() -> None:
    xyz = clouds(20)
    (level,) = levels_of(xyz, [Grouping(6, (1.0,), (3,))])
    up, down = lively(SetAbstraction(2, ((3,),))), lively(FeaturePropagation(5, (2,)))

    def run(features: Tensor) -> Tensor:
        return down(features, up(xyz, features, level), level)

    features = torch.randn(40, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, features)


def test_layers_without_norms_have_biases() -> None:
    made = layers(3, (4, 5), norm=False)
    assert [name for name, _ in made.named_parameters()] == [
        *("0.weight", "0.bias", "2.weight", "2.bias")
    ]


def scan(near: int, far: int) -> Tensor:
    """Points at 1 m and at 50 m; each has a number."""
    where = torch.tensor([1.0] * near + [50.0] * far)
    zeros = torch.zeros_like(where)
    return torch.stack([where, zeros, zeros, torch.arange(near + far).float()], 1)


def test_far_points_are_kept() -> None:
    found = thinned(scan(900, 40), 256, 40.0, torch.Generator().manual_seed(0))
    numbers = found[:, 3].long().tolist()
    assert len(set(numbers)) == 256 and set(range(900, 940)) <= set(numbers)
    assert numbers != sorted(numbers)
    crowd = thinned(scan(100, 900), 256, 40.0, torch.Generator().manual_seed(0))
    assert len(set(crowd[:, 3].tolist())) == 256 and (crowd[:, 0] == 50).all()


@pytest.mark.parametrize("count", [1, 5, 100, 255, 256])
def test_of_few_points_each_is_there(count: int) -> None:
    found = thinned(scan(count, 0), 256, 40.0, torch.Generator().manual_seed(0))
    times = torch.bincount(found[:, 3].long(), minlength=count)
    assert len(found) == 256 and times.min() >= 256 // count
    assert times.max() <= 256 // count + 1


def test_batches_are_functions_of_the_generator() -> None:
    given = [scan(300, 9), scan(70, 0), torch.zeros(0, 4)]
    one, two, other = (
        gathered(given, 256, 40.0, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    )
    assert torch.equal(one[0], two[0]) and one[2] == two[2]
    assert not torch.equal(one[0], other[0]) and one[2] != other[2]
    assert one[1].tolist() == [256, 70, 0] and (one[0][2] == 0).all()
    # Without one, a scan is drawn from alike whatever is beside it.
    together, _, _ = gathered(given, 256, 40.0)
    alone, _, _ = gathered(given[1:2], 256, 40.0)
    assert torch.equal(together[1], alone[0])
    several, single = (levels_of(points[..., :3], GROUPINGS) for points in (together, alone))
    assert torch.equal(several[1].xyz[1], single[1].xyz[0])


def test_bad_clouds_are_refused() -> None:
    with pytest.raises(ShapeError, match="xyz"):
        levels_of(torch.zeros(4, 3), GROUPINGS)
    with pytest.raises(InputError, match="NaN or infinite"):
        levels_of(torch.full((1, 30, 3), torch.nan), GROUPINGS)
    with pytest.raises(ShapeError, match="scan"):
        thinned(torch.zeros(4), 10, 40.0, torch.Generator())
