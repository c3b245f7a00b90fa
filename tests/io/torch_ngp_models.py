"""Random models of torch-ngp and PVD in their own naming, and a plain reading of what they compute.

Written from the programs' definitions, with torch's grid_sample where they use it; nothing here is
shared with geodistill. Places and directions are those of the program's own cube.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from ingp_models import PRIMES, harmonics
from torch.nn import functional as F

PLANES, LINES = ((0, 1), (0, 2), (1, 2)), (2, 1, 0)


@dataclass
class Model:
    """state: the model's state_dict; bound: the half side of its cube."""

    bound: float = 1.0
    seed: int = 0
    state: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = torch.Generator().manual_seed(self.seed)
        box = torch.tensor([-self.bound] * 3 + [self.bound] * 3)
        self.cascades = 1 + math.ceil(math.log2(self.bound))
        self.bits = torch.rand(self.cascades, 128**3, generator=self.draw) < 0.3
        grid = torch.where(self.bits, 30.0, torch.rand(self.bits.shape, generator=self.draw) - 1.0)
        packed = np.packbits(self.bits.numpy().reshape(-1), bitorder="little")
        self.state = {
            "aabb_train": box,
            "aabb_infer": box.clone(),
            "density_grid": grid,
            "density_bitfield": torch.from_numpy(packed),
            "step_counter": torch.zeros(16, 2, dtype=torch.int32),
        }
        self.fill()

    def fill(self) -> None:
        raise NotImplementedError

    def normal(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=self.draw)

    def network(self, name: str, widths: list[int]) -> None:
        for i, (a, b) in enumerate(pairwise(widths)):
            self.state[f"{name}.{i}.weight"] = self.normal(b, a, scale=1.5 / a**0.5)

    def run(self, name: str, h: torch.Tensor) -> torch.Tensor:
        i = 0
        while f"{name}.{i}.weight" in self.state:
            h = (h.relu() if i else h) @ self.state[f"{name}.{i}.weight"].double().T
            i += 1
        return h

    def checkpoint(self) -> dict:
        stats = {"loss": [0.1], "valid_loss": [], "results": [], "checkpoints": ["a.pth"]}
        return {
            "epoch": 3,
            "global_step": 300,
            "stats": {**stats, "best_result": None},
            "mean_count": 12,
            "mean_density": 0.5,
            "model": self.state,
        }

    def save(self, path) -> None:
        torch.save(self.checkpoint(), path)

    def values(self, x: np.ndarray, d: np.ndarray):
        """Density [N] and colour [N, 3]"""
        with torch.no_grad():
            sigma, rgb = self.forward(torch.from_numpy(x), torch.from_numpy(d))
        return sigma.numpy(), rgb.numpy()

    def occupied(self, place: np.ndarray) -> bool:
        away = float(np.abs(place).max())
        cascade = 0
        while away >= 2**cascade and cascade < self.cascades - 1:
            cascade += 1
        half = min(2.0**cascade, self.bound)
        cell = np.floor((place / half + 1) * 64).astype(int)
        bits = [f"{int(c):07b}"[::-1] for c in cell]
        number = sum(int(bits[a][b]) << (3 * b + a) for b in range(7) for a in range(3))
        return bool(self.bits[cascade, number])


def sh16(d: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.stack([harmonics(v) for v in d.numpy()]))


def waves(x: torch.Tensor, octaves: int) -> torch.Tensor:
    parts = [x]
    for k in range(octaves):
        parts += [torch.sin(2.0**k * x), torch.cos(2.0**k * x)]
    return torch.cat(parts, -1)


