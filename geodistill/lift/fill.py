"""Features for the elements that no view has seen, from their neighbours that were."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import check

NEIGHBOURS = 4
"""Seen elements in space that an element without surface neighbours is the mean of."""


def filled_along(
    features: Tensor, seen: Tensor, positions: Tensor, edges: Tensor, lengths: Tensor
) -> Tensor:
    """Every unseen element takes the features of the seen one that is nearest along the surface.

    Parts of the surface without any seen element are filled from their neighbours in space.

    Args:
        features: [N, C].
        seen: bool [N].
        positions: [N, 3].
        edges: int64 [E, 2], neighbours on the surface.
        lengths: [E] > 0.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    check(
        features=(features, "N C"), seen=(seen, "N"), edges=(edges, "E 2"), lengths=(lengths, "E")
    )
    sources = seen.nonzero()[:, 0].numpy()
    if len(sources) in (0, len(seen)):
        return features
    ends = edges.numpy()
    graph = coo_matrix((lengths.double().numpy(), (ends[:, 0], ends[:, 1])), [len(seen)] * 2)
    _, _, nearest = dijkstra(
        graph.tocsr(), directed=False, indices=sources, min_only=True, return_predecessors=True
    )
    reached = torch.from_numpy(np.asarray(nearest) >= 0)
    origin = torch.from_numpy(np.maximum(nearest, 0).astype(np.int64))
    along = torch.where(reached[:, None], features[origin], features)
    return filled_in_space(along, seen | reached, positions)


def filled_in_space(features: Tensor, seen: Tensor, positions: Tensor) -> Tensor:
    """Every unseen element takes the mean of the seen ones nearest in space, by inverse distance.

    features: [N, C];  seen: bool [N];  positions: [N, 3].
    """
    from scipy.spatial import KDTree

    check(features=(features, "N C"), seen=(seen, "N"), positions=(positions, "N 3"))
    if not bool(seen.any()) or bool(seen.all()):
        return features
    known = features[seen]
    count = min(NEIGHBOURS, len(known))
    distance, index = KDTree(positions[seen].numpy()).query(positions[~seen].numpy(), k=count)
    distance = torch.from_numpy(distance).reshape(-1, count)
    index = torch.from_numpy(index).reshape(-1, count)
    weights = 1.0 / distance.clamp_min(1e-12)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(features)
    result = features.clone()
    result[~seen] = (weights[..., None] * known[index]).sum(dim=1)
    return result
