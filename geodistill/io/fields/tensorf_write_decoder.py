"""Our decoders as TensoRF's, where it has one that is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import UsageError
from geodistill.io.fields.tensorf_columns import MOST_OCTAVES, Inputs, octaves, to_theirs
from geodistill.io.fields.tensorf_decoder import SH_FEATURES

WHAT = "a .th file of TensoRF"
_FEATURES, _LAYERS = 15, 2  # of a configuration that does not say
_UNUSED = {"pos_pe": 0, "view_pe": 0, "fea_pe": 0, "featureC": 128}


def density_kwargs(
    decoder: Mapping[str, Any], floor: float, scale: float
) -> tuple[dict[str, Any], float]:
    """What says how a raw sum becomes density, and a constant that must be in the sum.

    scale: length in the world of a unit of the cube that our densities are in.
    """
    density = decoder.get("density", "exp")
    if density not in ("softplus", "relu"):
        raise UsageError(
            f"{WHAT} has the density activations softplus and relu, not {density}: convert it "
            "first, --set decoder.density=softplus"
        )
    offset = floor + float(decoder.get("density_shift", 0.0))
    kwargs = {
        "density_shift": offset if density == "softplus" else 0.0,
        "distance_scale": float(decoder.get("density_scale", 1.0)) / scale,
        "fea2denseAct": density,
    }
    return kwargs, 0.0 if density == "softplus" else offset


def head_state(
    decoder: Mapping[str, Any],
    parameters: Mapping[str, NDArray[np.float32]],
    half: Sequence[float],
    path: Path,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """What says how features become colours, and the network that does it.

    half: sizes of half the grid's box in the unit cube.
    """
    head = decoder.get("head", "harmonics")
    if head == "sh":
        return {"shadingMode": "SH", **_UNUSED}, {}
    if head != "frequencies":
        raise UsageError(
            f"{WHAT} has the heads frequencies and sh, not {head}: convert it first, --set "
            f"decoder.head=sh --set decoder.features={SH_FEATURES}"
        )
    if decoder.get("layers", _LAYERS) != _LAYERS:
        raise UsageError(
            f"{WHAT} has a colour network of {_LAYERS} hidden layers, not {decoder['layers']}: "
            f"convert it first, --set decoder.layers={_LAYERS}"
        )
    inputs, frequencies = _inputs(decoder)
    weights = [parameters[f"color_head.weights.{i}"] for i in range(3)]
    found = to_theirs(weights[0], inputs, frequencies, half)
    if found is None:
        raise UsageError(
            f"{WHAT} encodes positions in octaves of its grid's box, not in the frequencies "
            f"{[*frequencies]}: convert it first, --set decoder.position_frequencies=[]"
        )
    weights[0], positions = found
    state = {}
    for i, weight in enumerate(weights):
        bias = parameters.get(f"color_head.biases.{i}")
        state[f"renderModule.mlp.{2 * i}.weight"] = weight
        state[f"renderModule.mlp.{2 * i}.bias"] = (
            np.zeros(len(weight), np.float32) if bias is None else bias
        )
    shading = "MLP_PE" if inputs.point else "MLP_Fea" if inputs.feature else "MLP"
    if shading == "MLP_PE":
        log.say(
            f"{path}: under its shadingMode MLP_PE the colour network takes features, direction, "
            "point, and the waves of point and direction: see that it is given the point"
        )
    counts = {"pos_pe": positions, "view_pe": inputs.view, "fea_pe": inputs.feature}
    return {"shadingMode": shading, **counts, "featureC": len(weights[0])}, state


def harmonics(basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """The basis [3 K, C] of harmonics of a degree up to 2, as one of degree 2: [27, C]"""
    if len(basis) not in (3, 12, SH_FEATURES):
        raise UsageError(
            f"{WHAT} has harmonics of degree 2, {SH_FEATURES} features, not {len(basis)}: convert "
            f"it first, --set decoder.features={SH_FEATURES}"
        )
    channels = basis.reshape(3, -1, basis.shape[1])
    missing = SH_FEATURES // 3 - channels.shape[1]
    return np.pad(channels, ((0, 0), (0, missing), (0, 0))).reshape(SH_FEATURES, -1)


def _inputs(decoder: Mapping[str, Any]) -> tuple[Inputs, Sequence[float]]:
    """What the head takes, and the frequencies of u in it."""
    counts = {}
    for name in ("view", "feature"):
        frequencies = tuple(decoder.get(f"{name}_frequencies", ()))
        if frequencies != octaves(len(frequencies)) or len(frequencies) > MOST_OCTAVES:
            raise UsageError(
                f"{WHAT} has the {name} frequencies 1, 2, 4, ..., not {[*frequencies]}: convert it "
                f"first, --set decoder.{name}_frequencies=[1,2]"
            )
        counts[name] = len(frequencies)
    frequencies = tuple(decoder.get("position_frequencies", ()))
    point = bool(decoder.get("positions", False) or frequencies)
    inputs = Inputs(decoder.get("features", _FEATURES), **counts, point=point)
    if inputs.point and inputs.feature:
        raise UsageError(
            f"{WHAT} encodes positions or features for its colour network, not both: convert it "
            "first, --set decoder.feature_frequencies=[]"
        )
    return inputs, frequencies
