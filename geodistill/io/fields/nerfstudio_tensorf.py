"""nerfstudio's tensorf: planes and lines over the scene's box, in its encodings vm, cp, triplane.

density = relu(sum of components); colour = sigmoid(MLP[f, d, sines of f, sines of d]) with
f = B @ components. Source: nerfstudio 1.1.5 fields/tensorf_field.py, models/tensorf.py and
field_components/encodings.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.boxes import placed
from geodistill.io.fields.nerfstudio_harmonics import frequencies, sine_columns
from geodistill.io.fields.nerfstudio_networks import Layers, expect_chain, linear, torch_layers
from geodistill.io.fields.values import finite
from geodistill.io.nerfstudio import Run

if TYPE_CHECKING:
    from torch import Tensor

WAVES = frequencies(2, 2.0)
_ENCODINGS = {"density": "field.density_encoding.", "color": "field.color_encoding."}


def read_tensor_field(run: Run, state: dict[str, Tensor]) -> FieldArrays:
    """A field of the architecture tensorf, or tensorf-cp for lines alone, in nerfstudio's world.

    Raises InputError, naming the file, for what is missing, damaged, or no such field.
    """
    where = run.checkpoint
    corners = finite(state, "field.aabb", where, (2, 3))
    world, box = placed(corners[0], corners[1], f"{where}: its field.aabb")
    planes, lines = _coefficients(state, where)
    basis = _basis(state, where, planes, lines)
    head = _head(state, where, features=len(basis))
    parameters = {"branch.basis": basis}
    for name in _ENCODINGS:
        for k in range(3):
            parameters[f"branch.{name}_lines.{k}"] = lines[name][k, :, :, 0].T
            if planes:
                parameters[f"branch.{name}_planes.{k}"] = planes[name][k].transpose(1, 2, 0)
    for i, (weight, bias) in enumerate(zip(*head, strict=True)):
        parameters |= {f"color_head.weights.{i}": weight, f"color_head.biases.{i}": bias}
    return FieldArrays(
        architecture="tensorf" if planes else "tensorf-cp",
        config={
            "resolution": lines["density"].shape[2],
            "density_rank": lines["density"].shape[1],
            "color_rank": lines["color"].shape[1],
            "floor": 0.0,
            "box": box,
            "decoder": {
                "density": "relu",
                "density_scale": float(world[0, 0]),
                "features": len(basis),
                "head": "frequencies",
                "width": head.hidden,
                "layers": len(head.weights) - 1,
                "bias": True,
                "view_frequencies": WAVES,
                "feature_frequencies": WAVES,
            },
        },
        parameters=parameters,
        nodes=None,
        occupancy=None,
        world_from_field=world,
        contraction="none",
        extra={},
    )


def _coefficients(
    state: dict[str, Tensor], where: Path
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Planes [3, C, R, R], none of lines alone, and lines [3, C, R, 1], of density and colour.

    The triplane encoding adds planes up; as lines it gets ones.
    """
    planes: dict[str, NDArray[np.float32]] = {}
    lines: dict[str, NDArray[np.float32]] = {}
    for name, prefix in _ENCODINGS.items():
        if f"{prefix}plane_coef" in state:
            planes[name] = _grid(state, f"{prefix}plane_coef", where)
            if planes[name].shape[2] != planes[name].shape[3]:
                raise InputError(f"{where}: the planes of its {prefix[:-1]} are not square")
        if f"{prefix}line_coef" in state or name not in planes:
            lines[name] = _grid(state, f"{prefix}line_coef", where)
        else:
            lines[name] = np.ones((*planes[name].shape[:3], 1), np.float32)
        shape = (*planes.get(name, lines[name]).shape[:3], 1)
        if lines[name].shape != shape:
            raise InputError(f"{where}: the planes and lines of its {prefix[:-1]} do not fit")
    if len({*(lines[name].shape[2] for name in lines)}) > 1 or len(planes) == 1:
        raise InputError(f"{where}: its encodings of density and colour are of different kinds")
    return planes, lines


def _grid(state: dict[str, Tensor], name: str, where: Path) -> NDArray[np.float32]:
    found = finite(state, name, where)
    if found.ndim != 4 or len(found) != 3 or 0 in found.shape:
        raise InputError(f"{where}: its {name} has shape {[*found.shape]}, not [3, C, R, ..]")
    return found


def _basis(
    state: dict[str, Tensor],
    where: Path,
    planes: dict[str, NDArray[np.float32]],
    lines: dict[str, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """[features, components], those of the triplane encoding once for each plane."""
    basis = finite(state, "field.B.weight", where)
    rank, joint = lines["color"].shape[1], "field.color_encoding.line_coef" in state
    modes = 3 if planes and joint else 1
    if basis.ndim != 2 or basis.shape[1] != modes * rank or not len(basis):
        shape = [*basis.shape]
        raise InputError(f"{where}: its field.B.weight has shape {shape}, not [.., {modes * rank}]")
    return np.tile(basis, (1, 3)) if planes and not joint else basis


def _head(state: dict[str, Tensor], where: Path, features: int) -> Layers:
    """The colour network; its first matrix takes [f, d, sines of f, sines of d] in our order."""
    hidden = torch_layers(state, "field.mlp_head.", where)
    weight, bias = linear(state, "field.field_output_rgb.net.", where)
    head = Layers([*hidden.weights, weight], [*hidden.biases, bias])
    seen = (features + 3) * (1 + 2 * len(WAVES))
    expect_chain(head, seen, 3, "its field.mlp_head", where)
    columns = np.concatenate(
        [
            np.arange(features + 3),
            features + 3 + sine_columns(features, len(WAVES)),
            features + 3 + 2 * features * len(WAVES) + sine_columns(3, len(WAVES)),
        ]
    )
    return Layers([head.weights[0][:, columns], *head.weights[1:]], head.biases)
