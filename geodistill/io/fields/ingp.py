"""Snapshots of instant-ngp: `.ingp` (gzip or zlib about MessagePack) and `.msgpack`, read.

The file's own space is a cube of side `aabb_scale` about (1/2, 1/2, 1/2). A place of the user's
world (that of transforms.json) is scaled and shifted into it, and then its axes are cycled: the
file's x, y, z are the world's y, z, x. Scenes of Mitsuba keep their axes. Densities are per length
of that space.
Source: instant-ngp, testbed.cu, nerf_loader.h, nerf_network.h and nerf_device.cuh.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import InputError, shown
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.cascades import CELLS, SIDE, Bits, from_morton, joined
from geodistill.io.fields.ingp_heads import branch_and_head
from geodistill.io.fields.ingp_network import count, read_network, split_parameters
from geodistill.io.fields.ingp_settings import kept_of_snapshot
from geodistill.io.fields.msgpack import unpack
from geodistill.io.fields.placing import (
    CYCLE,
    LARGEST_WEIGHT,
    matrix_of,
    scale_of,
    stored_frame,
    vector,
)
from geodistill.io.json_values import optional_number
from geodistill.io.whole_file import read_whole

DEFAULT_SCALE, DEFAULT_OFFSET = 0.33, (0.5, 0.5, 0.5)
MOST_CASCADES = 8
OPTICAL_THICKNESS = 0.01
"""Of a step: a cell with less counts as empty, unless the scene's mean is lower still."""
_GZIP, _MOST_BYTES, _SLACK, _RATIO = b"\x1f\x8b", 2**32, 2**26, 100
_BY_TYPE = {"__half": np.dtype("<f2"), "float": np.dtype("<f4")}


class Space(NamedTuple):
    """Where the file's space lies: file = rotation (scale world + offset)."""

    aabb_scale: int
    scale: float
    offset: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @property
    def half(self) -> float:
        """Half the side of the cube, in the file's unit"""
        return self.aabb_scale / 2

    def world_from_field(self) -> NDArray[np.float64]:
        offset = (0.5 - self.offset) / self.scale
        return matrix_of(self.half / self.scale, self.rotation.T, offset)


def read_ingp(path: Path) -> FieldArrays:
    """A snapshot of a NeRF as an "ngp" field in the user's world.

    Latent inputs that were learnt for each picture are frozen at their mean.

    Raises InputError when the file is missing, damaged, no snapshot, or holds what no field of
    geodistill computes: another mode than NeRF, HDR colours, another encoding or activation.
    """
    config = _content(path)
    snapshot = _snapshot(path, config)
    nerf = _dictionary(snapshot, "nerf")
    dataset = _dictionary(nerf, "dataset")
    if dataset.get("is_hdr"):
        raise InputError(f"{path} holds HDR colours, which no field here has: train it on LDR ones")
    space = _space(path, nerf, dataset)
    where = str(path)
    extras = count(dataset, "n_extra_learnable_dims", 0, 0, 256, where)
    network = read_network(config, space.aabb_scale, extras, where)
    parameters = split_parameters(network, _parameters(path, snapshot), where)
    latents = _frozen_latents(path, nerf, extras)
    stored = stored_frame(config, where)
    field_config, weights = branch_and_head(network, parameters, latents, space.half)
    return FieldArrays(
        architecture="ngp",
        config=field_config,
        parameters=weights,
        nodes=None,
        occupancy=_occupancy(path, snapshot, space),
        world_from_field=space.world_from_field() if stored is None else stored,
        contraction="none",
        extra={
            "config": {key: value for key, value in config.items() if key != "snapshot"},
            "snapshot": kept_of_snapshot(snapshot),
            "dataset": {**dataset, "scale": space.scale, "offset": space.offset.tolist()},
        },
    )


