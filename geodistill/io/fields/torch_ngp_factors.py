"""The planes and lines of torch-ngp's TensoRF (VM and CP) and of PVD's VM.

A plane is [1, rank, rows, columns], columns along the first of its axes (x, y), (x, z), (y, z); a
line is [1, rank, nodes, 1], along z, y, x: as ours, with the ranks first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import InputError
from geodistill.io.fields.torch_ngp_model import Model, Named, harmonics_head, network

Array = NDArray[np.float32]

WAVES = (1.0, 2.0)
"""Frequencies of torch-ngp's sines."""
_MODES = range(3)


def read_vm(model: Model, bound: float) -> Named:
    """`sigma_mat`, `sigma_vec`, `color_mat`, `color_vec`, `basis_mat` and `color_net`."""
    parts: dict[str, list[Array]] = {}
    for kind in ("sigma", "color"):
        planes = [model.array(f"{kind}_mat.{k}", 1, None, None, None)[0] for k in _MODES]
        lines = [
            model.array(f"{kind}_vec.{k}", 1, len(planes[k]), None, 1)[0, :, :, 0] for k in _MODES
        ]
        parts[f"{kind}_mat"], parts[f"{kind}_vec"] = planes, lines
    nodes = _nodes(model, parts["sigma_vec"])
    for kind in ("sigma", "color"):
        _expect_nodes(model, parts[f"{kind}_mat"], parts[f"{kind}_vec"], nodes)
    ranks = {kind: max(map(len, parts[f"{kind}_mat"])) for kind in ("sigma", "color")}
    widths = [len(plane) for plane in parts["color_mat"]]
    basis = _spread_basis(
        model.array("basis_mat.weight", None, sum(widths)), widths, ranks["color"]
    )
    decoder, head = _head(model, len(basis), bound)
    parameters = {"branch.basis": basis, **head}
    for kind, name in (("sigma", "density"), ("color", "color")):
        for k in _MODES:
            plane = to_rank(parts[f"{kind}_mat"][k], ranks[kind])
            line = to_rank(parts[f"{kind}_vec"][k], ranks[kind])
            parameters[f"branch.{name}_planes.{k}"] = plane.transpose(1, 2, 0)
            parameters[f"branch.{name}_lines.{k}"] = line.T
    config = _config(nodes, ranks, decoder) | _box(model, bound)
    return Named("tensorf", config, parameters)


def read_cp(model: Model, bound: float) -> Named:
    """`sigma_vec`, `color_vec`, `basis_mat` and `color_net`."""
    parts = {
        kind: [model.array(f"{kind}_vec.{k}", 1, None, None, 1)[0, :, :, 0] for k in _MODES]
        for kind in ("sigma", "color")
    }
    nodes = _nodes(model, parts["sigma"])
    for lines in parts.values():
        if _nodes(model, lines) != nodes or len({len(line) for line in lines}) > 1:
            raise InputError(f"{model.path} has lines that do not belong together")
    ranks = {kind: len(lines[0]) for kind, lines in parts.items()}
    basis = model.array("basis_mat.weight", None, ranks["color"])
    decoder, head = _head(model, len(basis), bound)
    parameters = {"branch.basis": basis, **head}
    for kind, name in (("sigma", "density"), ("color", "color")):
        for k in _MODES:
            parameters[f"branch.{name}_lines.{k}"] = parts[kind][k].T
    return Named("tensorf-cp", _config(nodes, ranks, decoder), parameters)


def to_frequency_order(first: Array, features: int) -> Array:
    """Columns of the first layer from theirs, [features, their sines, direction, its sines], to
    ours, [features, direction, sines of the features, of the direction]."""
    behind = features * (1 + 2 * len(WAVES))
    seen, waves, direction, rest = np.split(first, [features, behind, behind + 3], axis=1)
    return np.concatenate([seen, direction, waves, rest], axis=1)


def from_frequency_order(first: Array, features: int) -> Array:
    """The inverse."""
    order = to_frequency_order(np.arange(first.shape[1])[None], features)[0]
    return first[:, np.argsort(order)]


def to_rank(factor: Array, rank: int) -> Array:
    """With components of zeros up to `rank`, on the first axis."""
    out = np.zeros((rank, *factor.shape[1:]), np.float32)
    out[: len(factor)] = factor
    return out


def _head(model: Model, features: int, bound: float) -> tuple[dict[str, Any], dict[str, Array]]:
    """PVD's colour network sees harmonics of the direction, torch-ngp's sines"""
    seen = model.array("color_net.0.weight", None, None).shape[1]
    if seen == 16 + features:
        return harmonics_head(model, features, bound)
    color = model.matrices("color_net.{}.weight", (features + 3) * (1 + 2 * len(WAVES)))
    if len(color[-1]) != 3:
        raise InputError(f"{model.path}: color_net gives {len(color[-1])} values, not 3 colours")
    color[0] = to_frequency_order(color[0], features)
    decoder = {
        "density": "exp",
        "density_scale": bound,
        "features": features,
        "head": "frequencies",
        "width": len(color[0]),
        "layers": len(color) - 1,
        "bias": False,
        "view_frequencies": WAVES,
        "feature_frequencies": WAVES,
    }
    return decoder, network("color_head", color)


def _nodes(model: Model, lines: list[Array]) -> tuple[int, int, int]:
    """Along x, y, z"""
    z, y, x = (line.shape[1] for line in lines)
    if min(x, y, z) < 2:
        raise InputError(f"{model.path} has {x} x {y} x {z} nodes, too few for a grid")
    return x, y, z


def _expect_nodes(
    model: Model, planes: list[Array], lines: list[Array], nodes: tuple[int, int, int]
) -> None:
    x, y, z = nodes
    found = [plane.shape[1:] for plane in planes]
    if found != [(y, x), (z, x), (z, y)] or _nodes(model, lines) != nodes:
        raise InputError(f"{model.path} has planes of {found} nodes, its lines have {x}, {y}, {z}")


def _config(
    nodes: tuple[int, int, int], ranks: dict[str, int], decoder: dict[str, Any]
) -> dict[str, Any]:
    return {
        "resolution": max(nodes),
        "grid": nodes if len(set(nodes)) > 1 else (),
        "density_rank": ranks["sigma"],
        "color_rank": ranks["color"],
        "floor": 0.0,
        "decoder": decoder,
    }


def _box(model: Model, bound: float) -> dict[str, Any]:
    """What the grid spans: a box that training may have shrunk"""
    box = model.array("aabb_train", 6).astype(np.float64) / bound
    low, high = np.clip(box[:3], -1.0, 1.0), np.clip(box[3:], -1.0, 1.0)
    if np.abs(box).max() > 1.001 or (low >= high).any():
        raise InputError(
            f"{model.path} has the grid's box {np.round(box * bound, 4).tolist()}, which is not "
            f"within the bound {bound:g}"
        )
    whole = bool((low <= -1.0).all() and (high >= 1.0).all())
    return {} if whole else {"box": tuple(float(v) for v in (*low, *high))}


def _spread_basis(basis: Array, widths: list[int], rank: int) -> Array:
    """Columns mode after mode, each as many as the widest mode has"""
    out = np.zeros((len(basis), 3, rank), np.float32)
    start = 0
    for k, width in enumerate(widths):
        out[:, k, :width] = basis[:, start : start + width]
        start += width
    return out.reshape(len(basis), 3 * rank)
