"""Hash fields as runs of nerfstudio's nerfacto, in its PyTorch implementation.

The field is the same; where rays are looked at is up to nerfacto, whose proposal network is made
from the field's occupied cells. Source: nerfstudio 1.1.5 models/nerfacto.py and, in fields/,
nerfacto_field.py and density_fields.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import UsageError
from geodistill.config.tagged_yaml import Tagged
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.boxes import box_of
from geodistill.io.fields.expressible import constant_of_density, decoder_of
from geodistill.io.fields.nerfstudio_harmonics import from_harmonics
from geodistill.io.fields.nerfstudio_hash import BASE_HIDDEN, DIRECTION, GEOMETRY, HEAD_HIDDEN
from geodistill.io.nerfstudio_write import camera_optimizer, made, no_collider, run_files
from geodistill.kernels.hashspec import PRIMES

if TYPE_CHECKING:
    from torch import Tensor

NODES, LOG2_ROWS = 64, 19
"""Cells an axis of the proposal network, and rows of its table, which holds few enough nodes."""
DENSE, THIN = 8.0, 1e-3
"""Densities of the proposal network in occupied and in empty cells, of a scene from -1 to 1."""
SAMPLES, FINE_SAMPLES = (512, 256), 128
FAR = {"none": 12.0, "linf": 1000.0}
_NGP: dict[str, Any] = {
    "levels": 14, "features": 2, "log2_size": 19, "base_resolution": 16, "max_resolution": 2048,
    "convention": "torch-ngp", "hidden": 64, "layers": 1, "bias": False, "box": (),
}  # fmt: skip


def nerfacto_files(arrays: FieldArrays, path: Path) -> dict[str, bytes]:
    """A run whose world is the field's unit cube, or its space before the contraction.

    Raises UsageError for a field that nerfacto cannot be.
    """
    config = {**_NGP, **arrays["config"]}
    decoder = decoder_of(arrays)
    _expect_nerfacto(arrays, config, decoder, path)
    density = constant_of_density(arrays)
    box = np.reshape(box_of(arrays), (2, 3))
    bounded = arrays["contraction"] == "none"
    model = made(
        "nerfstudio.models.nerfacto.NerfactoModelConfig",
        "NerfactoModel",
        implementation="torch",
        num_levels=config["levels"],
        base_res=config["base_resolution"],
        max_res=config["max_resolution"],
        log2_hashmap_size=config["log2_size"],
        features_per_level=config["features"],
        hidden_dim=config["hidden"],
        hidden_dim_color=decoder["width"],
        average_init_density=density,
        use_appearance_embedding=False,
        disable_scene_contraction=bounded,
        near_plane=0.01,
        far_plane=FAR[arrays["contraction"]],
        background_color="white" if bounded else "last_sample",
        num_proposal_samples_per_ray=Tagged("tuple", [*SAMPLES]),
        num_nerf_samples_per_ray=FINE_SAMPLES,
        proposal_initial_sampler="uniform" if bounded else "piecewise",
        use_same_proposal_network=True,
        proposal_net_args_list=[
            {
                "num_levels": 1,
                "base_res": NODES,
                "max_res": NODES,
                "log2_hashmap_size": LOG2_ROWS,
                "features_per_level": 1,
                "use_linear": True,
            }
        ],
        camera_optimizer=camera_optimizer(),
        **no_collider(),
    )
    state = {
        **_field_state(arrays["parameters"], config, box),
        **_proposal_state(arrays, density, box),
    }
    return run_files(
        path,
        "nerfacto",
        "nerfstudio.data.datamanagers.parallel_datamanager.ParallelDataManagerConfig",
        model,
        state,
        np.linalg.inv(arrays["world_from_field"]).astype(np.float64),
        (np.zeros(3), 1.0),
    )


def _expect_nerfacto(
    arrays: FieldArrays, config: dict[str, Any], decoder: dict[str, Any], path: Path
) -> None:
    """Raise UsageError for what nerfacto has no setting for."""
    if arrays["architecture"] != "ngp":
        raise UsageError(
            f"{path}: a nerfacto is a hash field, this one is {arrays['architecture']}: convert it "
            "with --to ngp --set convention=nerfstudio"
        )
    wanted: list[tuple[str, Any, Any]] = [
        ("convention", config["convention"], "nerfstudio"),
        ("layers", config["layers"], BASE_HIDDEN),
        ("decoder.density", decoder["density"], "exp"),
        ("decoder.head", decoder["head"], "harmonics"),
        ("decoder.features", decoder["features"], GEOMETRY),
        ("decoder.layers", decoder["layers"], HEAD_HIDDEN),
    ]
    for key, value, needed in wanted:
        if value != needed:
            raise UsageError(
                f"{path}: a nerfacto has {key} {needed}, this field {value}: convert it with --to "
                f"ngp --set {key}={needed}"
            )
    if arrays["contraction"] not in FAR:
        raise UsageError(
            f"{path}: a nerfacto is contracted by the largest coordinate, this field by "
            f"{arrays['contraction']}"
        )
    if arrays["contraction"] != "none" and config["box"]:
        raise UsageError(f"{path}: a contracted nerfacto has no box, this field has one")


def _field_state(
    parameters: dict[str, NDArray[np.float32]], config: dict[str, Any], box: NDArray[np.float64]
) -> dict[str, Tensor]:
    import torch

    state = {
        "field.aabb": torch.from_numpy(box.astype(np.float32)),
        "field.max_res": torch.tensor(config["max_resolution"]),
        "field.num_levels": torch.tensor(config["levels"]),
        "field.log2_hashmap_size": torch.tensor(config["log2_size"]),
        "field.mlp_base.model.0.hash_table": torch.from_numpy(parameters["branch.table"]),
    }
    networks = {"branch.density_net": "field.mlp_base.model.1.", "color_head": "field.mlp_head."}
    for own, prefix in networks.items():
        for i in range((BASE_HIDDEN if own.startswith("branch") else HEAD_HIDDEN) + 1):
            weight = parameters[f"{own}.weights.{i}"]
            if own == "color_head" and i == 0:
                weight = _its_harmonics(weight)
            bias = parameters.get(f"{own}.biases.{i}", np.zeros(len(weight), np.float32))
            state[f"{prefix}layers.{i}.weight"] = torch.from_numpy(weight)
            state[f"{prefix}layers.{i}.bias"] = torch.from_numpy(bias)
    return state


def _its_harmonics(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first matrix of the colour network for nerfstudio's encoding of directions."""
    seen = np.linalg.solve(from_harmonics().T, weight[:, :DIRECTION].astype(np.float64).T).T
    return np.concatenate([seen.astype(np.float32), weight[:, DIRECTION:]], axis=1)


