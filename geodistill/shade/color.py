"""Display-referred (sRGB) and linear colour."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_from_srgb(srgb: Tensor) -> Tensor:
    """The sRGB curve's inverse, channel by channel (IEC 61966-2-1). [...] in [0, 1]"""
    low = srgb <= 0.04045
    base = (torch.where(low, 1.0, srgb) + 0.055) / 1.055
    return torch.where(low, srgb / 12.92, base**2.4)


def srgb_from_linear(linear: Tensor) -> Tensor:
    """The sRGB curve, channel by channel (IEC 61966-2-1). [...] in [0, 1]"""
    low = linear <= 0.0031308
    base = torch.where(low, 1.0, linear)
    return torch.where(low, linear * 12.92, 1.055 * base ** (1 / 2.4) - 0.055)
