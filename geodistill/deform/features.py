"""Features as weights use them: unit, partly centred, one column for each position of a surface.

They are stored channel by channel, [D, P]: the similarities of one handle are then D long, even
reads of memory, which is what they cost.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError, check, check_finite
from geodistill.deform.surface import Surface

# Raw features of image networks share a large common part: between 49 and 79 % of all pairs on a
# shape lie within 60 degrees, and a handle touches nearly everything. Without 0.7 of it, the
# handles of legs and horns touch 11 to 21 % of the area.
CENTRING = 0.7

_PROBES = 256


def prepare(features: Tensor, surface: Surface, centring: float = CENTRING) -> Tensor:
    """Features [V, D] of a mesh's vertices as unit columns, float32 [D, P].

    z <- normalise(z - centring * mean) with the area-weighted mean of the unit features; vertices
    at the same place share the mean of theirs. A zero feature (nothing known) stays zero.

    Raises ShapeError when there is not one row a vertex, InputError for NaN or for features that
    are all zero, UsageError for a centring outside [0, 1].
    """
    check(features=(features, "V D"))
    if len(features) != len(surface.welded):
        raise ShapeError(
            f"features must have a row for each of the mesh's {len(surface.welded)} vertices, "
            f"got {len(features)}"
        )
    if not 0 <= centring <= 1:
        raise UsageError(f"centring must lie between 0 and 1, got {centring}")
    check_finite(features=features)
    unit = F.normalize(features.detach().cpu().float(), dim=1, eps=1e-30)
    table = _welded(unit, surface).T.contiguous()
    table = F.normalize(table, dim=0, eps=1e-30)
    known = (table != 0).any(0)
    if not bool(known.any()):
        raise InputError("the features are all zero: there is nothing to compare")
    if centring > 0:
        mean = table.double() @ (surface.areas / surface.areas[known].sum())
        table = F.normalize(table - centring * mean.float()[:, None], dim=0, eps=1e-30)
        table = torch.where(known, table, 0.0)
    return table


def similarity(table: Tensor, feature: Tensor) -> Tensor:
    """Cosines [P] or [K, P] between unit features [D] or [K, D] and the columns of a table."""
    return feature @ table


def distance(table: Tensor, feature: Tensor) -> Tensor:
    """Euclidean distances between unit features, [P] or [K, P], from one matrix product."""
    return (2 - 2 * similarity(table, feature)).clamp_min_(0).sqrt_()


def distance_quantile(table: Tensor, areas: Tensor, fraction: float) -> float:
    """The distance that a fraction of the pairs of surface points fall short of.

    The pairs are those of 256 columns, evenly spaced by area in the order of their similarity to
    the mean: which vertex comes first in the mesh does not matter.
    """
    known = (table != 0).any(0).nonzero()[:, 0]
    mean = table.double() @ areas
    place = (mean.float() @ table)[known].argsort(stable=True)
    filled = areas[known][place].cumsum(0)
    targets = (torch.arange(_PROBES, dtype=torch.float64) + 0.5) / _PROBES * filled[-1]
    chosen = known[place[torch.searchsorted(filled, targets).clamp_max(len(known) - 1)]]
    probes = table[:, chosen]
    pairs = distance(probes, probes.T)[np.triu_indices(_PROBES, 1)]
    return float(pairs.quantile(fraction))


def _welded(unit: Tensor, surface: Surface) -> Tensor:
    """[P, D] sums over the vertices at each position."""
    sums = unit[surface.first]
    twins = torch.ones(len(unit), dtype=torch.bool)
    twins[surface.first] = False
    index = twins.nonzero()[:, 0]
    return sums.index_add_(0, surface.welded[index], unit[index])
