"""nerfstudio's fields by their definition: slow, plain, in float64.

Every function takes positions and unit directions in nerfstudio's own world and the checkpoint's
tensors by its own names, and returns densities [N] and colours [N, 3].
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import sph_harm_y

PRIMES = (1, 2654435761, 805459861)


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def array(state, name):
    return state[name].double().numpy()


def mlp(state, prefix, x):
    """Linear layers with relu between them."""
    count = sum(name.startswith(f"{prefix}layers.") for name in state) // 2
    for i in range(count):
        x = x @ array(state, f"{prefix}layers.{i}.weight").T + array(
            state, f"{prefix}layers.{i}.bias"
        )
        x = x if i == count - 1 else relu(x)
    return x


def linear(state, prefix, x):
    return x @ array(state, f"{prefix}weight").T + array(state, f"{prefix}bias")


def flat_mlp(flat, widths, x):
    """tiny-cuda-nn: matrices [out, in] row after row, no biases."""
    at = 0
    for i in range(len(widths) - 1):
        size = widths[i] * widths[i + 1]
        x = x @ flat[at : at + size].reshape(widths[i + 1], widths[i]).T
        x = x if i == len(widths) - 2 else relu(x)
        at += size
    return x


def contracted(x):
    """mip-NeRF 360's contraction in the largest coordinate, moved to [0, 1]."""
    size = np.abs(x).max(axis=1, keepdims=True)
    far = (2 - 1 / np.maximum(size, 1e-9)) * x / np.maximum(size, 1e-9)
    return (np.where(size < 1, x, far) + 2) / 4


def growth(levels, base, finest):
    return math.exp((math.log(finest) - math.log(base)) / (levels - 1)) if levels > 1 else 1.0


def hash_features_torch(p, table, levels, base, finest, log2_size):
    """Every level is hashed; 2^log2_size rows a level; no shift."""
    import torch

    scales = torch.floor(base * growth(levels, base, finest) ** torch.arange(levels)).tolist()
    found = []
    for level, scale in enumerate(scales):
        at = p * scale
        below, above = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
        share = at - below
        value = 0
        for corner in np.ndindex(2, 2, 2):
            node = np.where(corner, above, below)
            weight = np.prod(np.where(corner, share, 1 - share), axis=1)
            key = np.bitwise_xor.reduce(node * np.array(PRIMES), axis=1) % 2**log2_size
            value = value + weight[:, None] * table[level * 2**log2_size + key]
        found.append(value)
    return np.concatenate(found, axis=1)


