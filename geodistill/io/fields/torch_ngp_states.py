"""The weights of torch-ngp's and PVD's models, made of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.expressible import decoder_of, expect_settings, matrices
from geodistill.io.fields.torch_ngp_factors import WAVES, from_frequency_order, to_rank
from geodistill.io.fields.torch_ngp_hash import UNIT_RESOLUTION
from geodistill.kernels.hashspec import HashSpec

Array = NDArray[np.float32]
_LEVELS = {16: False, 14: True}
"""Of hash grids, and whether PVD's has so many."""
_HARMONICS = {
    "density": "exp",
    "head": "harmonics",
    "features": 15,
    "width": 64,
    "layers": 2,
    "bias": False,
}
_SINES = {
    "density": "exp",
    "head": "frequencies",
    "features": 27,
    "width": 128,
    "layers": 2,
    "bias": False,
    "view_frequencies": WAVES,
    "feature_frequencies": WAVES,
    "position_frequencies": (),
    "positions": False,
}
_VM_RANKS, _CP_RANKS = (16, 48), (96, 288)


class State(NamedTuple):
    """Weights by the program's names, entries beside them, and the box the grid spans."""

    tensors: dict[str, NDArray]
    pvd: bool
    more: dict[str, Any]
    box: Array | None = None


def hash_state(field: FieldArrays, path: Path, bound: float) -> State:
    """Hash grid, `sigma_net`, `color_net`."""
    config = field["config"]
    levels = config["levels"] if config["levels"] in _LEVELS else 16
    finest = UNIT_RESOLUTION * bound
    wanted = {
        "levels": levels,
        "features": 2,
        "log2_size": 19,
        "base_resolution": 16,
        "max_resolution": round(finest),
        "convention": "torch-ngp",
        "hidden": 64,
        "layers": 1,
        "bias": False,
        "box": (),
        "resolutions": None,
        "level_scale": config.get("level_scale") if finest != round(finest) else None,
    }
    expect_settings(f"{path}: a hash grid of torch-ngp (16 levels) or PVD (14)", config, wanted)
    expect_settings(f"{path}: its colour network", decoder_of(field), _HARMONICS, "decoder.")
    spec = HashSpec(
        levels, 2, 19, 16, round(finest), "torch-ngp", level_scale=config.get("level_scale")
    )
    tensors = {
        "encoder.embeddings": field["parameters"]["branch.table"],
        "encoder.offsets": np.array(spec.offsets, np.int32),
        **_named("sigma_net", matrices(field, "branch.density_net")),
        **_named("color_net", matrices(field, "color_head")),
    }
    return State(tensors, _LEVELS[levels], {})


def vm_state(field: FieldArrays, path: Path, bound: float) -> State:
    """VM: torch-ngp's, or PVD's with harmonics of the direction."""
    color, pvd = _color_net(field, path)
    nodes = _nodes(field["config"])
    tensors = _lines(field, path, _VM_RANKS, nodes)
    for ours, theirs, rank in zip(("density", "color"), ("sigma", "color"), _VM_RANKS, strict=True):
        for k in range(3):
            plane = field["parameters"][f"branch.{ours}_planes.{k}"].transpose(2, 0, 1)
            tensors[f"{theirs}_mat.{k}"] = to_rank(plane, rank)[None]
    if field["config"].get("floor"):
        _add_floor(tensors, path, field["config"])
    basis = field["parameters"]["branch.basis"].reshape(-1, 3, field["config"]["color_rank"])
    full = np.zeros((len(basis), 3, _VM_RANKS[1]), np.float32)
    full[:, :, : basis.shape[2]] = basis
    names = [
        f"{kind}_{part}.{k}"
        for kind in ("sigma", "color")
        for part in ("mat", "vec")
        for k in range(3)
    ]
    ordered: dict[str, NDArray] = {name: tensors[name] for name in names}
    ordered["basis_mat.weight"] = full.reshape(len(basis), -1)
    box = field["config"].get("box") or None
    return State(
        {**ordered, **color},
        pvd,
        {"resolution": list(nodes)},
        None if box is None else np.array(box, np.float32) * np.float32(bound),
    )


def cp_state(field: FieldArrays, path: Path, bound: float) -> State:
    """CP of torch-ngp."""
    expect_settings(f"{path}: CP of torch-ngp", field["config"], {"box": ()})
    color, pvd = _color_net(field, path)
    if pvd:
        raise UsageError(f"{path}: PVD has no CP: convert with --to tensorf")
    nodes = _nodes(field["config"])
    tensors = _lines(field, path, _CP_RANKS, nodes)
    if field["config"].get("floor"):
        _add_floor(tensors, path, field["config"])
    basis = field["parameters"]["branch.basis"]
    full = np.zeros((len(basis), _CP_RANKS[1]), np.float32)
    full[:, : basis.shape[1]] = basis
    return State({**tensors, "basis_mat.weight": full, **color}, False, {"resolution": list(nodes)})


