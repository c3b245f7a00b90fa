"""nerfstudio's hash fields, nerfacto and instant-ngp: two networks on a hash grid.

density = average_init_density exp(h0), colour = sigmoid(MLP[harmonics of d, h1.., appearance]) with
[h0, h1..] = MLP(hash grid). Positions are contracted by the largest coordinate and moved to [0, 1],
or normalised by the scene's box. The networks are tiny-cuda-nn's or PyTorch's. Source: nerfstudio
fields/nerfacto_field.py of 1.1.5, 1.0, 0.3.4 and 0.1.19, whose names differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError, UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.boxes import placed
from geodistill.io.fields.flat_networks import ALIGNMENTS, flat_matrices, flat_shapes, flat_size
from geodistill.io.fields.nerfstudio_harmonics import from_harmonics
from geodistill.io.fields.nerfstudio_networks import Layers, expect_chain, torch_layers
from geodistill.io.fields.nerfstudio_occupancy import cells_of_levels
from geodistill.io.fields.nerfstudio_settings import setting
from geodistill.io.fields.values import finite, number
from geodistill.io.nerfstudio import CONFIG, Run
from geodistill.kernels.hashspec import HashSpec

if TYPE_CHECKING:
    from torch import Tensor

GEOMETRY = 15
"""Features beside the density; no setting changes it."""
DIRECTION = 16
BASE_HIDDEN, HEAD_HIDDEN = 1, 2
"""Hidden layers of the two networks; no setting changes them."""
_JOINT = ("field.mlp_base.model.params", "field.mlp_base.params")
_PARTS = (
    ("field.mlp_base.model.0.", "field.mlp_base.model.1."),
    ("field.mlp_base.0.", "field.mlp_base.1."),
    ("field.mlp_base_grid.", "field.mlp_base_mlp."),
)
"""Beginnings of the names of the grid and its network, of several versions."""
_FLAT = ("tcnn_encoding.params", "params")


class Base(NamedTuple):
    """The hash grid and its network."""

    spec: HashSpec
    table: NDArray[np.float32]
    net: Layers


def read_hash_field(run: Run, state: dict[str, Tensor]) -> FieldArrays:
    """A field of the architecture ngp, in nerfstudio's world.

    Raises InputError, naming the file, for what is missing, damaged, or no such field.
    """
    where, config = run.checkpoint, run.folder / CONFIG
    if not run.settings:
        raise InputError(
            f"{where} needs the {CONFIG} of its run, which says how it contracts space and scales "
            f"densities: put it at {config}"
        )
    if "contraction_type" in run.model:
        raise InputError(f"{where} is of nerfstudio before 0.1.20, whose instant-ngp is not read")
    base = _base(run, state)
    head, flat = _head(run, state)
    contracted = not setting(run.model, "disable_scene_contraction", False, config)
    world, box = np.eye(4), ()
    if not contracted:
        corners = finite(state, "field.aabb", where, (2, 3))
        world, box = placed(corners[0], corners[1], f"{where}: its field.aabb")
    scale = setting(run.model, "average_init_density", 1.0, config) * world[0, 0]
    if scale <= 0:
        raise InputError(f"{config} has an average_init_density that is not above 0")
    return FieldArrays(
        architecture="ngp",
        config={
            "levels": base.spec.levels,
            "features": base.spec.features,
            "log2_size": base.spec.log2_size,
            "base_resolution": base.spec.base_resolution,
            "max_resolution": base.spec.max_resolution,
            "convention": base.spec.convention,
            "resolutions": base.spec.resolutions,
            "hidden": base.net.hidden,
            "layers": len(base.net.weights) - 1,
            "bias": bool(base.net.biases),
            "box": box,
            "decoder": {
                "density": "exp",
                "density_scale": float(scale),
                "features": GEOMETRY,
                "head": "harmonics",
                "width": head.hidden,
                "layers": len(head.weights) - 1,
                "bias": True,
            },
        },
        parameters={
            "branch.table": base.table,
            **_named("branch.density_net", base.net),
            **_named("color_head", _folded(head, flat, _appearance(run, state))),
        },
        nodes=None,
        occupancy=_occupancy(state, where, world, contracted),
        world_from_field=world,
        contraction="linf" if contracted else "none",
        extra={},
    )


def _named(prefix: str, layers: Layers) -> dict[str, NDArray[np.float32]]:
    return {
        **{f"{prefix}.weights.{i}": weight for i, weight in enumerate(layers.weights)},
        **{f"{prefix}.biases.{i}": bias for i, bias in enumerate(layers.biases)},
    }


def _base(run: Run, state: dict[str, Tensor]) -> Base:
    where = run.checkpoint
    for name in _JOINT:
        if name in state:
            return _flat_base(run, state, finite(state, name, where).reshape(-1))
    for grid, net in _PARTS:
        if f"{grid}hash_table" in state:
            spec = _spec(run, state, "nerfstudio")
            shape = (spec.entries, spec.features)
            table = finite(state, f"{grid}hash_table", where, shape)
            layers = torch_layers(state, net, where)
            expect_chain(layers, spec.width, 1 + GEOMETRY, f"its {net[:-1]}", where)
            return Base(spec, table, layers)
        if f"{grid}{_FLAT[0]}" in state:
            flat = [finite(state, f"{part}{_FLAT[0]}", where).reshape(-1) for part in (net, grid)]
            return _flat_base(run, state, np.concatenate(flat))
    raise InputError(f"{where} lacks the hash grid of its field, field.mlp_base.*")


def _flat_base(run: Run, state: dict[str, Tensor], flat: NDArray[np.float32]) -> Base:
    """tiny-cuda-nn's array: the network, whose input is padded with zeros, and the grid."""
    spec = _spec(run, state, "tcnn")
    width = setting(run.model, "hidden_dim", 64, run.folder / CONFIG)
    for alignment in ALIGNMENTS:
        shapes = flat_shapes(spec.width, max(width, 1), BASE_HIDDEN, 1 + GEOMETRY, alignment)
        rest = len(flat) - flat_size(shapes)
        if rest <= 0 or rest % spec.features:
            continue
        try:
            fitted = spec.fitting(rest // spec.features)
        except InputError:
            continue
        first, *others = flat_matrices(flat, shapes)
        weights = [first[:, : spec.width], *others[:-1], others[-1][: 1 + GEOMETRY]]
        table = flat[len(flat) - rest :].reshape(-1, spec.features)
        return Base(fitted, table, Layers(weights, []))
    asked = flat_size(flat_shapes(spec.width, width, BASE_HIDDEN, 1 + GEOMETRY, ALIGNMENTS[0]))
    raise InputError(
        f"{run.checkpoint} holds {len(flat)} numbers in its field.mlp_base, but its settings ask "
        f"for {asked + spec.entries * spec.features}"
    )


def _spec(run: Run, state: dict[str, Tensor], convention: Any) -> HashSpec:
    where, config = run.checkpoint, run.folder / CONFIG
    try:
        return HashSpec(
            levels=_count(state, "field.num_levels", where),
            features=setting(run.model, "features_per_level", 2, config),
            log2_size=_count(state, "field.log2_hashmap_size", where),
            base_resolution=setting(run.model, "base_res", 16, config),
            max_resolution=_count(state, "field.max_res", where),
            convention=convention,
        )
    except UsageError as error:
        raise InputError(f"{where} has a hash grid that cannot be: {error}") from None


def _count(state: dict[str, Tensor], name: str, where: Path) -> int:
    found = number(state, name, where)
    if found != int(found):
        raise InputError(f"{where} has {name} = {found:g}, which is no whole number")
    return int(found)


def _head(run: Run, state: dict[str, Tensor]) -> tuple[Layers, bool]:
    """The colour network, its inputs [harmonics, features, appearance, padding], and whether it is
    tiny-cuda-nn's."""
    where = run.checkpoint
    seen = DIRECTION + GEOMETRY + _embedding(state, where).shape[1]
    for name in _FLAT:
        key = f"field.mlp_head.{name}"
        if key in state:
            return _flat_head(run, finite(state, key, where).reshape(-1), seen), True
    head = torch_layers(state, "field.mlp_head.", where)
    expect_chain(head, seen, 3, "its field.mlp_head", where)
    return head, False


def _flat_head(run: Run, flat: NDArray[np.float32], seen: int) -> Layers:
    width = max(setting(run.model, "hidden_dim_color", 64, run.folder / CONFIG), 1)
    for alignment in ALIGNMENTS:
        shapes = flat_shapes(seen, width, HEAD_HIDDEN, 3, alignment)
        if flat_size(shapes) == len(flat):
            *hidden, last = flat_matrices(flat, shapes)
            return Layers([*hidden, last[:3]], [])
    raise InputError(
        f"{run.checkpoint} holds {len(flat)} numbers in its field.mlp_head, but {seen} inputs and "
        f"layers of {width} ask for {flat_size(flat_shapes(seen, width, HEAD_HIDDEN, 3, 16))}"
    )


def _embedding(state: dict[str, Tensor], where: Path) -> NDArray[np.float32]:
    """[images, appearance], without columns where the field has none."""
    name = "field.embedding_appearance.embedding.weight"
    if name not in state:
        return np.zeros((1, 0), np.float32)
    found = finite(state, name, where)
    if found.ndim != 2 or not len(found):
        raise InputError(f"{where}: its {name} has shape {[*found.shape]}, not [images, channels]")
    return found


def _appearance(run: Run, state: dict[str, Tensor]) -> NDArray[np.float64]:
    """What the colour network is given for the appearance when a scene is rendered.

    The mean over the images for models that say so, which nerfacto does by default; zeros for
    instant-ngp, which has no such setting.
    """
    embedding = _embedding(state, run.checkpoint).astype(np.float64)
    marches = any(name.startswith("occupancy_grid.") for name in state)
    key, config = "use_average_appearance_embedding", run.folder / CONFIG
    average = not marches and setting(run.model, key, True, config)
    return embedding.mean(axis=0) * average


def _folded(head: Layers, flat: bool, appearance: NDArray[np.float64]) -> Layers:
    """The head of [our harmonics, features]: what is constant becomes a bias, and nerfstudio's
    harmonics become ours. tiny-cuda-nn's have our signs, and ones in the padding."""
    first = head.weights[0].astype(np.float64)
    behind = DIRECTION + GEOMETRY
    constants = np.ones(first.shape[1] - behind)
    constants[: len(appearance)] = appearance
    biases = [np.zeros(len(w), np.float32) for w in head.weights] if flat else [*head.biases]
    biases[0] = (biases[0] + first[:, behind:] @ constants).astype(np.float32)
    seen = first[:, :DIRECTION] if flat else first[:, :DIRECTION] @ from_harmonics()
    folded = np.concatenate([seen, first[:, DIRECTION:behind]], axis=1)
    return Layers([folded.astype(np.float32), *head.weights[1:]], biases)


def _occupancy(
    state: dict[str, Tensor], where: Path, world: NDArray[np.float64], contracted: bool
) -> NDArray[np.bool_] | None:
    """Of the unit cube, from instant-ngp's nested grids."""
    cells, boxes = state.get("occupancy_grid.binaries"), "occupancy_grid.aabbs"
    if cells is None or boxes not in state:
        return None
    cubes = cells.ndim == 4 and cells.numel() > 0 and len({*cells.shape[1:]}) == 1
    if str(cells.dtype) != "torch.bool" or not cubes:
        raise InputError(
            f"{where}: its occupancy_grid.binaries is {cells.dtype} {[*cells.shape]}, not bits of "
            "cubes"
        )
    grids = cells.numpy()
    corners = finite(state, boxes, where, (len(grids), 6)).reshape(-1, 2, 3).astype(np.float64)
    if not (corners[:, 1] > corners[:, 0]).all():
        raise InputError(f"{where}: its {boxes} are no boxes")
    return cells_of_levels(grids, corners, world, contracted)