def _content(path: Path) -> dict[str, Any]:
    data = read_whole(path)
    packed = data.startswith(_GZIP) or (
        data[0] == 0x78 and int.from_bytes(data[:2], "big") % 31 == 0
    )
    content = unpack(_unpacked(path, data) if packed else data, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a snapshot of instant-ngp: check its name")
    return content


def _unpacked(path: Path, data: bytes) -> bytes:
    room = min(_MOST_BYTES, _SLACK + _RATIO * len(data))
    unpacker = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(data, room)
    except zlib.error as error:
        raise InputError(f"{path} is damaged: its compressed stream breaks off ({error})") from None
    if not unpacker.eof:
        trouble = f"holds more than {room} bytes" if unpacker.unconsumed_tail else "is truncated"
        raise InputError(f"{path} is damaged: its compressed stream {trouble}")
    return content


def _snapshot(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    snapshot = config.get("snapshot")
    if not isinstance(snapshot, dict):
        raise InputError(
            f"{path} holds no 'snapshot': save one in instant-ngp, not only the network's settings"
        )
    mode = snapshot.get("mode", "nerf" if "nerf" in snapshot else "")
    if not isinstance(mode, str) or mode.lower() != "nerf":
        raise InputError(f"{path} is a snapshot of mode {shown(mode)}, not of a NeRF")
    if (optional_number(snapshot, "version", str(path)) or 0) != 1:
        raise InputError(f"{path} is a snapshot of version {snapshot.get('version')!r}: 1 is read")
    return snapshot


def _space(path: Path, nerf: dict[str, Any], dataset: dict[str, Any]) -> Space:
    where = str(path)
    most = 2 ** (MOST_CASCADES - 1)
    source = dataset if "aabb_scale" in dataset else nerf
    aabb_scale = count(source, "aabb_scale", 1, 1, most, where)
    if aabb_scale & (aabb_scale - 1):
        raise InputError(f"{path} has aabb_scale = {aabb_scale}, which is not a power of two")
    if "scale" not in dataset or "offset" not in dataset:
        log.say(f"{path}: it does not say where its scene lies, scale 0.33 and offset 0.5 are used")
    scale = optional_number(dataset, "scale", where)
    scale = DEFAULT_SCALE if scale is None else scale_of(scale, where)
    offset = vector(dataset.get("offset", DEFAULT_OFFSET), 3, "offset", where)
    return Space(aabb_scale, scale, offset, np.eye(3) if dataset.get("from_mitsuba") else CYCLE)


def _parameters(path: Path, snapshot: dict[str, Any]) -> NDArray:
    kind = snapshot.get("params_type", "__half")
    form = _BY_TYPE.get(kind) if isinstance(kind, str) else None
    if form is None:
        raise InputError(f"{path} has parameters of type {shown(kind)}: __half or float")
    flat = _numbers(path, snapshot, "params_binary", form)
    stated = optional_number(snapshot, "n_params", str(path))
    if stated is not None and stated != flat.size:
        raise InputError(f"{path} is damaged: {stated:g} parameters are stated, {flat.size} held")
    most = min(LARGEST_WEIGHT, float(np.finfo(form).max))
    if not (np.abs(flat) <= most).all():
        raise InputError(
            f"{path} holds parameters that are NaN or beyond {most:g}: its training failed"
        )
    return flat


def _frozen_latents(path: Path, nerf: dict[str, Any], extras: int) -> NDArray[np.float64]:
    """The mean over the pictures of the inputs that were learnt for each, [extras]; the program
    itself shows the first picture's."""
    states = nerf.get("extra_dims_opt")
    values = [
        vector(_dictionary({"": state}, "").get("variable"), extras, "extra_dims_opt", str(path))
        for state in (states if extras and isinstance(states, list) else [])
    ]
    if extras:
        to = "their mean" if values else "0, as the file does not hold them"
        log.say(f"{path}: {extras} inputs that were learnt for each picture are set to {to}")
    return np.mean(values, axis=0) if values else np.zeros(extras)


def _occupancy(path: Path, snapshot: dict[str, Any], space: Space) -> Bits | None:
    cascades = space.aabb_scale.bit_length()
    if count(snapshot, "density_grid_size", SIDE, 1, 2**20, str(path)) != SIDE:
        raise InputError(f"{path} has a density grid that is not of {SIDE}^3 cells")
    if "density_grid_binary" not in snapshot:
        return None
    density = _numbers(path, snapshot, "density_grid_binary", _BY_TYPE["__half"])
    if density.size == 0:
        return None
    if density.size != cascades * CELLS:
        raise InputError(
            f"{path} has a density grid of {density.size} cells, {cascades} times {SIDE}^3 belong "
            f"to aabb_scale {space.aabb_scale}"
        )
    finest = density[:CELLS].astype(np.float32)
    threshold = min(OPTICAL_THICKNESS, float(np.maximum(finest, 0.0).mean()))
    grids = [from_morton(part > threshold) for part in density.reshape(cascades, CELLS)]
    halves = [2.0**cascade / space.aabb_scale for cascade in range(cascades)]
    return joined(grids, halves)


def _numbers(path: Path, values: dict[str, Any], key: str, form: np.dtype) -> NDArray:
    content = values.get(key)
    if not isinstance(content, memoryview) or len(content) % form.itemsize:
        raise InputError(f"{path} has no {key} of {form.itemsize}-byte numbers: it is damaged")
    return np.frombuffer(content, form)


def _dictionary(values: dict[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}
