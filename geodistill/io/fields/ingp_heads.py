"""The networks of instant-ngp as the branch and the colour head of an "ngp" field, and back.

Their colour network sees [density outputs, direction], ours [direction, features]. The first
density output is the raw density: where the colour network uses it, it becomes a feature of its
own, a second row of the density network's last matrix. Inputs of theirs that do not vary become
part of the first harmonic's column, which does not vary either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.io.fields.ingp_network import COLOUR_OUTPUTS, Matrices, Network, Parameters

HARMONICS = 16
"""Functions of the direction that our colour head sees."""
_FIRST_HARMONIC = 0.28209479177387814


def branch_and_head(
    network: Network, parameters: Parameters, latents: NDArray[np.float64], density_scale: float
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """The configuration and the parameters of the field.

    Args:
        latents: [network.extras] what the inputs behind the direction are frozen at.
        density_scale: densities of the unit cube over those of the file.
    """
    density = list(parameters.density)
    density[0] = density[0][:, : network.spec.width]
    last, first = density[-1], parameters.color[0]
    outputs = len(last)
    seen, direction = first[:, :outputs], first[:, outputs:]
    if seen[:, 0].any():
        density[-1] = np.concatenate([last[:1], last])
    else:
        seen = seen[:, 1:]
    functions = network.degree**2
    harmonics = np.zeros((len(first), HARMONICS), np.float32)
    harmonics[:, :functions] = direction[:, :functions]
    with np.errstate(over="ignore"):  # what is infinite is refused with the other parameters
        harmonics[:, 0] += _constant(direction[:, functions:], latents) / _FIRST_HARMONIC
    color = [np.concatenate([harmonics, seen], axis=1), *parameters.color[1:]]
    color[-1] = color[-1][:COLOUR_OUTPUTS]
    spec = parameters.spec
    config: dict[str, Any] = {
        "levels": spec.levels,
        "features": spec.features,
        "log2_size": spec.log2_size,
        "base_resolution": spec.base_resolution,
        "max_resolution": spec.max_resolution,
        "convention": "tcnn",
        "hidden": network.density.width,
        "layers": network.density.layers,
        "decoder": {
            "density": "exp",
            "density_scale": density_scale,
            "features": seen.shape[1],
            "head": "harmonics",
            "width": network.color.width,
            "layers": network.color.layers,
        },
    }
    if spec.resolutions is not None:
        config["resolutions"] = spec.resolutions
    if spec.level_scale is not None:
        config["level_scale"] = spec.level_scale
    weights = {"branch.table": parameters.table}
    weights |= {f"branch.density_net.weights.{i}": w for i, w in enumerate(density)}
    weights |= {f"color_head.weights.{i}": w for i, w in enumerate(color)}
    return config, {name: np.ascontiguousarray(w) for name, w in weights.items()}


def _constant(rest: NDArray, latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the inputs that do not vary add to the first layer: frozen ones, and padding with 1"""
    inputs = np.ones(rest.shape[1])
    inputs[: len(latents)] = latents
    return rest @ inputs


def columns_of_first(first: NDArray, features: NDArray, outputs: int) -> NDArray[np.float32]:
    """The inverse for one matrix: [width, harmonics + features] -> [width, outputs + harmonics].

    Args:
        first: ours.
        features: which density output each of our features is.
        outputs: the file's density outputs.
    """
    columns = np.zeros((len(first), outputs + HARMONICS), np.float32)
    columns[:, features] = first[:, HARMONICS:]
    columns[:, outputs:] = first[:, :HARMONICS]
    return columns


def padded_matrices(matrices: Matrices, sizes: list[int]) -> Matrices:
    """Zero rows and columns so that layer i is [sizes[i + 1], sizes[i]]."""
    out = []
    for i, matrix in enumerate(matrices):
        full = np.zeros((sizes[i + 1], sizes[i]), np.float32)
        full[: matrix.shape[0], : matrix.shape[1]] = matrix
        out.append(full)
    return out
