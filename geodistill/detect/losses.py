"""The training losses of detectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import check
from geodistill.detect.boxes import corners

ALPHA, GAMMA = 0.25, 2.0
BETA = 1 / 9


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
    return smooth_l1(away, torch.zeros_like(away))


def smooth_l1(codes: Tensor, targets: Tensor) -> Tensor:
    """Of each of two tensors' values, with beta 1/9."""
    return F.smooth_l1_loss(codes, targets, beta=BETA, reduction="none")


def corner_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Huber loss (threshold 1 m) of the ways between corners of boxes [P, 7] and of their targets
    [P, 7], or those of the targets turned by half a turn where these are nearer: the mean of the
    eight corners, [P].

    Source: Shi, Wang and Li, "PointRCNN" (CVPR 2019); Qi et al., "Frustum PointNets" (CVPR 2018).
    """
    check(boxes=(boxes, "P 7"), targets=(targets, "P 7"))
    opposite = torch.cat([targets[:, :6], targets[:, 6:] + math.pi], 1)
    own = corners(boxes)
    ways = [(own - corners(wanted)).square().sum(-1) for wanted in (targets, opposite)]
    # The root has no derivative at 0.
    away = torch.minimum(*ways).clamp(min=1e-12).sqrt()
    return F.huber_loss(away, torch.zeros_like(away), reduction="none").mean(1)
