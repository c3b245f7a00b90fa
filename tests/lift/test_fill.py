"""What no view has seen: filled along the surface where there is one, in space where not."""

from __future__ import annotations

import torch

from geodistill.lift.fill import filled_along, filled_in_space


def chain(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points on a line with an edge between neighbours: positions, edges, lengths."""
    positions = torch.zeros(count, 3, dtype=torch.float64)
    positions[:, 0] = torch.arange(count)
    edges = torch.stack([torch.arange(count - 1), torch.arange(1, count)], dim=1)
    return positions, edges, torch.ones(count - 1)


def test_the_nearest_seen_element_along_the_surface_fills() -> None:
    positions, edges, lengths = chain(6)
    features = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0], [2.0]])
    seen = torch.tensor([True, False, False, False, False, True])
    result = filled_along(features, seen, positions, edges, lengths)
    assert result[:, 0].tolist() == [1, 1, 1, 2, 2, 2]


def test_the_way_along_the_surface_counts_and_not_the_gap() -> None:
    """A hairpin: the ends of the chain lie side by side, yet far apart on it."""
    positions, edges, lengths = chain(9)
    positions[5:, 0] = torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    positions[5:, 1] = 0.1
    features = torch.zeros(9, 1)
    features[0], features[4] = 1.0, 2.0
    seen = features[:, 0] > 0
    assert float(filled_along(features, seen, positions, edges, lengths)[8]) == 2.0
    assert float(filled_in_space(features, seen, positions)[8]) < 1.1


def test_a_part_without_any_seen_element_is_filled_from_its_neighbours_in_space() -> None:
    positions, edges, lengths = chain(6)
    cut = edges[:, 0] != 2
    features = torch.arange(6.0)[:, None]
    seen = torch.tensor([True, True, True, False, False, False])
    result = filled_along(features, seen, positions, edges[cut], lengths[cut])
    assert torch.equal(result[:3], features[:3])
    assert bool((result[3:] > 1.0).all()) and bool((result[3:] <= 2.0).all())


def test_what_was_seen_stays_and_constants_stay_constant() -> None:
    draw = torch.Generator().manual_seed(0)
    positions = torch.randn(200, 3, generator=draw, dtype=torch.float64)
    seen = torch.rand(200, generator=draw) > 0.5
    features = torch.where(seen[:, None], 3.5, 0.0).expand(200, 2)
    torch.testing.assert_close(
        filled_in_space(features, seen, positions), torch.full((200, 2), 3.5)
    )
    mixed = torch.randn(200, 2, generator=draw)
    assert torch.equal(filled_in_space(mixed, seen, positions)[seen], mixed[seen])


def test_nothing_seen_leaves_everything_as_it_is() -> None:
    positions, edges, lengths = chain(3)
    features, none = torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool)
    assert torch.equal(filled_along(features, none, positions, edges, lengths), features)
    assert torch.equal(filled_in_space(features, none, positions), features)
