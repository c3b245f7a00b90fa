"""Fit our architectures and nerfstudio's, for the same steps on the same rays.

    pip install --no-deps nerfstudio==1.1.5 viser msgspec websockets zstandard \\
                          jaxtyping wadler-lindig
    python benchmarks/scenes.py --scene dragon
    python benchmarks/peers.py [--only ngp|tensorf|tensorf-cp|mlp] [--steps 400]

The peer is an independent implementation of each architecture: encodings, networks and their
gradients are nerfstudio's torch modules, and Adam moves every parameter. Marching, loss and images
are the ones of ``geodistill fit``, so that what differs is the architecture, its gradients and its
optimiser. Grids have their final resolution from the first step, as nerfstudio's cannot grow here.
Prints the PSNR to the test views and the seconds of both; the steps are counted, so that whatever
else runs changes nothing but the seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assets import cache_root
from geodistill.checks import GeodistillError
from geodistill.fit import field as fitting
from geodistill.geometry.fields import Field, ParamGroup, build_field
from geodistill.geometry.fields.heads import HEAD_LR, LATENT, Branch, LatentField
from geodistill.geometry.fields.mlp import TRUNK_OUT, MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.tensorf import (
    BASIS_LR,
    CP_LR,
    FACTOR_LR,
    TensorfConfig,
    TensorfCpConfig,
)
from geodistill.io.posed import load_posed_images
from geodistill.metrics.fidelity import psnr_to_images
from geodistill.train import Budget, train

try:
    from nerfstudio.field_components import encodings
    from nerfstudio.field_components.mlp import MLP
except ImportError as error:
    sys.exit(f"error: {error}: install nerfstudio as the head of {__file__} says")

TABLE_LR, TRUNK_LR = 1e-2, 1e-3


class PeerField(LatentField):
    """A branch and a colour head of nerfstudio's modules."""

    def __init__(self, architecture: str, config: object, branch: Branch) -> None:
        super().__init__(architecture, config, branch)
        self.directions = encodings.SHEncoding(levels=4, implementation="torch")
        self.color_head = dense(16 + LATENT - 1, 3, layers=3)

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        known = torch.cat([self.directions(directions), latent[:, 1:]], dim=1)
        return torch.sigmoid(self.color_head(known))


class HashBranch(Branch):
    """HashEncoding and a network."""

    def __init__(self, config: NgpConfig) -> None:
        super().__init__()
        self.encoding = encodings.HashEncoding(
            config.levels,
            config.base_resolution,
            config.max_resolution,
            config.log2_size,
            config.features,
            hash_init_scale=1e-4,
            implementation="torch",
        )
        self.net = dense(config.levels * config.features, LATENT, layers=2)

    def forward(self, u: Tensor) -> Tensor:
        return self.net(self.encoding((u + 1.0) * 0.5))

    def param_groups(self) -> list[ParamGroup]:
        return [
            ParamGroup([self.encoding.hash_table], TABLE_LR),
            ParamGroup(list(self.net.parameters()), HEAD_LR),
        ]


class FactoredBranch(Branch):
    """A tensor encoding for density and one for appearance."""

    def __init__(self, density: Any, color: Any, floor: float, lr: float) -> None:
        super().__init__()
        self.density, self.color, self.floor, self.lr = density, color, floor, lr
        self.basis = nn.Linear(color.get_out_dim(), LATENT - 1, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        raw = self.floor + self.density(u).sum(dim=-1, keepdim=True)
        return torch.cat([raw, self.basis(self.color(u))], dim=1)

    def param_groups(self) -> list[ParamGroup]:
        factors = [*self.density.parameters(), *self.color.parameters()]
        return [ParamGroup(factors, self.lr), ParamGroup([self.basis.weight], BASIS_LR)]


class MlpBranch(Branch):
    """NeRFEncoding and an MLP with a skip connection."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        octaves = config.octaves
        self.encoding = encodings.NeRFEncoding(3, octaves, 0, octaves - 1, include_input=True)
        width = self.encoding.get_out_dim()
        self.trunk = MLP(width, config.depth, config.width, TRUNK_OUT, (config.depth // 2,))
        self.net = dense(TRUNK_OUT, LATENT, layers=2)

    def forward(self, u: Tensor) -> Tensor:
        if len(u) == 0:  # the encoding cannot reshape nothing
            return u.new_zeros(0, LATENT)
        return self.net(self.trunk(self.encoding(u / (2.0 * torch.pi))))

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup([*self.trunk.parameters(), *self.net.parameters()], TRUNK_LR)]


def dense(width_in: int, width_out: int, layers: int) -> Any:
    return MLP(width_in, layers, 64, width_out, implementation="torch")


def vm_branch(config: TensorfConfig) -> Branch:
    density, color = (
        encodings.TensorVMEncoding(config.resolution, rank)
        for rank in (config.density_rank, config.color_rank)
    )
    return FactoredBranch(density, color, config.floor, FACTOR_LR)


def cp_branch(config: TensorfCpConfig) -> Branch:
    density, color = (
        encodings.TensorCPEncoding(config.resolution, rank, init_scale=0.2)
        for rank in (config.density_rank, config.color_rank)
    )
    return FactoredBranch(density, color, config.floor, CP_LR)


PEERS: dict[str, tuple[object, Callable[..., Branch]]] = {
    "ngp": (NgpConfig(convention="nerfstudio"), HashBranch),
    "tensorf": (TensorfConfig(), vm_branch),
    "tensorf-cp": (TensorfCpConfig(), cp_branch),
    "mlp": (MlpConfig(), MlpBranch),
}


class FullSizeFit(fitting.FitJob):
    """A fit whose grids do not grow."""

    def _enter_stage(self, stage: int) -> None:
        super()._enter_stage(len(fitting.STAGES) - 1)

    def before(self, step: int, progress: float) -> None:
        super().before(step, 1.0)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PEERS, help="one architecture instead of all")
    parser.add_argument("--scene", default="dragon")
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args(argv)
    try:
        print("| architecture | steps | ours, dB | nerfstudio, dB | ours, s | nerfstudio, s |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name in [arguments.only] if arguments.only else PEERS:
            (ours, our_seconds), (theirs, their_seconds) = (
                fitted(field, arguments.scene, arguments.steps) for field in pair(name)
            )
            cells = [f"{ours:.2f}", f"{theirs:.2f}", f"{our_seconds:.0f}", f"{their_seconds:.0f}"]
            print(f"| {name} | {arguments.steps} | {' | '.join(cells)} |", flush=True)
    except GeodistillError as error:
        sys.exit(f"error: {error}")


def pair(name: str) -> tuple[Field, Field]:
    """Our field and the peer's, both fresh."""
    config, make = PEERS[name]
    ours = build_field(name, config, seed=0)
    torch.manual_seed(0)
    return ours, PeerField(name, config, make(config))


def fitted(field: Field, scene: str, steps: int) -> tuple[float, float]:
    """PSNR (dB) to the test views after a fit, and its seconds."""
    folder = cache_root() / "scenes" / scene
    job = FullSizeFit(field, load_posed_images(folder, "train"), fitting.FitSettings())
    start = time.perf_counter()
    train(job, Budget(steps=steps), None, type(field).__name__)
    seconds = time.perf_counter() - start
    return psnr_to_images(field, load_posed_images(folder, "test")), seconds


if __name__ == "__main__":
    main()
