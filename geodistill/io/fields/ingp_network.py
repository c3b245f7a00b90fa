"""The network of an instant-ngp snapshot: its description, and its parameters in one flat array.

Parameters stand in this order: the matrices of the density network, those of the colour network,
the hash table. A matrix is [outputs, inputs], row after row. Inputs and outputs are padded to a
multiple of 16 (of 8 in files of older builds): the table's encoding with zeros, that of the
direction with ones. Source: instant-ngp and tiny-cuda-nn, and the paper, Mueller et al. 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError, UsageError, shown
from geodistill.io.fields.flat_networks import (
    ALIGNMENTS,
    flat_matrices,
    flat_shapes,
    flat_size,
    padded,
)
from geodistill.io.json_values import optional_number
from geodistill.kernels.hashspec import HashSpec

COLOUR_OUTPUTS = 3
UNIT_RESOLUTION = 2048
"""Of the finest level across a length of 1, where a file states no growth of its own."""
_WIDEST = 4096
_SAME_SCALE = 5e-7
"""Relative; two graphics cards differ by as much when they raise to a power."""

Matrices = list[NDArray[np.float32]]


class Mlp(NamedTuple):
    """Widths as the file's description states them, without padding."""

    width: int
    layers: int  # hidden ones
    outputs: int


@dataclass(frozen=True)
class Network:
    """What the file describes."""

    spec: HashSpec
    density: Mlp
    color: Mlp
    degree: int  # of the direction's harmonics, as tiny-cuda-nn counts: degree^2 functions
    extras: int  # further inputs of the colour network, behind the direction


class Parameters(NamedTuple):
    """Matrices in the file's own padding."""

    spec: HashSpec
    table: NDArray[np.float32]
    density: Matrices
    color: Matrices


def read_network(config: dict[str, Any], aabb_scale: int, extras: int, where: str) -> Network:
    """From the snapshot's description of its network.

    Raises InputError for everything that no field of geodistill computes.
    """
    direction = _object(config, "dir_encoding", where)
    return Network(
        spec=_spec(_object(config, "encoding", where), aabb_scale, f"{where}: encoding"),
        density=_mlp(_object(config, "network", where), 16, f"{where}: network"),
        color=_mlp(_object(config, "rgb_network", where), COLOUR_OUTPUTS, f"{where}: rgb_network"),
        degree=_degree(direction, f"{where}: dir_encoding"),
        extras=extras,
    )


def split_parameters(network: Network, flat: NDArray, where: str) -> Parameters:
    """Raises InputError if the number of parameters does not fit the network."""
    for fitted in (False, True):
        for first in ALIGNMENTS:
            for second in ALIGNMENTS:
                shapes = _shapes(network, first, second)
                spec = _spec_for(network.spec, flat.size - sum(map(flat_size, shapes)), fitted)
                if spec is not None:
                    return _split(flat, shapes, spec)
    asked = sum(map(flat_size, _shapes(network, 16, 16)))
    raise InputError(
        f"{where} holds {flat.size} parameters, its description asks for "
        f"{asked + network.spec.entries * network.spec.features}: it is damaged, or of another "
        "program"
    )


def count(values: dict[str, Any], key: str, default: int, least: int, most: int, where: str) -> int:
    """A whole number from `least` to `most`"""
    value = optional_number(values, key, where)
    if value is None:
        return default
    if value != int(value) or not least <= value <= most:
        raise InputError(f"{where} has {key} = {value:g}, which is not from {least} to {most}")
    return int(value)


def _shapes(network: Network, first: int, second: int) -> list[list[tuple[int, int]]]:
    """Of the density and the colour network, for their alignments"""
    latent = padded(network.density.outputs, first)
    seen = padded(network.degree**2 + network.extras, second)
    density, color = network.density, network.color
    return [
        flat_shapes(network.spec.width, density.width, density.layers, density.outputs, first),
        flat_shapes(latent + seen, color.width, color.layers, color.outputs, second),
    ]


