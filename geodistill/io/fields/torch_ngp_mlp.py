"""PVD's own kinds of field beside the hash grid and VM: the network, and the dense voxels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.io.fields.torch_ngp_model import Model, Named, harmonics_head, network

Array = NDArray[np.float32]


def read_mlp(model: Model, bound: float) -> Named:
    """`nerf_mlp`, a network with biases on sines of the position, then `sigma_net`, `color_net`.

    Its encoding [x, sin(x), cos(x), sin(2x), ...] is of positions in the cube of side 2 `bound`,
    and enters again before the hidden values; ours is of the unit cube, and behind them.
    """
    first = model.array("nerf_mlp.0.weight", None, None)
    width, encoded = first.shape
    octaves = (encoded - 3) // 6
    if encoded != 3 + 6 * octaves or not 1 <= octaves <= 32:
        raise InputError(f"{model.path}: nerf_mlp.0.weight takes {encoded} inputs, no encoding")
    depth = 1
    while f"nerf_mlp.{depth}.weight" in model.names:
        depth += 1
    skips = [
        i - 1
        for i in range(1, depth)
        if model.array(f"nerf_mlp.{i}.weight", None, None).shape[1] == width + encoded
    ]
    if depth < 2 or len(skips) > 1:
        raise InputError(
            f"{model.path}: nerf_mlp has {depth} layers and takes its input again {len(skips)} "
            "times; a field here has at least 2 layers and takes it again at most once"
        )
    skip = skips[0] if skips else depth
    parameters: dict[str, Array] = {}
    for i in range(depth):
        inputs = encoded if i == 0 else width + encoded * (i - 1 == skip)
        outputs = width if i < depth - 1 else None
        matrix = model.array(f"nerf_mlp.{i}.weight", outputs, inputs).copy()
        if i == 0:
            matrix[:, :3] *= bound
        elif i - 1 == skip:
            matrix[:, :3] *= bound
            matrix = np.concatenate([matrix[:, encoded:], matrix[:, :encoded]], axis=1)
        parameters[f"branch.trunk.{i}.weight"] = matrix
        parameters[f"branch.trunk.{i}.bias"] = model.array(f"nerf_mlp.{i}.bias", len(matrix))
    trunk_out = len(parameters[f"branch.trunk.{depth - 1}.weight"])
    density = model.matrices("sigma_net.{}.weight", trunk_out)
    decoder, head = harmonics_head(model, len(density[-1]) - 1, bound)
    config = {
        "depth": depth,
        "width": width,
        "bf16": False,
        "frequencies": tuple(bound * 2.0**k for k in range(octaves)),
        "skip": skip,
        "trunk_out": trunk_out,
        "hidden": tuple(len(matrix) for matrix in density[:-1]),
        "decoder": decoder,
    }
    return Named("mlp", config, parameters | network("branch.density_net", density) | head)


def read_voxels(model: Model, bound: float) -> Named:
    """`tensor_volume`, [1, channels, z, y, x] dense nodes from one border of the box to the other.

    Densities are exp(raw); the constant that makes them those of the unit cube goes into raw.
    """
    volume = model.array("tensor_volume.0", 1, None, None, None, None)[0]
    harmonics = (len(volume) - 1) // 3
    degree = math.isqrt(harmonics) - 1
    if len(volume) != 1 + 3 * (degree + 1) ** 2 or not 0 <= degree <= 3:
        raise InputError(
            f"{model.path}: tensor_volume has {len(volume)} values a node, not 4 to 49"
        )
    shape = volume.shape[:0:-1]
    if min(shape) < 2:
        raise InputError(f"{model.path}: tensor_volume has {shape} nodes, too few for a grid")
    box = model.array("aabb_train", 6)
    if not np.allclose(box, [-bound] * 3 + [bound] * 3):
        raise InputError(f"{model.path}: its voxels fill {box.tolist()}, not the bound {bound:g}")
    values = np.ascontiguousarray(volume.transpose(3, 2, 1, 0)).reshape(-1, len(volume))
    values[:, 0] += math.log(bound)
    config = {
        "resolution": max(shape),
        "grid": shape if len(set(shape)) > 1 else (),
        "sh_degree": degree,
        "nodes": "borders",
        "density": "exp",
        "color": "sigmoid",
    }
    return Named("plenoxels", config, {"values": values})