@dataclass
class Hash(Model):
    """torch-ngp's default has 16 levels, PVD's 14; `rounded`: sizes are multiples of 8."""

    levels: int = 16
    log2_size: int = 15
    base: int = 16
    finest: float = 2048.0
    features: int = 2
    rounded: bool = True
    clip: tuple[float, float] | None = None

    def fill(self) -> None:
        self.growth = 2 ** (math.log2(self.finest * self.bound / self.base) / (self.levels - 1))
        self.resolutions = [math.ceil(self.base * self.growth**i) for i in range(self.levels)]
        sizes = []
        for resolution in self.resolutions:
            nodes = min((resolution + 1) ** 3, 2**self.log2_size)
            sizes.append(math.ceil(nodes / 8) * 8 if self.rounded else nodes)
        self.offsets = [0, *np.cumsum(sizes).tolist()]
        self.state["encoder.embeddings"] = self.normal(self.offsets[-1], self.features)
        self.state["encoder.offsets"] = torch.tensor(self.offsets, dtype=torch.int32)
        self.network("sigma_net", [self.levels * self.features, 64, 16])
        self.network("color_net", [31, 64, 64, 3])

    def encoded(self, x: np.ndarray) -> np.ndarray:
        table = self.state["encoder.embeddings"].double().numpy()
        part = (x + self.bound) / (2 * self.bound)
        out = []
        for level in range(self.levels):
            scale = float(
                np.float32(np.exp2(np.float32(level) * np.float32(math.log2(self.growth))))
                * np.float32(self.base)
                - np.float32(1)
            )
            stride = self.resolutions[level] + 1
            start, end = self.offsets[level : level + 2]
            position = part * scale + 0.5
            cell = np.floor(position).astype(int)
            f = position - cell
            total = np.zeros(self.features)
            for corner in np.ndindex(2, 2, 2):
                weight = math.prod(f[a] if corner[a] else 1 - f[a] for a in range(3))
                node = [int(cell[a] + corner[a]) for a in range(3)]
                if stride**3 <= 2**self.log2_size:
                    index = node[0] + stride * (node[1] + stride * node[2])
                else:
                    index = 0
                    for a in range(3):
                        index ^= node[a] * PRIMES[a] & 0xFFFFFFFF
                total += weight * table[start + index % (end - start)]
            out.append(total)
        return np.concatenate(out)

    def forward(self, x, d):
        encoded = torch.from_numpy(np.stack([self.encoded(p) for p in x.numpy()]))
        latent = self.run("sigma_net", encoded)
        raw = latent[:, 0] if self.clip is None else latent[:, 0].clamp(*self.clip)
        rgb = torch.sigmoid(self.run("color_net", torch.cat([sh16(d), latent[:, 1:]], 1)))
        return raw.exp(), rgb


@dataclass
class Vm(Model):
    """torch-ngp's TensoRF; with `pvd`, PVD's."""

    nodes: tuple[int, int, int] = (9, 11, 13)
    sigma_rank: tuple[int, int, int] = (3, 3, 3)
    color_rank: tuple[int, int, int] = (4, 4, 4)
    box: tuple[float, ...] | None = None
    pvd: bool = False
    clip: tuple[float, float] = (-2.0, 7.0)

    def fill(self) -> None:
        if self.box is not None:
            self.state["aabb_train"] = torch.tensor(self.box)
        for kind, ranks in (("sigma", self.sigma_rank), ("color", self.color_rank)):
            for k, (a, b) in enumerate(PLANES):
                self.state[f"{kind}_mat.{k}"] = self.normal(
                    1, ranks[k], self.nodes[b], self.nodes[a]
                )
            for k, a in enumerate(LINES):
                self.state[f"{kind}_vec.{k}"] = self.normal(1, ranks[k], self.nodes[a], 1)
        features = 15 if self.pvd else 27
        self.state["basis_mat.weight"] = self.normal(features, sum(self.color_rank))
        widths = [31, 64, 64, 3] if self.pvd else [150, 128, 128, 3]
        self.network("color_net", widths)

    def components(self, kind: str, x: torch.Tensor) -> torch.Tensor:
        parts = []
        for k in range(3):
            plane, line = (self.state[f"{kind}_{p}.{k}"].double() for p in ("mat", "vec"))
            on_plane = x[None, :, None, list(PLANES[k])]
            along = x[:, LINES[k]]
            on_line = torch.stack([torch.zeros_like(along), along], -1)[None, :, None]
            sampled = [
                F.grid_sample(factor, place, align_corners=True)[0, :, :, 0]
                for factor, place in ((plane, on_plane), (line, on_line))
            ]
            parts.append(sampled[0] * sampled[1])
        return torch.cat(parts).T

    def forward(self, x, d):
        box = self.state["aabb_train"].double()
        x = 2 * (x - box[:3]) / (box[3:] - box[:3]) - 1
        raw = self.components("sigma", x).sum(1)
        features = self.components("color", x) @ self.state["basis_mat.weight"].double().T
        if self.pvd:
            raw, features = raw.clamp(*self.clip), features.clamp(*self.clip)
            seen = torch.cat([sh16(d), features], 1)
        else:
            seen = torch.cat([waves(features, 2), waves(d, 2)], 1)
        return raw.exp(), torch.sigmoid(self.run("color_net", seen))