def _spec_for(spec: HashSpec, values: int, fitted: bool) -> HashSpec | None:
    """The spec whose table has so many values: itself, or one that rounds otherwise if `fitted`"""
    if values <= 0 or values % spec.features:
        return None
    if not fitted:
        return spec if values == spec.entries * spec.features else None
    try:
        return spec.fitting(values // spec.features)
    except InputError:
        return None


def _split(flat: NDArray, shapes: list[list[tuple[int, int]]], spec: HashSpec) -> Parameters:
    both = [shape for network in shapes for shape in network]
    matrices = [matrix.astype(np.float32) for matrix in flat_matrices(flat, both)]
    table = flat[flat_size(both) :].reshape(-1, spec.features).astype(np.float32)
    first = len(shapes[0])
    return Parameters(spec, table, matrices[:first], matrices[first:])


def _spec(encoding: dict[str, Any], aabb_scale: int, where: str) -> HashSpec:
    _expect(encoding, "otype", ("hashgrid", "grid"), "HashGrid", where)
    _expect(encoding, "type", ("hash",), "Hash", where)
    _expect(encoding, "interpolation", ("linear",), "Linear", where)
    _expect(encoding, "hash", ("coherentprime",), "CoherentPrime", where)
    features = count(encoding, "n_features_per_level", 2, 1, 8, where)
    values = count(encoding, "n_features", 0, 0, 64 * features, where)
    levels = values // features or count(encoding, "n_levels", 16, 1, 64, where)
    log2_size = count(encoding, "log2_hashmap_size", 15, 3, 28, where)
    base = count(encoding, "base_resolution", 0, 0, 2**20, where) or 1 << (log2_size // 3)
    growth = optional_number(encoding, "per_level_scale", where) or 0.0
    if growth <= 0:
        finest = UNIT_RESOLUTION * aabb_scale
        growth = (finest / base) ** (1 / (levels - 1)) if levels > 1 else 1.0
    if growth < 1 or (levels - 1) * np.log2(growth) + np.log2(base) > 23.9:
        raise InputError(
            f"{where} has resolutions from {base} that grow by {growth:g} over {levels} levels: "
            "they must grow, and stay below 2^24"
        )
    growth = float(np.float32(growth))
    try:
        spec = HashSpec(
            levels, features, log2_size, base, max(base, round(base * growth ** (levels - 1)))
        )
        exact = HashSpec(levels, features, log2_size, base, spec.max_resolution, level_scale=growth)
    except UsageError as error:
        raise InputError(f"{where} cannot be used: {error}") from None
    return spec if _alike(spec, exact) else exact


def _alike(a: HashSpec, b: HashSpec) -> bool:
    cells = np.array([a.scales, b.scales]) + 1
    return bool((np.abs(cells[0] - cells[1]) <= _SAME_SCALE * cells[0]).all())


def _mlp(values: dict[str, Any], outputs: int, where: str) -> Mlp:
    _expect(values, "otype", ("fullyfusedmlp", "megakernelmlp", "cutlassmlp", "mlp"), "MLP", where)
    _expect(values, "activation", ("relu",), "ReLU", where)
    _expect(values, "output_activation", ("none",), "None", where)
    width = count(values, "n_neurons", 128, 1, _WIDEST, where)
    layers = count(values, "n_hidden_layers", 5, 1, 64, where)
    if outputs != COLOUR_OUTPUTS:
        outputs = count(values, "n_output_dims", outputs, 1, _WIDEST, where)
    return Mlp(width, layers, outputs)


def _degree(values: dict[str, Any], where: str) -> int:
    """Of harmonics, alone or before inputs that are handed on as they are"""
    nested = values.get("nested")
    if nested is None:
        parts = [values]
    elif isinstance(nested, list) and all(isinstance(part, dict) for part in nested):
        _expect(values, "otype", ("composite",), "Composite", where)
        _expect(values, "reduction", ("concatenation",), "Concatenation", where)
        parts = nested
    else:
        raise InputError(f"{where} is damaged: 'nested' is no list of encodings")
    if not 1 <= len(parts) <= 2:
        raise InputError(f"{where} has {len(parts)} parts: harmonics, and perhaps an identity")
    harmonics = parts[0]
    _expect(harmonics, "otype", ("sphericalharmonics",), "", where)
    for rest in parts[1:]:
        _expect(rest, "otype", ("identity",), "Identity", where)
        scale, offset = (optional_number(rest, key, where) for key in ("scale", "offset"))
        if (scale or 1.0) != 1.0 or offset:
            raise InputError(f"{where} scales its identity, which no field here does")
    return count(harmonics, "degree", 4, 1, 4, where)


def _expect(
    values: dict[str, Any], key: str, known: tuple[str, ...], default: str, where: str
) -> None:
    value = values.get(key, default)
    if not isinstance(value, str) or value.lower() not in known:
        raise InputError(
            f"{where} has {key} = {shown(value)}, of which there is no field here; known: "
            f"{', '.join(known)}"
        )


def _object(values: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = values.get(key)
    if not isinstance(value, dict):
        raise InputError(f"{where} has no description '{key}': it is no snapshot of a NeRF")
    return value