def mlp_state(field: FieldArrays, path: Path, bound: float) -> State:
    """PVD's network."""
    config, parameters = field["config"], field["parameters"]
    wanted = {"trunk_out": 28, "hidden": (64,), "bias": False, "box": ()}
    expect_settings(f"{path}: PVD's network", config, wanted)
    expect_settings(f"{path}: its colour network", decoder_of(field), _HARMONICS, "decoder.")
    frequencies = config.get("frequencies") or [2.0**k for k in range(config["octaves"])]
    if not np.allclose(frequencies, [bound * 2.0**k for k in range(len(frequencies))]):
        raise UsageError(
            f"{path}: the sines of PVD's network have the frequencies 1, 2, 4 ... in a cube of "
            f"half side {bound:g}, the field's have {list(frequencies)} in one of half side 1: "
            "convert with --to mlp first"
        )
    encoded, depth, width = 3 + 6 * len(frequencies), config["depth"], config["width"]
    skip = config.get("skip")
    skip = (depth - 1) // 2 if skip is None else skip
    tensors: dict[str, NDArray] = {}
    for i in range(depth):
        matrix = parameters[f"branch.trunk.{i}.weight"].copy()
        if i == 0:
            matrix[:, :3] /= bound
        elif i - 1 == skip:
            matrix = np.concatenate([matrix[:, width:], matrix[:, :width]], axis=1)
            matrix[:, :3] /= bound
        tensors[f"nerf_mlp.{i}.weight"] = matrix
        tensors[f"nerf_mlp.{i}.bias"] = parameters[f"branch.trunk.{i}.bias"]
    assert tensors["nerf_mlp.0.weight"].shape[1] == encoded
    tensors |= _named("sigma_net", matrices(field, "branch.density_net"))
    return State(tensors | _named("color_net", matrices(field, "color_head")), True, {})


def voxels_state(field: FieldArrays, path: Path, bound: float) -> State:
    """PVD's dense voxels, in a cube of half side 1."""
    config, nodes = field["config"], field["nodes"]
    wanted = {"density": "exp", "color": "sigmoid", "nodes": "borders", "box": ()}
    usual = {"density": "relu", "color": "shifted", "nodes": "centres", "box": ()}
    expect_settings(f"{path}: PVD's dense voxels", {**usual, **config}, wanted)
    if nodes is None or not nodes.all():
        raise UsageError(f"{path}: PVD's voxels are dense, the field lacks some: use --to ngp")
    values = field["parameters"]["values"].reshape(*nodes.shape, -1)
    return State({"tensor_volume.0": values.transpose(3, 2, 1, 0)[None]}, True, {})


def _color_net(field: FieldArrays, path: Path) -> tuple[dict[str, NDArray], bool]:
    """`color_net`, and whether it is PVD's"""
    decoder, color = decoder_of(field), matrices(field, "color_head")
    pvd = decoder["head"] == "harmonics"
    what = f"{path}: TensoRF of {'PVD' if pvd else 'torch-ngp'}"
    expect_settings(what, decoder, _HARMONICS if pvd else _SINES, "decoder.")
    if not pvd:
        color[0] = from_frequency_order(color[0], decoder["features"])
    return _named("color_net", color), pvd


def _lines(
    field: FieldArrays, path: Path, ranks: tuple[int, int], nodes: tuple[int, ...]
) -> dict[str, NDArray]:
    own = (field["config"]["density_rank"], field["config"]["color_rank"])
    if own[0] > ranks[0] or own[1] > ranks[1]:
        raise UsageError(
            f"{path}: TensoRF of torch-ngp has {ranks[0]} components of density and {ranks[1]} of "
            f"colour at most, the field has {own[0]} and {own[1]}: convert with --set "
            f"density_rank={ranks[0]} --set color_rank={ranks[1]}"
        )
    return {
        f"{theirs}_vec.{k}": to_rank(field["parameters"][f"branch.{ours}_lines.{k}"].T, rank)[
            None, ..., None
        ]
        for ours, theirs, rank in zip(("density", "color"), ("sigma", "color"), ranks, strict=True)
        for k in range(3)
    }


def _add_floor(tensors: dict[str, NDArray], path: Path, config: dict[str, Any]) -> None:
    """What the field adds to the sum of its components becomes a component of its own"""
    modes = 3 if "sigma_mat.0" in tensors else 1
    rank = tensors["sigma_vec.0"].shape[1]
    free = config["density_rank"]
    if free >= rank:
        raise UsageError(
            f"{path}: torch-ngp has no room for the field's floor {config['floor']:g}, which takes "
            f"a component of density: convert with --set density_rank={rank - 1}"
        )
    if modes == 3:
        tensors["sigma_mat.0"][0, free] = config["floor"]
        tensors["sigma_vec.0"][0, free] = 1.0
        return
    for k in range(3):
        tensors[f"sigma_vec.{k}"][0, free] = config["floor"] if k == 0 else 1.0


def _nodes(config: dict[str, Any]) -> tuple[int, ...]:
    """Along x, y, z"""
    return tuple(config.get("grid") or (config["resolution"],) * 3)


def _named(prefix: str, network: list[Array]) -> dict[str, NDArray]:
    return {f"{prefix}.{i}.weight": matrix for i, matrix in enumerate(network)}
