"""Small TensoRF checkpoints in the program's own layout, and its forward pass point by point."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
import torch

MAT, VEC = ((0, 1), (0, 2), (1, 2)), (2, 1, 0)
CUBE = ((-1.5, -1.5, -1.5), (1.5, 1.5, 1.5))
SLAB = ((-1.2, -0.7, 0.1), (0.9, 1.6, 1.3))


def checkpoint(
    *,
    kind: str = "vm",
    shading: str = "MLP_Fea",
    density: str = "softplus",
    aabb: tuple = SLAB,
    grid: tuple[int, int, int] = (9, 12, 7),
    ranks: tuple = ((4, 2, 3), (5, 6, 2)),
    mask: bool = False,
    point: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """What `TensorBase.save` stores; `point`: MLP_PE with the point among the inputs."""
    draw = np.random.default_rng(seed)
    app_dim = 27 if shading == "SH" else 8
    pes = {"pos_pe": 2, "view_pe": 3, "fea_pe": 2}
    kwargs = {
        "aabb": torch.tensor(aabb, dtype=torch.float32),
        "gridSize": list(grid),
        "density_n_comp": list(ranks[0]),
        "appearance_n_comp": list(ranks[1]),
        "app_dim": app_dim,
        "density_shift": -3.0,
        "alphaMask_thres": 0.001,
        "distance_scale": 25,
        "rayMarch_weight_thres": 0.0001,
        "fea2denseAct": density,
        "near_far": [2.0, 6.0],
        "step_ratio": 0.5,
        "shadingMode": shading,
        **pes,
        "featureC": 10,
    }
    state: OrderedDict[str, torch.Tensor] = OrderedDict()

    def put(name: str, *shape: int, scale: float = 1.0) -> None:
        state[name] = torch.tensor(scale * draw.normal(size=shape), dtype=torch.float32)

    for name, counts in zip(("density", "app"), ranks, strict=True):
        for k in range(3):
            if kind == "vm":
                put(f"{name}_plane.{k}", 1, counts[k], grid[MAT[k][1]], grid[MAT[k][0]])
        for k in range(3):
            put(f"{name}_line.{k}", 1, counts[k], grid[VEC[k]], 1)
    put("basis_mat.weight", app_dim, sum(ranks[1]) if kind == "vm" else ranks[1][0], scale=0.4)
    if shading.startswith("MLP"):
        width = {
            "MLP_Fea": app_dim + 3 + 6 * pes["view_pe"] + 2 * pes["fea_pe"] * app_dim,
            "MLP_PE": app_dim + 3 + 6 * pes["view_pe"] + 6 * pes["pos_pe"] + 3 * point,
            "MLP": app_dim + 3 + 6 * pes["view_pe"],
        }[shading]
        for layer, (out, fan_in) in enumerate(((10, width), (10, 10), (3, 10))):
            put(f"renderModule.mlp.{2 * layer}.weight", out, fan_in, scale=fan_in**-0.5)
            put(f"renderModule.mlp.{2 * layer}.bias", out, scale=0.3)
    found: dict[str, Any] = {"kwargs": kwargs, "state_dict": state}
    if mask:
        volume = draw.random((1, 1, 6, 5, 7)) < 0.15
        found["alphaMask.shape"] = volume.shape
        found["alphaMask.mask"] = np.packbits(volume.reshape(-1))
        found["alphaMask.aabb"] = torch.tensor(aabb) * 1.1
    return found


def forward(
    found: dict[str, Any], x: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density per world length [N], colour [N, 3] and whether the mask lets it be seen [N]."""
    results = [_forward_one(found, x[i], d[i]) for i in range(len(x))]
    sigma, rgb, seen = zip(*results, strict=True)
    return np.array(sigma), np.array(rgb), np.array(seen)


def _forward_one(found: dict[str, Any], x: np.ndarray, d: np.ndarray):
    kwargs, state = found["kwargs"], found["state_dict"]
    low, high = kwargs["aabb"].double().numpy()
    if (x < low).any() or (x > high).any():
        return 0.0, np.zeros(3), False
    p = (x - low) * (2 / (high - low)) - 1
    raw = float(sum(_products(state, "density", p)))
    if kwargs["fea2denseAct"] == "softplus":
        sigma = math.log1p(math.exp(raw + kwargs["density_shift"]))
    else:
        sigma = max(raw, 0.0)
    f = state["basis_mat.weight"].double().numpy() @ np.array(_products(state, "app", p))
    return sigma * kwargs["distance_scale"], _color(kwargs, state, p, d, f), _seen(found, x)


