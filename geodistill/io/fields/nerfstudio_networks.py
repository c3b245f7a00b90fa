"""Layers of networks in nerfstudio's two layouts: PyTorch's, and tiny-cuda-nn's flat array.

A flat array holds the matrices [outputs, inputs] of a network row after row, without biases, and
then a hash table if the network has one; inputs and outputs are padded to multiples of 16. Source:
tiny-cuda-nn, include/tiny-cuda-nn/networks/fully_fused_mlp.h and network_with_input_encoding.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.io.fields.values import finite

ALIGNMENTS = (16, 8)
"""What inputs and outputs are padded to multiples of; 8 by older builds for wide networks."""


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


def flat_shapes(
    inputs: int, width: int, hidden: int, outputs: int, alignment: int
) -> list[tuple[int, int]]:
    """Of the matrices in a flat array, padded."""
    widths = [padded(inputs, alignment), *[width] * hidden, padded(outputs, alignment)]
    return [(b, a) for a, b in pairwise(widths)]


def flat_size(shapes: list[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in shapes)


def flat_matrices(flat: NDArray, shapes: list[tuple[int, int]]) -> list[NDArray[np.float32]]:
    found, at = [], 0
    for rows, columns in shapes:
        found.append(flat[at : at + rows * columns].reshape(rows, columns))
        at += rows * columns
    return found


def padded(count: int, alignment: int) -> int:
    """The next multiple."""
    return -(-count // alignment) * alignment
