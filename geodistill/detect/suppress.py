"""Which of overlapping boxes to keep."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.detect.overlap import iou_bev


def suppress(boxes: Tensor, scores: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Non-maximum suppression of rotated boxes seen from above.

    From the best score on, a box is kept unless its intersection over union with one that is kept
    already is above the threshold; of equal scores the first comes first.

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
    ranked = boxes[order]
    overlaps = (iou_bev(ranked, ranked) > threshold).cpu()
    kept: list[int] = []
    gone = torch.zeros(len(order), dtype=torch.bool)
    for k in range(len(order)):
        if most is not None and len(kept) >= most:
            break
        if not gone[k]:
            kept.append(k)
            gone |= overlaps[k]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]
