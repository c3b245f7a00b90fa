"""Which of overlapping boxes to keep."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.detect.overlap import overlapping

_BLOCK = 256  # boxes that are compared at a time


def suppress(boxes: Tensor, scores: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Non-maximum suppression of rotated boxes seen from above.

    From the best score on, a box is kept unless its intersection over union with one that is kept
    already is above the threshold; of equal scores the first comes first. Boxes that are not
    finite, as a network that has learnt little may give, are never kept.

    Args:
        boxes: [N, 7].
        scores: [N].
        threshold: in [0, 1].
        most: how many to keep at most; None for all.

    Returns:
        Indices of the kept boxes, best first, int64 [K].

    Raises ShapeError for other shapes.
    """
    check(boxes=(boxes, "N 7"), scores=(scores, "N"))
    order = scores.argsort(descending=True, stable=True)
    order = order[boxes[order].isfinite().all(1)]
    ranked = boxes[order]
    most = len(order) if most is None else most
    kept: list[int] = []
    for begin in range(0, len(order), _BLOCK):
        if len(kept) >= most:
            break
        own = torch.arange(begin, min(begin + _BLOCK, len(order)), device=order.device)
        own = own[~overlapping(ranked[own], ranked[kept], threshold).any(1)]
        overlaps = overlapping(ranked[own], ranked[own], threshold).cpu()
        gone = torch.zeros(len(own), dtype=torch.bool)
        for k, place in enumerate(own.tolist()):
            if not gone[k] and len(kept) < most:
                kept.append(place)
                gone |= overlaps[k]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]
