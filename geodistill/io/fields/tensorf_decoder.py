"""TensoRF's decoder: from its raw sum to density, from its features to colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError, shown
from geodistill.io.fields.tensorf_columns import (
    MOST_OCTAVES,
    Inputs,
    octaves,
    position_frequencies,
    to_ours,
)
from geodistill.io.fields.values import LARGEST, expect, finite, number

SH_FEATURES = 27


def read_decoder(
    path: Path,
    kwargs: Mapping[str, Any],
    state: Mapping[str, Any],
    features: int,
    half: Sequence[float],
    scale: float,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Its configuration and the head's parameters.

    half: sizes of half the grid's box in the unit cube, whose unit is `scale` long in the world.

    Raises InputError for a decoder that is none of ours.
    """
    decoder = {**_density(path, kwargs, scale), "features": features}
    shading = kwargs.get("shadingMode")
    shading = shading if isinstance(shading, str) else type(shading).__name__
    if shading == "SH":
        if features != SH_FEATURES:
            raise InputError(
                f"{path} has {features} features, but its harmonics take {SH_FEATURES}"
            )
        return {**decoder, "head": "sh"}, {}
    if shading == "RGB":
        raise InputError(
            f"{path} shades with RGB: its features are colours without an activation, negative "
            "ones too, which no field here can hold; train it with another shadingMode"
        )
    if shading not in ("MLP_Fea", "MLP_PE", "MLP"):
        raise InputError(
            f"{path} shades with {shading[:40]!r}: MLP_Fea, MLP_PE, MLP and SH are read"
        )
    inputs, layers = _head(path, kwargs, state, features, shading)
    layers["color_head.weights.0"] = to_ours(layers["color_head.weights.0"], inputs, half)
    head = {
        "head": "frequencies",
        "width": len(layers["color_head.weights.0"]),
        "layers": 2,
        "bias": True,
        "view_frequencies": octaves(inputs.view),
        "feature_frequencies": octaves(inputs.feature),
        "position_frequencies": position_frequencies(inputs.position, half),
        "positions": inputs.point,
    }
    return {**decoder, **head}, layers


def _density(path: Path, kwargs: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """From a raw sum to density per length of the unit cube."""
    density = kwargs.get("fea2denseAct", "softplus")
    if not isinstance(density, str) or density not in ("softplus", "relu"):
        raise InputError(
            f"{path} has the density activation {shown(density)}: softplus and relu are read"
        )
    shift = number(kwargs, "density_shift", path) if density == "softplus" else 0.0
    factor = number(kwargs, "distance_scale", path) * float(scale)
    if not 0 < factor <= LARGEST:
        raise InputError(
            f"{path} has the distance_scale {factor / scale:g} and an aabb of {2 * scale:g}: their "
            f"product must be from 0 to {LARGEST:g}"
        )
    return {"density": density, "density_shift": shift, "density_scale": factor}


def _head(
    path: Path,
    kwargs: Mapping[str, Any],
    state: Mapping[str, Any],
    features: int,
    shading: str,
) -> tuple[Inputs, dict[str, NDArray[np.float32]]]:
    """What the first layer takes, and all layers in the file's order of columns."""
    where = f"{path}: its state_dict"
    counts = {"view": "view_pe"}
    counts |= {"MLP_Fea": {"feature": "fea_pe"}, "MLP_PE": {"position": "pos_pe"}}.get(shading, {})
    found = {ours: _octave_count(kwargs, name, path) for ours, name in counts.items()}
    inputs = replace(Inputs(features), **found)
    weights = [finite(state, f"renderModule.mlp.{2 * i}.weight", where) for i in range(3)]
    biases = [finite(state, f"renderModule.mlp.{2 * i}.bias", where) for i in range(3)]
    width = len(biases[0]) if biases[0].ndim else 0
    if shading == "MLP_PE" and weights[0].shape[1:] == (inputs.columns + 3,):
        inputs = replace(inputs, point=True)
    shapes = [(width, inputs.columns), (width, width), (3, width)]
    for i, (weight, bias, shape) in enumerate(zip(weights, biases, shapes, strict=True)):
        expect(f"{where}: renderModule.mlp.{2 * i}.weight", weight.shape, shape)
        expect(f"{where}: renderModule.mlp.{2 * i}.bias", bias.shape, shape[:1])
    if not width:
        raise InputError(f"{where} has a colour network without a width")
    layers = {f"color_head.weights.{i}": weight for i, weight in enumerate(weights)}
    return inputs, layers | {f"color_head.biases.{i}": bias for i, bias in enumerate(biases)}


def _octave_count(kwargs: Mapping[str, Any], key: str, path: Path) -> int:
    found = number(kwargs, key, path)
    if found != int(found) or not 0 <= found <= MOST_OCTAVES:
        raise InputError(f"{path} has {key} = {found:g}: 0 to {MOST_OCTAVES} octaves are read")
    return int(found)
