"""Networks in tiny-cuda-nn's flat array: matrices [outputs, inputs], row after row, without biases.

A hash table follows if the network has one; inputs and outputs are padded. Source: tiny-cuda-nn,
include/tiny-cuda-nn/networks/fully_fused_mlp.h and network_with_input_encoding.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from numpy.typing import NDArray

ALIGNMENTS = (16, 8)
"""What inputs and outputs are padded to multiples of; 8 by older builds for wide networks."""


def padded(count: int, alignment: int) -> int:
    """The next multiple."""
    return -(-count // alignment) * alignment


def flat_shapes(
    inputs: int, width: int, hidden: int, outputs: int, alignment: int
) -> list[tuple[int, int]]:
    """Of the matrices, padded, of a network of so many hidden layers."""
    widths = [padded(inputs, alignment), *[width] * hidden, padded(outputs, alignment)]
    return [(b, a) for a, b in pairwise(widths)]


def flat_size(shapes: Sequence[tuple[int, int]]) -> int:
    """Numbers that the matrices hold."""
    return sum(rows * columns for rows, columns in shapes)


def flat_matrices(flat: NDArray, shapes: Sequence[tuple[int, int]]) -> list[NDArray]:
    """Views of the beginning of the array."""
    found, at = [], 0
    for rows, columns in shapes:
        found.append(flat[at : at + rows * columns].reshape(rows, columns))
        at += rows * columns
    return found
