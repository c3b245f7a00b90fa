"""What FieldArrays mean: densities and colours at places of the world, through geometry.fields."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from geodistill.geometry.fields.activations import spherical_harmonics
from geodistill.io.fields.arrays import FieldArrays

AXES, LINES = ((0, 1), (0, 2), (1, 2)), (2, 1, 0)


def evaluate(arrays: FieldArrays, x: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density per world length [N] and colour [N, 3] at x seen along d, without occupancy."""
    matrix = torch.tensor(arrays["world_from_field"])
    scale = float(torch.linalg.det(matrix[:3, :3])) ** (1 / 3)
    u = (torch.tensor(x, dtype=torch.float64) - matrix[:3, 3]) @ torch.linalg.inv(matrix[:3, :3]).T
    d_field = torch.tensor(d, dtype=torch.float64) @ matrix[:3, :3] / scale
    box = torch.tensor(arrays["config"].get("box") or [-1.0] * 3 + [1.0] * 3, dtype=torch.float64)
    low, high = box[:3], box[3:]
    inside = ((u >= low - 1e-9) & (u <= high + 1e-9)).all(1)
    p = (2 * (u - low) / (high - low) - 1).clamp(-1, 1)
    parameters = {k: torch.tensor(v, dtype=torch.float64) for k, v in arrays["parameters"].items()}
    if arrays["architecture"] == "plenoxels":
        sigma, rgb = _plenoxels(arrays, parameters["values"], p, d_field)
    else:
        raw, features = _factored(arrays, parameters, p)
        sigma, rgb = _decoded(arrays["config"]["decoder"], parameters, raw, features, u, d_field)
    return (sigma * inside / scale).numpy(), rgb.numpy()


def _plenoxels(arrays, values, p, d):
    nodes = torch.tensor(arrays["nodes"])
    dense = torch.zeros(*nodes.shape, values.shape[1], dtype=torch.float64)
    dense[nodes] = values
    grid = p.flip(1)[None, :, None, None]
    latent = F.grid_sample(
        dense.permute(3, 0, 1, 2)[None], grid, padding_mode="border", align_corners=False
    )[0, :, :, 0, 0].T
    basis = spherical_harmonics(d, arrays["config"]["sh_degree"])
    k = latent[:, 1:].unflatten(1, (3, -1))
    return 1000 * latent[:, 0].relu(), ((k * basis[:, None]).sum(2) + 0.5).clamp_min(0)


def _factored(arrays, parameters, p):
    def line(name, k):
        values = parameters[f"branch.{name}_lines.{k}"].T[None, :, :, None]
        return _sampled(values, torch.zeros(len(p), dtype=p.dtype), p[:, LINES[k]])

    def plane(name, k):
        values = parameters[f"branch.{name}_planes.{k}"].permute(2, 0, 1)[None]
        return _sampled(values, p[:, AXES[k][0]], p[:, AXES[k][1]])

    if arrays["architecture"] == "tensorf":
        raw = sum((plane("density", k) * line("density", k)).sum(1) for k in range(3))
        parts = torch.cat([plane("color", k) * line("color", k) for k in range(3)], 1)
    else:
        raw = (line("density", 0) * line("density", 1) * line("density", 2)).sum(1)
        parts = line("color", 0) * line("color", 1) * line("color", 2)
    return raw + arrays["config"]["floor"], parts @ parameters["branch.basis"].T


def _sampled(values, x, y):
    grid = torch.stack([x, y], 1)[None, :, None]
    return F.grid_sample(values, grid, align_corners=True)[0, :, :, 0].T


def _decoded(decoder, parameters, raw, features, u, d):
    act = {"softplus": F.softplus, "relu": F.relu, "exp": torch.exp}[decoder["density"]]
    sigma = decoder["density_scale"] * act(raw + decoder["density_shift"])
    if decoder["head"] == "sh":
        k = features.unflatten(1, (3, -1))
        basis = spherical_harmonics(d, round((k.shape[2]) ** 0.5) - 1)
        return sigma, ((k * basis[:, None]).sum(2) + 0.5).clamp_min(0)
    parts = [features, d]
    positions = decoder.get("position_frequencies", ())
    if decoder.get("positions", False):
        parts.append(u)
    waves = ((u, positions), (features, decoder["feature_frequencies"]))
    for x, frequencies in (*waves, (d, decoder["view_frequencies"])):
        for f in frequencies:
            parts += [torch.sin(f * x), torch.cos(f * x)]
    hidden = torch.cat(parts, 1)
    for i in range(decoder["layers"] + 1):
        hidden = hidden @ parameters[f"color_head.weights.{i}"].T
        hidden = hidden + parameters[f"color_head.biases.{i}"]
        hidden = hidden if i == decoder["layers"] else hidden.relu()
    return sigma, torch.sigmoid(hidden)
