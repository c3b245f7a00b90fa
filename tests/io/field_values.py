"""FieldArrays evaluated in the user's world, through geodistill's kernels."""

from __future__ import annotations

import numpy as np
import torch

from geodistill import kernels
from geodistill.geometry.fields.activations import spherical_harmonics
from geodistill.io.fields.arrays import FieldArrays

DECODER = {
    "density": "exp",
    "density_shift": 0.0,
    "density_scale": 1.0,
    "features": 15,
    "head": "harmonics",
    "width": 64,
    "layers": 2,
    "bias": False,
    "view_frequencies": (),
    "feature_frequencies": (),
}


def values(field: FieldArrays, world: np.ndarray, directions: np.ndarray):
    """Density per world unit [N] and colour [N, 3], without the occupancy grid."""
    matrix = field["world_from_field"]
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    rotation = matrix[:3, :3] / scale
    u = torch.from_numpy((world - matrix[:3, 3]) @ rotation / scale).float()
    d = torch.from_numpy(directions @ rotation).float()
    weights = {name: torch.from_numpy(p) for name, p in field["parameters"].items()}
    decoder = {**DECODER, **field["config"].get("decoder", {})}
    latent = LATENTS[field["architecture"]](field["config"], weights, u)
    assert latent.shape[1] == 1 + decoder["features"]
    raw = latent[:, 0] + decoder["density_shift"]
    act = {"exp": torch.exp, "softplus": torch.nn.functional.softplus, "relu": torch.relu}
    sigma = decoder["density_scale"] * act[decoder["density"]](raw) / scale
    rgb = torch.sigmoid(mlp(weights, "color_head", seen(decoder, latent[:, 1:], d)))
    return sigma.numpy().astype(float), rgb.numpy().astype(float)


def seen(decoder, features, d):
    if decoder["head"] == "harmonics":
        return torch.cat([spherical_harmonics(d, 3), features], 1)
    return torch.cat(
        [
            features,
            d,
            *waves(features, decoder["feature_frequencies"]),
            *waves(d, decoder["view_frequencies"]),
        ],
        1,
    )


def waves(x, frequencies):
    return [wave(f * x) for f in frequencies for wave in (torch.sin, torch.cos)]


def mlp(weights, prefix, x):
    i = 0
    while f"{prefix}.weights.{i}" in weights:
        x = x if i == 0 else torch.relu(x)
        x = x @ weights[f"{prefix}.weights.{i}"].T
        x = x + weights.get(f"{prefix}.biases.{i}", torch.zeros(x.shape[1]))
        i += 1
    return x


def ngp(config, weights, u):
    keys = ("levels", "features", "log2_size", "base_resolution", "max_resolution", "convention")
    more = ("resolutions", "level_scale")
    spec = kernels.HashSpec(
        **{key: config[key] for key in keys}, **{key: config.get(key) for key in more}
    )
    encoded = kernels.hash_encode((u + 1) / 2, weights["branch.table"], spec)
    return mlp(weights, "branch.density_net", encoded)


def boxed(config, u):
    box = torch.tensor(config.get("box") or (-1.0, -1, -1, 1, 1, 1))
    return 2 * (u - box[:3]) / (box[3:] - box[:3]) - 1


def tensorf(config, weights, u):
    u = boxed(config, u)
    parts = [
        kernels.plane_line(
            u,
            [weights[f"branch.{kind}_planes.{k}"] for k in range(3)],
            [weights[f"branch.{kind}_lines.{k}"] for k in range(3)],
        ).flatten(1)
        for kind in ("density", "color")
    ]
    raw = config["floor"] + parts[0].sum(1, keepdim=True)
    return torch.cat([raw, parts[1] @ weights["branch.basis"].T], 1)


def cp(config, weights, u):
    u = boxed(config, u)
    parts = [
        kernels.line_product(u, [weights[f"branch.{kind}_lines.{k}"] for k in range(3)])
        for kind in ("density", "color")
    ]
    raw = config["floor"] + parts[0].sum(1, keepdim=True)
    return torch.cat([raw, parts[1] @ weights["branch.basis"].T], 1)


def pe_mlp(config, weights, u):
    encoded = torch.cat([u, *waves(u, config["frequencies"])], 1)
    x = encoded
    for i in range(config["depth"]):
        x = x @ weights[f"branch.trunk.{i}.weight"].T + weights[f"branch.trunk.{i}.bias"]
        x = torch.relu(x) if i < config["depth"] - 1 else x
        x = torch.cat([x, encoded], 1) if i == config["skip"] else x
    return mlp(weights, "branch.density_net", x)


LATENTS = {"ngp": ngp, "tensorf": tensorf, "tensorf-cp": cp, "mlp": pe_mlp}
