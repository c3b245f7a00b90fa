"""nerfstudio's vanilla-nerf: the network of NeRF (Mildenhall et al. 2020) on sines of the position.

density = softplus(w . h), colour = sigmoid(MLP[sines of d, d, h]), h = relu(MLP[sines of x, x]);
frequencies 2 pi 2^e with ten exponents from 0 to 8, and four from 0 to 4. Source: nerfstudio
1.1.5 fields/vanilla_nerf_field.py and models/vanilla_nerf.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.nerfstudio_harmonics import frequencies, sine_columns
from geodistill.io.fields.nerfstudio_networks import Layers, expect_chain, linear, torch_layers
from geodistill.io.fields.nerfstudio_settings import setting
from geodistill.io.nerfstudio import CONFIG, Run

if TYPE_CHECKING:
    from torch import Tensor

PLACE_WAVES, VIEW_WAVES = frequencies(10, 8.0), frequencies(4, 4.0)
PLACE_WIDTH, VIEW_WIDTH = 3 + 6 * len(PLACE_WAVES), 3 + 6 * len(VIEW_WAVES)
BLENDER_HALF = 1.5
"""Half the side of the scene's box of nerfstudio's reader of NeRF-synthetic data."""


def read_mlp_field(run: Run, state: dict[str, Tensor]) -> FieldArrays:
    """A field of the architecture mlp, in nerfstudio's world: its fine network.

    Raises InputError, naming the file, for what is missing, damaged, or no such field.
    """
    where, half = run.checkpoint, _half(run)
    if any(name.startswith("temporal_distortion.") for name in state):
        raise InputError(f"{where} changes with time, which no field here does")
    trunk, skip = _trunk(state, where, half)
    width = trunk.weights[-1].shape[0]
    head = _head(state, where, width)
    parameters = dict(_density_net(state, where, width))
    for i, (weight, bias) in enumerate(zip(*trunk, strict=True)):
        parameters |= {f"branch.trunk.{i}.weight": weight, f"branch.trunk.{i}.bias": bias}
    for i, (weight, bias) in enumerate(zip(*head, strict=True)):
        parameters |= {f"color_head.weights.{i}": weight, f"color_head.biases.{i}": bias}
    return FieldArrays(
        architecture="mlp",
        config={
            "depth": len(trunk.weights),
            "width": trunk.hidden,
            "frequencies": tuple(wave * half for wave in PLACE_WAVES),
            "skip": skip,
            "trunk_out": width,
            "hidden": (width,),
            "bias": True,
            "bf16": False,
            "decoder": {
                "density": "softplus",
                "density_scale": half,
                "features": width,
                "head": "frequencies",
                "width": head.hidden,
                "layers": len(head.weights) - 1,
                "bias": True,
                "view_frequencies": VIEW_WAVES,
            },
        },
        parameters=parameters,
        nodes=None,
        occupancy=None,
        world_from_field=np.diag([half, half, half, 1.0]),
        contraction="none",
        extra={},
    )


def _half(run: Run) -> float:
    """Half the side of a cube about the origin that holds what is rendered.

    Rays begin at cameras, which nerfstudio moves into [-1, 1]^3, and end at the far plane; the box
    of NeRF-synthetic scenes is known. The networks themselves have no bounds.
    """
    config = run.folder / CONFIG
    target = run.dataparser.get("_target")
    if isinstance(target, str) and target.endswith(".Blender"):
        return BLENDER_HALF
    planes = run.model.get("collider_params")
    far = setting(planes if isinstance(planes, dict) else {}, "far_plane", 6.0, config)
    scale = setting(run.dataparser, "scale_factor", 1.0, config)
    half = far + scale
    if not 1e-3 < half < 1e5:
        raise InputError(f"{config} has a far_plane of {far:g}, which bounds no scene")
    return half


def _trunk(state: dict[str, Tensor], where: Path, half: float) -> tuple[Layers, int]:
    """The layers from the position to h, and the one after which the position enters again.

    Raises InputError for layers that do not fit each other.
    """
    prefix = "field_fine.mlp_base."
    layers = torch_layers(state, prefix, where)
    width = layers.hidden
    weights = [weight.astype(np.float64) for weight in layers.weights]
    again = [i for i, weight in enumerate(weights) if i and weight.shape[1] == PLACE_WIDTH + width]
    fits = weights[0].shape[1] == PLACE_WIDTH and len(weights) > 2 and len(again) == 1
    others = [w for i, w in enumerate(weights) if i and i not in again]
    if not fits or any(w.shape != (width, width) for w in others):
        shapes = ", ".join(str([*weight.shape]) for weight in weights)
        raise InputError(f"{where}: its {prefix[:-1]} has layers of shapes {shapes}, not of a NeRF")
    columns = np.concatenate([np.arange(3) + 6 * len(PLACE_WAVES), sine_columns(3, 10)])
    for i in (0, *again):
        place = weights[i][:, columns]
        place[:, :3] *= half
        weights[i] = np.concatenate([weights[i][:, PLACE_WIDTH:], place], axis=1)
    return Layers([w.astype(np.float32) for w in weights], layers.biases), again[0] - 1


def _density_net(
    state: dict[str, Tensor], where: Path, width: int
) -> dict[str, NDArray[np.float32]]:
    """From the last layer's values to [raw density, relu of them]: two layers, of which the first
    does nothing but let the relu come."""
    weight, bias = linear(state, "field_fine.field_output_density.net.", where)
    if weight.shape != (1, width):
        raise InputError(
            f"{where}: its density layer has shape {[*weight.shape]}, not [1, {width}]"
        )
    same = np.eye(width, dtype=np.float32)
    return {
        "branch.density_net.weights.0": same,
        "branch.density_net.biases.0": np.zeros(width, np.float32),
        "branch.density_net.weights.1": np.concatenate([weight, same]),
        "branch.density_net.biases.1": np.concatenate([bias, np.zeros(width, np.float32)]),
    }


def _head(state: dict[str, Tensor], where: Path, width: int) -> Layers:
    """The colour network; its first matrix takes [h, d, sines of d] in our order."""
    hidden = torch_layers(state, "field_fine.mlp_head.", where)
    weight, bias = linear(state, "field_fine.field_heads.0.net.", where)
    head = Layers([*hidden.weights, weight], [*hidden.biases, bias])
    expect_chain(head, VIEW_WIDTH + width, 3, "its field_fine.mlp_head", where)
    columns = np.concatenate(
        [
            VIEW_WIDTH + np.arange(width),
            np.arange(3) + 6 * len(VIEW_WAVES),
            sine_columns(3, len(VIEW_WAVES)),
        ]
    )
    return Layers([head.weights[0][:, columns], *head.weights[1:]], head.biases)
