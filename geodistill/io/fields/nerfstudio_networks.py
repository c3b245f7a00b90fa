"""Layers of networks in PyTorch's layout, as nerfstudio names them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.io.fields.values import finite


class Layers(NamedTuple):
    """Matrices [outputs, inputs] and biases [outputs]; no biases where the network has none."""

    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]

    @property
    def hidden(self) -> int:
        """Width of the hidden layers."""
        return self.weights[0].shape[0]


def torch_layers(state: Mapping[str, Any], prefix: str, where: Path) -> Layers:
    """Those that stand in `prefix`layers.0, .1 and so on.

    Raises InputError for a layer that is missing, not finite or does not fit its neighbours.
    """
    weights: list[NDArray[np.float32]] = []
    biases: list[NDArray[np.float32]] = []
    while f"{prefix}layers.{len(weights)}.weight" in state or not weights:
        weight, bias = linear(state, f"{prefix}layers.{len(weights)}.", where)
        weights.append(weight)
        biases.append(bias)
    return Layers(weights, biases)


def linear(state: Mapping[str, Any], prefix: str, where: Path) -> tuple[NDArray, NDArray]:
    """[outputs, inputs] and [outputs] of one layer."""
    weight = finite(state, f"{prefix}weight", where)
    if weight.ndim != 2 or 0 in weight.shape:
        raise InputError(f"{where}: its {prefix}weight has shape {[*weight.shape]}, not of a layer")
    return weight, finite(state, f"{prefix}bias", where, weight.shape[:1])


def expect_chain(layers: Layers, inputs: int, outputs: int, what: str, where: Path) -> None:
    """Raise InputError unless the layers lead from `inputs` to `outputs` by one width."""
    widths = [inputs, *(weight.shape[0] for weight in layers.weights)]
    fits = all(
        w.shape == (b, a) for w, (a, b) in zip(layers.weights, pairwise(widths), strict=True)
    )
    if not fits or widths[-1] != outputs or len({*widths[1:-1]}) != 1:
        shapes = ", ".join(str([*weight.shape]) for weight in layers.weights)
        raise InputError(
            f"{where}: {what} has layers of shapes {shapes}, which do not lead from {inputs} to "
            f"{outputs} by one width"
        )