def _products(state: dict[str, torch.Tensor], name: str, p: np.ndarray) -> list[float]:
    lines = [state[f"{name}_line.{k}"][0, :, :, 0].double().numpy() for k in range(3)]
    lines = [
        [_linear(component, p[axis]) for component in line]
        for line, axis in zip(lines, VEC, strict=True)
    ]
    if f"{name}_plane.0" not in state:
        return [a * b * c for a, b, c in zip(*lines, strict=True)]
    products = []
    for k, (across, down) in enumerate(MAT):
        for component, on_line in zip(
            state[f"{name}_plane.{k}"][0].double().numpy(), lines[k], strict=True
        ):
            rows = np.array([_linear(row, p[across]) for row in component])
            products.append(_linear(rows, p[down]) * on_line)
    return products


def _linear(values: np.ndarray, at: float) -> float:
    """Between nodes, the first at -1 and the last at 1."""
    place = (at + 1) / 2 * (len(values) - 1)
    low = min(max(math.floor(place), 0), len(values) - 2)
    return float(values[low] + (place - low) * (values[low + 1] - values[low]))


def _encoded(x: np.ndarray, octaves: int) -> list[float]:
    angles = [value * 2.0**j for value in x for j in range(octaves)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


def _color(kwargs, state, p: np.ndarray, d: np.ndarray, f: np.ndarray) -> np.ndarray:
    mode = kwargs["shadingMode"]
    if mode == "SH":
        return np.maximum(f.reshape(3, 9) @ harmonics(d) + 0.5, 0)
    inputs = [*f, *d]
    if mode == "MLP_Fea":
        inputs += _encoded(f, kwargs["fea_pe"])
    if mode == "MLP_PE":
        plain = len(f) + 3 + 6 * kwargs["pos_pe"] + 6 * kwargs["view_pe"]
        if state["renderModule.mlp.0.weight"].shape[1] == plain + 3:
            inputs += [*p]
        inputs += _encoded(p, kwargs["pos_pe"])
    hidden = np.array(inputs + _encoded(d, kwargs["view_pe"]))
    for layer in (0, 2, 4):
        weight = state[f"renderModule.mlp.{layer}.weight"].double().numpy()
        hidden = weight @ hidden + state[f"renderModule.mlp.{layer}.bias"].double().numpy()
        hidden = np.maximum(hidden, 0) if layer < 4 else 1 / (1 + np.exp(-hidden))
    return hidden


def harmonics(d: np.ndarray) -> np.ndarray:
    """Real spherical harmonics to degree 2 by their definitions in x, y, z."""
    x, y, z = d
    return np.array(
        [
            math.sqrt(1 / (4 * math.pi)),
            -math.sqrt(3 / (4 * math.pi)) * y,
            math.sqrt(3 / (4 * math.pi)) * z,
            -math.sqrt(3 / (4 * math.pi)) * x,
            math.sqrt(15 / (4 * math.pi)) * x * y,
            -math.sqrt(15 / (4 * math.pi)) * y * z,
            math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1),
            -math.sqrt(15 / (4 * math.pi)) * x * z,
            math.sqrt(15 / (16 * math.pi)) * (x * x - y * y),
        ]
    )


def _seen(found: dict[str, Any], x: np.ndarray) -> bool:
    """Whether the mask, interpolated, is above zero."""
    if "alphaMask.shape" not in found:
        return True
    shape = found["alphaMask.shape"][2:]
    volume = np.unpackbits(found["alphaMask.mask"])[: math.prod(shape)].reshape(shape)
    low, high = found["alphaMask.aabb"].double().numpy()
    place = (x - low) / (high - low) * (np.array(shape[::-1]) - 1)
    base = np.floor(place).astype(int)
    for corner in np.ndindex(2, 2, 2):
        node = base + corner
        weight = np.prod(np.where(corner, place - base, 1 - (place - base)))
        inside = (node >= 0).all() and (node < shape[::-1]).all()
        if inside and weight > 0 and volume[node[2], node[1], node[0]]:
            return True
    return False
