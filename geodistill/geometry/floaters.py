"""Splats that hang in the air: clumps that touch nothing else and are small."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch import Tensor

from geodistill.geometry.splats import Splats, covariances, coverage

NEIGHBOURS = 12
REACH = 3.0
"""Standard deviations to which a splat is seen."""
SOLID = 0.1
"""Opacity from which splats connect others: haze does not make one thing of two."""
_CHUNK = 1 << 16


def clumps(splats: Splats) -> Tensor:
    """Which clump each splat is of: int64 [N], numbered from 0.

    Two of nearest neighbours touch where they are seen to overlap along the line between them.
    Faint splats belong to the nearest solid one that they touch, and are a clump each where there
    is none.
    """
    count = len(splats)
    one, other = _touching(splats)
    solid = (splats.opacity_logits.detach().cpu().sigmoid() >= SOLID).numpy()
    linked = solid[one] & solid[other]
    # Neighbours come by distance, so the first of each faint splat is its nearest.
    held = np.flatnonzero(~solid[one] & solid[other])
    held = held[np.unique(one[held], return_index=True)[1]]
    rows = np.concatenate([one[linked], one[held]])
    columns = np.concatenate([other[linked], other[held]])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def anchored(splats: Splats, share: float) -> Tensor:
    """bool [N]: the splats of clumps that make up at least `share` of what all cover."""
    clump = clumps(splats)
    cover = coverage(splats).cpu()
    held = cover.new_zeros(int(clump.max()) + 1).index_add(0, clump, (cover - cover.max()).exp())
    return (held >= share * held.sum())[clump].to(splats.means.device)


def _touching(splats: Splats) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of all pairs of near neighbours that overlap, by splat and then by distance."""
    means = splats.means.detach().double().cpu()
    tree = KDTree(means.numpy())
    wanted = min(NEIGHBOURS + 1, len(means))
    found = np.reshape(tree.query(means.numpy(), wanted, workers=-1)[1], (len(means), wanted))
    spread = covariances(splats).detach().double().cpu()
    pairs = []
    for one in torch.arange(len(means)).split(_CHUNK):
        other = torch.from_numpy(found[one.numpy()])
        between = means[other] - means[one][:, None]
        distance = between.norm(dim=2)
        way = between / distance.clamp_min(1e-300)[..., None]
        own = torch.einsum("nki,nij,nkj->nk", way, spread[one], way)
        others = torch.einsum("nki,nkij,nkj->nk", way, spread[other], way)
        reach = own.clamp_min(0).sqrt() + others.clamp_min(0).sqrt()
        row, column = (distance <= REACH * reach).nonzero(as_tuple=True)
        pairs.append(torch.stack([one[row], other[row, column]]))
    return tuple(torch.cat(pairs, dim=1).numpy())