def _proposal_state(
    arrays: FieldArrays, density: float, box: NDArray[np.float64]
) -> dict[str, Tensor]:
    """A hash grid of one level that holds logarithms of a density: high about occupied cells.

    Nodes that share a row take the highest, so that nothing occupied is missed. Beyond the
    contraction's bend densities fall as lengths grow, for optical depths to stay alike.
    """
    import torch

    nodes = np.stack(np.meshgrid(*[np.arange(NODES + 1)] * 3, indexing="ij"), axis=-1)
    u = box[0] + (box[1] - box[0]) * nodes / NODES
    occupied = _near_occupied(arrays["occupancy"], u, (box[1] - box[0]) / NODES)
    stretch = np.ones(occupied.shape)
    if arrays["contraction"] != "none":
        size = 2.0 * np.abs(u).max(axis=-1)
        stretch = 1.0 / (2.0 - size.clip(1.0, 2.0 - 1.0 / FAR["linf"])) ** 2
    values = np.log(np.where(occupied, DENSE, THIN) / (stretch * density))
    rows = np.bitwise_xor.reduce(nodes.astype(np.int64) * np.array(PRIMES), axis=-1)
    table = np.full(1 << LOG2_ROWS, values.min())
    np.maximum.at(table, rows.reshape(-1) % len(table), values.reshape(-1))
    return {
        "proposal_networks.0.aabb": torch.from_numpy(box.astype(np.float32)),
        "proposal_networks.0.max_res": torch.tensor(NODES),
        "proposal_networks.0.num_levels": torch.tensor(1),
        "proposal_networks.0.log2_hashmap_size": torch.tensor(LOG2_ROWS),
        "proposal_networks.0.encoding.hash_table": torch.from_numpy(
            table.astype(np.float32)[:, None]
        ),
        "proposal_networks.0.linear.weight": torch.ones(1, 1),
        "proposal_networks.0.linear.bias": torch.zeros(1),
    }


def _near_occupied(
    occupancy: NDArray[np.bool_] | None, u: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether an occupied cell lies within a step of each node of a lattice u [N, N, N, 3]."""
    if occupancy is None:
        return np.ones(u.shape[:3], bool)
    found, side = occupancy, len(occupancy)
    for axis in range(3):
        places = np.moveaxis(u, axis, 0)[:, 0, 0, axis]
        first = np.floor((places - step[axis] + 1) * side / 2).clip(0, side - 1).astype(int)
        last = np.ceil((places + step[axis] + 1) * side / 2).clip(1, side).astype(int)
        slabs = np.moveaxis(found, axis, 0)
        near = np.stack([slabs[a:b].any(axis=0) for a, b in zip(first, last, strict=True)])
        found = np.moveaxis(near, 0, axis)
    return found
