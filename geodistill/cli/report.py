"""Results as text for a person. The same results are JSON with --json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIDELITY = {
    "psnr_db": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.4f}"),
    "opacity_iou": ("opacity IoU", "{:.4f}"),
    "depth_error": ("median depth error", "{:.3%} of the scene"),
    "truth_psnr_db_a": ("PSNR of A to the images", "{:.2f} dB"),
    "truth_psnr_db_b": ("PSNR of B to the images", "{:.2f} dB"),
    "test_psnr_db": ("PSNR to the test images", "{:.2f} dB"),
    "seconds": ("time", "{:.1f} s"),
    "splats": ("splats", "{:,}"),
    "vertices": ("vertices", "{:,}"),
    "faces": ("faces", "{:,}"),
    "open_edges": ("edges without two faces", "{:,}"),
    "parameters": ("parameters", "{:,}"),
    "bytes": ("file size", "{:,} bytes"),
    "sheet": ("contact sheet", "{}"),
    "output": ("output", "{}"),
}


def fidelity(result: Mapping[str, Any]) -> str:
    """The table of a conversion or a comparison."""
    rows = {
        label: pattern.format(result[key])
        for key, (label, pattern) in _FIDELITY.items()
        if result.get(key) is not None
    }
    return _aligned(rows)


def pairs(result: Mapping[str, Any], indent: str = "") -> str:
    """One line per entry, nested entries indented."""
    plain = {key: _text(value) for key, value in result.items() if not isinstance(value, Mapping)}
    lines = [indent + line for line in _aligned(plain).splitlines()]
    for key, value in result.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{key}", pairs(value, indent + "  ")]
    return "\n".join(lines)


def _aligned(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
