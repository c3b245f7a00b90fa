"""What writers ask of a field before they put it into another program's format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.boxes import WHOLE, box_of

_DECODER: dict[str, Any] = {
    "density": "exp",
    "density_shift": 0.0,
    "density_scale": 1.0,
    "features": 15,
    "head": "harmonics",
    "width": 64,
    "layers": 2,
    "bias": False,
}


def decoder_of(field: FieldArrays) -> dict[str, Any]:
    """The decoder's settings, defaults filled in."""
    return {**_DECODER, **field["config"].get("decoder", {})}


def constant_of_density(field: FieldArrays) -> float:
    """k where densities of the unit cube are k exp(raw)."""
    decoder = decoder_of(field)
    return decoder["density_scale"] * math.exp(decoder["density_shift"])


def expect_uncontracted(field: FieldArrays, path: Path, what: str) -> None:
    """UsageError for a contracted scene."""
    if field["contraction"] != "none":
        raise UsageError(f"{path}: {what} holds no contracted scene: keep it as .safetensors")


def expect_settings(
    what: str, own: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> None:
    """UsageError, beginning with `what`, unless the settings are these or not given; sequences may
    be tuples or lists.

    Args:
        prefix: of the settings' names where they are those of a part of the config.
    """
    wrong = [key for key, value in wanted.items() if _plain(own.get(key, value)) != _plain(value)]
    if wrong:
        have = ", ".join(f"{prefix}{key} {_plain(own[key])}" for key in wrong)
        sets = " ".join(f"--set {prefix}{key}={_plain(wanted[key])}" for key in wrong)
        raise UsageError(f"{what} cannot have {have}: convert it first, with {sets}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def expect_bounds(field: FieldArrays, path: Path, what: str) -> None:
    """UsageError for a contracted scene, a grid that does not span the cube, and clamped values."""
    expect_uncontracted(field, path, what)
    if field["config"].get("limits"):
        raise UsageError(
            f"{path}: {what} does not clamp densities, the field does: convert it first"
        )
    box = box_of(field)
    if not np.allclose(box, WHOLE):
        raise UsageError(
            f"{path}: {what} has a grid over a cube, that of the field spans {box}: convert it to "
            "ngp first"
        )


def expect_decoder(field: FieldArrays, path: Path, what: str) -> None:
    """UsageError for another decoder than exp(raw) and a colour head of harmonics without biases"""
    decoder = decoder_of(field)
    wrong = [
        f"{key} {decoder[key]!r} (not {wanted!r})"
        for key, wanted in (("density", "exp"), ("head", "harmonics"), ("bias", False))
        if decoder[key] != wanted
    ]
    if field["config"].get("bias"):
        wrong.append("biases in the density network")
    if wrong:
        raise UsageError(
            f"{path}: {what} cannot hold a decoder with {', '.join(wrong)}: convert to ngp with "
            "its default decoder first"
        )


def matrices(field: FieldArrays, prefix: str) -> list[NDArray[np.float32]]:
    """Those of one network, first layer first."""
    found = []
    while (name := f"{prefix}.weights.{len(found)}") in field["parameters"]:
        found.append(field["parameters"][name])
    return found


def as_half(values: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """The same numbers in half the bytes, None where that would change any."""
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    return half if np.array_equal(half.astype(np.float32), values) else None
