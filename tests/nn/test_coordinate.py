"""The coordinate network: unit features, the same for a seed."""

from __future__ import annotations

import torch

from geodistill.nn.coordinate import CoordinateNetwork


def test_features_have_length_one() -> None:
    points = torch.rand(50, 3) * 2 - 1
    features = CoordinateNetwork(7)(points)
    assert features.shape == (50, 7)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(50))


def test_a_seed_gives_one_network_and_leaves_the_global_generator_alone() -> None:
    points = torch.rand(5, 3)
    before = torch.get_rng_state()
    first, same, other = (CoordinateNetwork(4, seed=seed)(points) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_its_size_is_the_published_one() -> None:
    """0.66 M parameters for 1536 channels, 0.28 M for 64."""
    sizes = [sum(p.numel() for p in CoordinateNetwork(c).parameters()) for c in (1536, 64)]
    assert [round(size / 1e6, 2) for size in sizes] == [0.66, 0.28]