def hash_features_flat(p, table, levels, base, finest, log2_size):
    """tiny-cuda-nn: coarse levels are dense, positions are shifted by half a cell."""
    found, at = [], 0
    for level in range(levels):
        scale = np.float64(np.float32(base * growth(levels, base, finest) ** level - 1))
        nodes = math.ceil(scale) + 1
        size = min(-(-(nodes**3) // 8) * 8, 2**log2_size)
        place = p * scale + 0.5
        below = np.floor(place).astype(np.int64)
        share = place - below
        value = 0
        for corner in np.ndindex(2, 2, 2):
            node = below + np.array(corner)
            weight = np.prod(np.where(corner, share, 1 - share), axis=1)
            if nodes**3 <= size:
                key = node @ np.array([1, nodes, nodes**2])
            else:
                key = np.bitwise_xor.reduce((node * np.array(PRIMES)) & 0xFFFFFFFF, axis=1)
            value = value + weight[:, None] * table[at + key % size]
        found.append(value)
        at += size
    return np.concatenate(found, axis=1), at


def harmonics(d):
    """Real spherical harmonics of degree 3 with the Condon-Shortley phase, from SciPy's."""
    polar, azimuth = np.arccos(np.clip(d[:, 2], -1, 1)), np.arctan2(d[:, 1], d[:, 0])
    found = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar, azimuth)
            part = value.imag if order < 0 else value.real
            found.append(part * (math.sqrt(2) if order else 1))
    return np.stack(found, axis=1)


def harmonics_torch(d):
    """nerfstudio's own polynomials, which it evaluates at (d + 1) / 2."""
    x, y, z = ((d + 1) / 2).T
    xx, yy, zz = x**2, y**2, z**2
    columns = [0.28209479177387814 + 0 * x]
    columns += [0.4886025119029199 * v for v in (y, z, x)]
    columns += [
        1.0925484305920792 * x * y,
        1.0925484305920792 * y * z,
        0.9461746957575601 * zz - 0.31539156525251999,
        1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
        0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        0.4570457994644658 * y * (5 * zz - 1),
        0.3731763325901154 * z * (5 * zz - 3),
        0.4570457994644658 * x * (5 * zz - 1),
        1.445305721320277 * z * (xx - yy),
        0.5900435899266435 * x * (xx - 3 * yy),
    ]
    return np.stack(columns, axis=1)


def hash_field(state, x, d, settings, flat, appearance):
    """nerfacto and instant-ngp. `settings`: levels, base, finest, log2_size, width, width_color,
    contraction, density; `appearance` is what the colour network is given for it."""
    box = array(state, "field.aabb")
    p = contracted(x) if settings["contraction"] else (x - box[0]) / (box[1] - box[0])
    inside = ((p > 0) & (p < 1)).all(axis=1)
    p = p * inside[:, None]
    grid = (settings["levels"], settings["base"], settings["finest"], settings["log2_size"])
    shown = np.tile(appearance, (len(d), 1))
    if flat:
        params = array(state, "field.mlp_base.model.params")
        inputs = 2 * settings["levels"]
        padded = -(-inputs // 16) * 16
        widths = (padded, settings["width"], 16)
        start = padded * settings["width"] + 16 * settings["width"]
        table = params[start:].reshape(-1, 2)
        features, rows = hash_features_flat(p, table, *grid)
        assert rows == len(table)
        features = np.concatenate([features, np.zeros((len(p), padded - inputs))], axis=1)
        h = flat_mlp(params[:start], widths, features)
        seen = np.concatenate([harmonics(d), h[:, 1:], shown], axis=1)
        padded = -(-seen.shape[1] // 16) * 16
        seen = np.concatenate([seen, np.ones((len(p), padded - seen.shape[1]))], axis=1)
        widths = (padded, settings["width_color"], settings["width_color"], 16)
        color = flat_mlp(array(state, "field.mlp_head.tcnn_encoding.params"), widths, seen)[:, :3]
    else:
        table = array(state, "field.mlp_base.model.0.hash_table")
        h = mlp(state, "field.mlp_base.model.1.", hash_features_torch(p, table, *grid))
        seen = np.concatenate([harmonics_torch(d), h[:, 1:], shown], axis=1)
        color = mlp(state, "field.mlp_head.", seen)
    return settings["density"] * np.exp(h[:, 0]) * inside, sigmoid(color)


def sines(x, count, highest):
    """nerfstudio's NeRFEncoding: all sines, then all cosines, frequencies of an input together."""
    waves = 2 * math.pi * 2.0 ** np.linspace(0, highest, count)
    scaled = (x[:, :, None] * waves).reshape(len(x), -1)
    return np.concatenate([np.sin(scaled), np.cos(scaled)], axis=1)


def sampled(values, *places):
    """Linear interpolation of values [C, R, ..] between nodes from -1 to 1. [N, C]"""
    at = [
        (place + 1) / 2 * (size - 1) for place, size in zip(places, values.shape[1:], strict=True)
    ]
    below = [
        np.clip(np.floor(a).astype(int), 0, s - 2)
        for a, s in zip(at, values.shape[1:], strict=True)
    ]
    found = 0
    for corner in np.ndindex(*[2] * len(places)):
        weight, index = 1, []
        for a, b, c in zip(at, below, corner, strict=True):
            weight = weight * ((a - b) if c else 1 - (a - b))
            index.append(b + c)
        found = found + weight * values[(slice(None), *index)]
    return found.T


def tensor_components(state, prefix, u):
    """[N, components], by what the checkpoint has: planes, lines or both."""
    planes, lines = f"{prefix}plane_coef", f"{prefix}line_coef"
    axes, rest = ((0, 1), (0, 2), (1, 2)), (2, 1, 0)
    parts = []
    for k in range(3):
        part = 1
        if planes in state:
            a, b = axes[k]
            part = part * sampled(array(state, planes)[k], u[:, b], u[:, a])
        if lines in state:
            part = part * sampled(array(state, lines)[k, :, :, 0], u[:, rest[k]])
        parts.append(part)
    if planes in state and lines in state:
        return np.concatenate(parts, axis=1)
    return parts[0] + parts[1] + parts[2] if planes in state else parts[0] * parts[1] * parts[2]


def tensor_field(state, x, d):
    box = array(state, "field.aabb")
    u = 2 * (x - box[0]) / (box[1] - box[0]) - 1
    sigma = relu(tensor_components(state, "field.density_encoding.", u).sum(axis=1))
    f = tensor_components(state, "field.color_encoding.", u) @ array(state, "field.B.weight").T
    seen = np.concatenate([f, d, sines(f, 2, 2), sines(d, 2, 2)], axis=1)
    hidden = relu(mlp(state, "field.mlp_head.", seen))
    return sigma, sigmoid(linear(state, "field.field_output_rgb.net.", hidden))


def mlp_field(state, x, d):
    prefix = "field_fine.mlp_base.layers."
    place = np.concatenate([sines(x, 10, 8), x], axis=1)
    h = place
    for i in range(8):
        h = np.concatenate([place, h], axis=1) if i == 4 else h
        h = relu(linear(state, f"{prefix}{i}.", h))
    raw = linear(state, "field_fine.field_output_density.net.", h)[:, 0]
    seen = np.concatenate([sines(d, 4, 4), d, h], axis=1)
    hidden = relu(mlp(state, "field_fine.mlp_head.", seen))
    return np.logaddexp(0, raw), sigmoid(linear(state, "field_fine.field_heads.0.net.", hidden))