@dataclass
class Cp(Model):
    nodes: tuple[int, int, int] = (9, 11, 13)
    sigma_rank: int = 5
    color_rank: int = 7

    def fill(self) -> None:
        for kind, rank in (("sigma", self.sigma_rank), ("color", self.color_rank)):
            for k, a in enumerate(LINES):
                self.state[f"{kind}_vec.{k}"] = self.normal(1, rank, self.nodes[a], 1)
        self.state["basis_mat.weight"] = self.normal(27, self.color_rank)
        self.network("color_net", [150, 128, 128, 3])

    def components(self, kind: str, x: torch.Tensor) -> torch.Tensor:
        product = torch.ones(())
        for k in range(3):
            along = x[:, LINES[k]]
            place = torch.stack([torch.zeros_like(along), along], -1)[None, :, None]
            line = self.state[f"{kind}_vec.{k}"].double()
            product = product * F.grid_sample(line, place, align_corners=True)[0, :, :, 0]
        return product.T

    def forward(self, x, d):
        x = x / self.bound
        features = self.components("color", x) @ self.state["basis_mat.weight"].double().T
        seen = torch.cat([waves(features, 2), waves(d, 2)], 1)
        raw = self.components("sigma", x).sum(1)
        return raw.exp(), torch.sigmoid(self.run("color_net", seen))


@dataclass
class Network(Model):
    """PVD's mlp."""

    depth: int = 5
    width: int = 24
    octaves: int = 4
    skip: int | None = 2
    clip: tuple[float, float] = (-2.0, 7.0)

    def fill(self) -> None:
        encoded = 3 + 6 * self.octaves
        for i in range(self.depth):
            inputs = encoded if i == 0 else self.width + encoded * (i - 1 == self.skip)
            outputs = 28 if i == self.depth - 1 else self.width
            self.state[f"nerf_mlp.{i}.weight"] = self.normal(outputs, inputs, scale=inputs**-0.5)
            self.state[f"nerf_mlp.{i}.bias"] = self.normal(outputs, scale=0.3)
        self.network("sigma_net", [28, 64, 16])
        self.network("color_net", [31, 64, 64, 3])

    def forward(self, x, d):
        encoded = h = waves(x, self.octaves)
        for i in range(self.depth):
            weight, bias = (self.state[f"nerf_mlp.{i}.{p}"].double() for p in ("weight", "bias"))
            h = h @ weight.T + bias
            h = h if i == self.depth - 1 else h.relu()
            h = torch.cat([encoded, h], 1) if i == self.skip else h
        latent = self.run("sigma_net", h)
        rgb = torch.sigmoid(self.run("color_net", torch.cat([sh16(d), latent[:, 1:]], 1)))
        return latent[:, 0].clamp(*self.clip).exp(), rgb


@dataclass
class Voxels(Model):
    """PVD's dense "tensors"."""

    shape: tuple[int, int, int] = (8, 8, 8)
    degree: int = 3
    clip: tuple[float, float] = (-2.0, 7.0)

    def fill(self) -> None:
        self.state["tensor_volume.0"] = self.normal(1, 1 + 3 * self.degree**2, *self.shape) * 2

    def forward(self, x, d):
        volume = self.state["tensor_volume.0"].double()
        place = (x / self.bound).view(1, 1, -1, 1, 3)
        found = F.grid_sample(volume, place, align_corners=True).view(volume.shape[1], -1).T
        k = found[:, 1:].view(-1, 3, self.degree**2)
        rgb = torch.sigmoid((k * sh16(d)[:, None, : self.degree**2]).sum(-1))
        return found[:, 0].clamp(*self.clip).exp(), rgb
