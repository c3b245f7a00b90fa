"""Which number formats a device multiplies natively."""

from __future__ import annotations

import torch


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32, instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16"))
