"""The training losses of detectors with anchors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import check
from geodistill.detect.anchors import BETA

ALPHA, GAMMA = 0.25, 2.0


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t of independent classes, alpha 0.25 and gamma 2.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), equation 5.

    Args:
        logits: [..., C].
        targets: of the same shape, 0 or 1.

    Returns:
        [..., C].
    """
    check(logits=(logits, "... C"), targets=(targets, "... C"))
    right = torch.where(targets > 0, logits, -logits)  # log p_t = logsigmoid(right)
    weight = torch.where(targets > 0, ALPHA, 1 - ALPHA)
    return -weight * torch.sigmoid(-right) ** GAMMA * F.logsigmoid(right)


def code_loss(codes: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 (beta 1/9) of codes [N, 7] to targets [N, 7], whose turn counts by the sine of the
    difference: half turns are the direction's business. [N, 7].

    Source: Yan et al., "SECOND" (2018), equation 8.
    """
    check(codes=(codes, "N 7"), targets=(targets, "N 7"))
    away = codes - targets
    away = torch.cat([away[:, :6], away[:, 6:].sin()], 1)
    return F.smooth_l1_loss(away, torch.zeros_like(away), beta=BETA, reduction="none")
