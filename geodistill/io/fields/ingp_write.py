"""Snapshots of instant-ngp, written: `.ingp` (gzip about MessagePack) and `.msgpack`.

Densities of the file are exp(raw) per length of its own space, with no constant to add: the side
of its cube, a power of two, must make up for the field's density_scale. A field of our own, whose
densities are exp(raw) per half the side of its cube, fills a cube of side 2 (`aabb_scale` 2).
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.cascades import SIDE, cascades_of, to_morton
from geodistill.io.fields.expressible import (
    as_half,
    constant_of_density,
    expect_bounds,
    expect_decoder,
    matrices,
)
from geodistill.io.fields.flat_networks import padded
from geodistill.io.fields.ingp import MOST_CASCADES, OPTICAL_THICKNESS, Space
from geodistill.io.fields.ingp_heads import HARMONICS, columns_of_first, padded_matrices
from geodistill.io.fields.ingp_network import COLOUR_OUTPUTS, UNIT_RESOLUTION
from geodistill.io.fields.ingp_settings import scene_of, settings_of
from geodistill.io.fields.msgpack import pack
from geodistill.io.fields.placing import CYCLE, FRAME_ENTRY, frame_entry, parts_of

_FUSED = (16, 32, 64, 128)
_OCCUPIED = 2 * OPTICAL_THICKNESS
_LEVEL = 6


def ingp_files(field: FieldArrays, path: Path) -> dict[str, bytes | list[bytes]]:
    """A snapshot that instant-ngp loads for viewing, compressed unless `path` ends in .msgpack.

    Its frame is the user's world as far as the format can say it: axes as they are or cycled, a
    scale and a shift. Another rotation is stored beside it, where only geodistill looks.

    Raises UsageError for a field that the format cannot express, and says what to set.
    """
    expect_bounds(field, path, "an instant-ngp snapshot")
    expect_decoder(field, path, "an instant-ngp snapshot")
    config = field["config"]
    if field["architecture"] != "ngp" or config.get("convention") != "tcnn":
        raise UsageError(
            f"{path}: an instant-ngp snapshot holds an ngp field with its own table layout: "
            "convert with --to ngp --set convention=tcnn"
        )
    space, turned = _space(field, path)
    content = {
        **settings_of(field),
        **_descriptions(field, space),
        "snapshot": _snapshot(field, space),
    }
    if turned:
        log.say(f"{path}: instant-ngp cannot turn a scene and will show it in the field's axes")
        content[FRAME_ENTRY] = frame_entry(field["world_from_field"])
    pieces = list(pack(content))
    if path.suffix.lower() == ".msgpack":
        return {path.name: pieces}
    packer = zlib.compressobj(_LEVEL, wbits=16 + zlib.MAX_WBITS)
    return {path.name: [*map(packer.compress, pieces), packer.flush()]}


def _space(field: FieldArrays, path: Path) -> tuple[Space, bool]:
    """The cube and its frame, and whether the frame needs a rotation that it cannot say"""
    half = constant_of_density(field)
    cascade = round(math.log2(2 * half))
    if abs(2 * half / 2.0**cascade - 1) > 1e-6 or not 0 <= cascade < MOST_CASCADES:
        raise UsageError(
            f"{path}: densities of an instant-ngp snapshot are exp(raw) times a power of two from "
            f"1/2 to 64, the field's are {half:g} exp(raw): convert to ngp first, with "
            "--set convention=tcnn"
        )
    place = parts_of(field["world_from_field"])
    rotations = [r for r in (CYCLE, np.eye(3)) if np.abs(r.T - place.rotation).max() < 1e-6]
    rotation = rotations[0] if rotations else CYCLE
    scale = half / place.scale
    offset = 0.5 - scale * (place.offset if rotations else np.zeros(3))
    return Space(2**cascade, scale, offset, rotation), not rotations


def _descriptions(field: FieldArrays, space: Space) -> dict[str, Any]:
    config, density, color = field["config"], _density(field), _color(field)
    encoding = {
        "otype": "HashGrid",
        "n_levels": config["levels"],
        "n_features_per_level": config["features"],
        "log2_hashmap_size": config["log2_size"],
        "base_resolution": config["base_resolution"],
    }
    finest, levels = config["max_resolution"], config["levels"]
    growth = config.get("level_scale") or (finest / config["base_resolution"]) ** (
        1 / max(levels - 1, 1)
    )
    if config.get("level_scale") or finest != UNIT_RESOLUTION * space.aabb_scale:
        encoding["per_level_scale"] = float(growth)
    return {
        "encoding": encoding,
        "network": _description(density, {"n_output_dims": len(density[-1])}),
        "rgb_network": _description(color, {}),
    }


def _description(network: list[NDArray], more: dict[str, Any]) -> dict[str, Any]:
    width = len(network[0])
    return {
        "otype": "FullyFusedMLP" if width in _FUSED else "CutlassMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": width,
        "n_hidden_layers": len(network) - 1,
        **more,
    }


def _density(field: FieldArrays) -> list[NDArray[np.float32]]:
    """The density network, padded; where the raw density is a feature too it comes only once"""
    network = matrices(field, "branch.density_net")
    if _raw_is_seen(network):
        network[-1] = network[-1][1:]
    outputs = padded(len(network[-1]), 16)
    width = _width(len(network[0]))
    inputs = padded(network[0].shape[1], 16)
    return padded_matrices(network, [inputs, *[width] * (len(network) - 1), outputs])


def _color(field: FieldArrays) -> list[NDArray[np.float32]]:
    network, density = matrices(field, "color_head"), matrices(field, "branch.density_net")
    features = network[0].shape[1] - HARMONICS
    start = 0 if _raw_is_seen(density) else 1
    outputs = padded(start + features, 16)
    network[0] = columns_of_first(network[0], start + np.arange(features), outputs)
    width = _width(len(network[0]))
    inputs, end = network[0].shape[1], padded(COLOUR_OUTPUTS, 16)
    return padded_matrices(network, [inputs, *[width] * (len(network) - 1), end])


def _raw_is_seen(density: list[NDArray]) -> bool:
    last = density[-1]
    return len(last) > 1 and np.array_equal(last[0], last[1])


def _width(width: int) -> int:
    """That of a fused network where there is one so wide: units of zeros change nothing"""
    return next((known for known in _FUSED if known >= width), padded(width, 16))


def _snapshot(field: FieldArrays, space: Space) -> dict[str, Any]:
    flat = np.concatenate(
        [m.reshape(-1) for m in (*_density(field), *_color(field))]
        + [field["parameters"]["branch.table"].reshape(-1)]
    ).astype("<f4")
    half = as_half(flat)
    place = 0.5 + np.array([[-space.half] * 3, [space.half] * 3])
    box = {"min": place[0].tolist(), "max": place[1].tolist()}
    dataset, more = scene_of(field, *space)
    return {
        "version": 1,
        "mode": "nerf",
        "n_params": flat.size,
        "params_type": "float" if half is None else "__half",
        "params_binary": (flat if half is None else half).tobytes(),
        "density_grid_size": SIDE,
        "density_grid_binary": _density_grid(field, space),
        "training_step": 0,
        "loss": 0.0,
        "aabb": box,
        "bounding_radius": 1.0,
        "render_aabb": box,
        "render_aabb_to_local": np.eye(3).tolist(),
        "nerf": {
            "aabb_scale": space.aabb_scale,
            "dataset": dataset,
            "rgb": {
                "rays_per_batch": 4096,
                "measured_batch_size": 0,
                "measured_batch_size_before_compaction": 0,
            },
        },
        **more,
    }


def _density_grid(field: FieldArrays, space: Space) -> bytes:
    occupancy = field["occupancy"]
    if occupancy is None:
        occupancy = np.ones((SIDE, SIDE, SIDE), bool)
    halves = [2.0**c / space.aabb_scale for c in range(space.aabb_scale.bit_length())]
    grids = [to_morton(grid) for grid in cascades_of(occupancy, halves)]
    return (np.concatenate(grids) * _OCCUPIED).astype("<f2").tobytes()
