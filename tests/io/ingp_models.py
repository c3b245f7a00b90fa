"""Random instant-ngp snapshots in the format's own layout, and a slow reading of what they mean.

Written from the definition of the format, point by point; nothing here is shared with geodistill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

PRIMES = (1, 2654435761, 805459861)


@dataclass
class Snapshot:
    levels: int = 8
    features: int = 4
    log2_size: int = 10
    base: int = 8
    growth: float | None = None  # None: left to instant-ngp's rule
    aabb_scale: int = 1
    width: int = 16
    density_layers: int = 1
    color_layers: int = 2
    degree: int = 4
    extras: int = 0
    outputs: int = 16
    alignment: int = 16
    half: bool = True
    seed: int = 0
    scale: float = 0.33
    offset: tuple[float, float, float] = (0.5, 0.4, 0.7)
    mitsuba: bool = False
    latents: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.g = np.float32(
            self.growth
            or math.exp(math.log(2048 * self.aabb_scale / self.base) / (self.levels - 1))
        )
        pad = lambda n: -(-n // self.alignment) * self.alignment  # noqa: E731
        self.scales = [
            np.float32(np.exp2(np.float32(i) * np.log2(self.g))) * np.float32(self.base)
            - np.float32(1)
            for i in range(self.levels)
        ]
        self.nodes = [math.ceil(s) + 1 for s in self.scales]
        self.sizes = [min(-(-(n**3) // 8) * 8, 2**self.log2_size) for n in self.nodes]
        latent, seen = pad(self.outputs), pad(self.degree**2 + self.extras)
        widths = [pad(self.levels * self.features), *[self.width] * self.density_layers, latent]
        self.density = [rng.normal(size=(b, a)) / 3 for a, b in pairwise(widths)]
        widths = [pad(latent + seen), *[self.width] * self.color_layers, pad(3)]
        self.color = [rng.normal(size=(b, a)) / 3 for a, b in pairwise(widths)]
        self.tables = [rng.normal(size=(n, self.features)) for n in self.sizes]
        kind = np.float16 if self.half else np.float32
        for group in (self.density, self.color, self.tables):
            group[:] = [a.astype(kind) for a in group]
        cascades = self.aabb_scale.bit_length()
        self.grid = rng.random((cascades, 128**3), np.float32).astype(np.float16) * np.float16(0.04)

    def content(self) -> dict[str, Any]:
        flat = [a.reshape(-1) for a in (*self.density, *self.color, *self.tables)]
        parameters = np.concatenate(flat)
        encoding = {
            "otype": "HashGrid",
            "n_levels": self.levels,
            "n_features_per_level": self.features,
            "log2_hashmap_size": self.log2_size,
            "base_resolution": self.base,
        }
        if self.growth is not None:
            encoding["per_level_scale"] = float(self.g)
        net = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None"}
        if self.alignment == 8:
            net["otype"] = "CutlassMLP"
        more = {} if self.outputs == 16 else {"n_output_dims": self.outputs}
        sh = {"otype": "SphericalHarmonics", "degree": self.degree, "n_dims_to_encode": 3}
        return {
            "encoding": encoding,
            "network": {
                **net,
                "n_neurons": self.width,
                "n_hidden_layers": self.density_layers,
                **more,
            },
            "rgb_network": {
                **net,
                "n_neurons": self.width,
                "n_hidden_layers": self.color_layers,
            },
            "dir_encoding": {"otype": "Composite", "nested": [sh, {"otype": "Identity"}]},
            "snapshot": {
                "version": 1,
                "mode": "nerf",
                "n_params": int(parameters.size),
                "params_type": "__half" if self.half else "float",
                "params_binary": parameters.tobytes(),
                "density_grid_size": 128,
                "density_grid_binary": self.grid.tobytes(),
                "up_dir": [0.0, 1.0, 0.0],
                "nerf": {
                    "aabb_scale": self.aabb_scale,
                    "extra_dims_opt": [{"variable": v, "iter": 3} for v in self.latents],
                    "dataset": {
                        "aabb_scale": self.aabb_scale,
                        "scale": self.scale,
                        "offset": list(self.offset),
                        "from_mitsuba": self.mitsuba,
                        "is_hdr": False,
                        "n_images": 0,
                        "n_extra_learnable_dims": self.extras,
                        "up": [0.0, 1.0, 0.0],
                    },
                },
            },
        }

    def in_file(self, world: np.ndarray) -> np.ndarray:
        moved = world * self.scale + np.array(self.offset)
        return moved if self.mitsuba else moved[:, [1, 2, 0]]

    def values(self, world: np.ndarray, directions: np.ndarray):
        """Density per world unit [N] and colour [N, 3]"""
        places = self.in_file(world)
        turned = directions if self.mitsuba else directions[:, [1, 2, 0]]
        found = [self.value(p, d) for p, d in zip(places, turned, strict=True)]
        sigma, rgb = (np.array(part) for part in zip(*found, strict=True))
        return sigma * self.scale, rgb

    def value(self, place: np.ndarray, direction: np.ndarray):
        """At one place of the file's own space"""
        x = (place - (0.5 - self.aabb_scale / 2)) / self.aabb_scale
        h = self.encoded(x)
        h = np.pad(h, (0, self.density[0].shape[1] - len(h)))
        latent = forward(self.density, h)
        basis = harmonics(direction)[: self.degree**2]
        extra = np.mean(self.latents, axis=0) if self.latents else np.zeros(self.extras)
        seen = np.concatenate([latent, basis, extra])
        ones = -(-(self.degree**2 + self.extras) // self.alignment) * self.alignment
        seen = np.pad(seen, (0, len(latent) + ones - len(seen)), constant_values=1.0)
        out = forward(self.color, np.pad(seen, (0, self.color[0].shape[1] - len(seen))))
        return math.exp(latent[0]), 1 / (1 + np.exp(-out[:3]))

    def encoded(self, x: np.ndarray) -> np.ndarray:
        out = []
        for level, table in enumerate(self.tables):
            position = x * float(self.scales[level]) + 0.5
            cell = np.floor(position).astype(int)
            f = position - cell
            total = np.zeros(self.features)
            for corner in np.ndindex(2, 2, 2):
                weight = math.prod(f[a] if corner[a] else 1 - f[a] for a in range(3))
                node = [int(cell[a] + corner[a]) for a in range(3)]
                total += weight * table[self.entry(level, node)].astype(float)
            out.append(total)
        return np.concatenate(out)

    def entry(self, level: int, node: list[int]) -> int:
        n, size = self.nodes[level], self.sizes[level]
        if n**3 <= size:
            return (node[0] + n * (node[1] + n * node[2])) % size
        hashed = 0
        for a in range(3):
            hashed ^= node[a] * PRIMES[a] & 0xFFFFFFFF
        return hashed % size

    def occupied(self, place: np.ndarray) -> bool:
        """At one place of the file's own space, for densities of the grid above its threshold"""
        finest = self.grid[0].astype(float)
        threshold = min(0.01, float(np.maximum(finest, 0).mean()))
        away = float(np.abs(place - 0.5).max())
        cascade = 0
        while away >= 0.5 * 2**cascade:
            cascade += 1
        cell = np.floor(((place - 0.5) / 2**cascade + 0.5) * 128).astype(int)
        number = 0
        for bit in range(7):
            for axis in range(3):
                number |= (int(cell[axis]) >> bit & 1) << (3 * bit + axis)
        return float(self.grid[cascade][number]) > threshold


def forward(matrices, h):
    for i, matrix in enumerate(matrices):
        h = matrix.astype(float) @ (h if i == 0 else np.maximum(h, 0))
    return h


def harmonics(direction: np.ndarray) -> np.ndarray:
    """The first 16, as tiny-cuda-nn writes them out"""
    x, y, z = direction
    return np.array(
        [
            0.28209479177387814,
            -0.48860251190291987 * y,
            0.48860251190291987 * z,
            -0.48860251190291987 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.94617469575756 * z * z - 0.31539156525252,
            -1.0925484305920792 * x * z,
            0.54627421529603959 * (x * x - y * y),
            0.59004358992664352 * y * (-3 * x * x + y * y),
            2.8906114426405538 * x * y * z,
            0.45704579946446572 * y * (1 - 5 * z * z),
            0.3731763325901154 * z * (5 * z * z - 3),
            0.45704579946446572 * x * (1 - 5 * z * z),
            1.4453057213202769 * z * (x * x - y * y),
            0.59004358992664352 * x * (-x * x + 3 * y * y),
        ]
    )
