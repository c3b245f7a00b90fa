"""Barycentric feature distillation: a field of unit features, trained on the surface points that
pixels show.

Every pixel that shows the surface gives one sample: the point under it, which is the barycentric
combination of the triangle's vertices, and the teacher's feature of the pixel. How densely a
surface is sampled then depends on the pictures alone, not on its triangles, so the field may be
trained on a decimated proxy and queried on the original.
Source: Liu, Lang and Hanocka, "Deep Feature Deformation Weights", 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import kernels
from geodistill.cameras import Similarity
from geodistill.checks import InputError, check, check_finite
from geodistill.geometry.fields import ParamGroup
from geodistill.lift.files import Basis
from geodistill.lift.views import PixelFeatures
from geodistill.nn.coordinate import CoordinateNetwork
from geodistill.runs import Run, load_tensors, save_tensors
from geodistill.train import Budget, train
from geodistill.train.optimiser import Optimiser

KIND = "feature-field"
QUERY_CHUNK = 1 << 15
SETTLE = 0.3
"""Part of the training over which the learning rate falls to nothing, at its end."""


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """What M pixels show.

    Attributes:
        points: float64 [M, 3], in the world.
        features: of the same M pixels.
        trust: [M] >= 0, how far to believe each.
    """

    points: Tensor
    features: PixelFeatures
    trust: Tensor

    def __post_init__(self) -> None:
        check(points=(self.points, "M 3"), index=(self.features.index, "M K"))
        check(trust=(self.trust, "M"), points=(self.points, "M 3"))

    @classmethod
    def concatenate(cls, parts: list[SurfaceSamples]) -> SurfaceSamples:
        """The samples of several views as one; token numbers are shifted to match."""
        starts = torch.tensor([0, *[len(part.features.tokens) for part in parts]]).cumsum(0)
        features = PixelFeatures(
            torch.cat([part.features.tokens for part in parts]),
            torch.cat([p.features.index + int(s) for p, s in zip(parts, starts, strict=False)]),
            torch.cat([part.features.mix for part in parts]),
        )
        points, trust = (torch.cat([getattr(p, n) for p in parts]) for n in ("points", "trust"))
        return cls(points, features, trust)


@dataclass(frozen=True)
class BarycentricSettings:
    """How a feature field is trained."""

    seed: int = 0
    """Of the initial network and the pixels of each step."""
    batch: int = 4096
    """Pixels per step."""
    lr: float = 1e-3


class FeatureField:
    """Unit features anywhere in the space of a shape.

    Attributes:
        network: in the cube [-1, 1]^3.
        frame: the world from that cube.
        basis: of the channels, None where they are the teacher's own.
    """

    def __init__(
        self, network: CoordinateNetwork, frame: Similarity, basis: Basis | None = None
    ) -> None:
        self.network, self.frame, self.basis = network, frame, basis

    @torch.no_grad()
    def __call__(self, points: Tensor) -> Tensor:
        """World points [N, 3] -> features [N, C] of length 1."""
        local = self.frame.inverse().apply(points.double()).float()
        return torch.cat([self.network(part) for part in local.split(QUERY_CHUNK)])


def distil(
    samples: SurfaceSamples,
    budget: Budget,
    settings: BarycentricSettings | None = None,
    basis: Basis | None = None,
    run: Run | None = None,
) -> FeatureField:
    """Train a feature field on what pixels show.

    Minimises the trust-weighted mean of |field(P) - Z / |Z||^2 over pixels with the surface point
    P and the feature Z.

    Args:
        samples: from all views.
        budget: steps or seconds.
        settings: how to train.
        basis: of the samples' channels, to be kept with the field.
        run: a run folder for checkpoints and metrics; an interrupted one is continued.

    Raises:
        InputError: no sample is trusted, points are not finite, or training diverged.
    """
    settings = settings or BarycentricSettings()
    check_finite(points=samples.points)
    if not bool((samples.trust > 0).any()):
        raise InputError("no pixel shows the surface: the cameras look elsewhere")
    job = _Job(samples, settings)
    train(job, budget, run, "feature field")
    return FeatureField(job.network, job.frame, basis)


class _Job:
    """Training of one feature field (a `train.Job`)."""

    def __init__(self, samples: SurfaceSamples, settings: BarycentricSettings) -> None:
        self.settings = settings
        self.frame = cube_of(samples.points[samples.trust > 0])
        self.points = self.frame.inverse().apply(samples.points).float()
        self.features, self.trust = samples.features, samples.trust.float()
        self.ladder = self.trust.double().cumsum(0)
        self.network = CoordinateNetwork(samples.features.tokens.shape[1], seed=settings.seed)
        self.optimiser = self._new_optimiser()

    def _new_optimiser(self) -> Optimiser:
        return Optimiser([ParamGroup(list(self.network.parameters()), self.settings.lr)])

    def lr_scale(self, progress: float) -> float:
        return min(1.0, (1.0 - progress) / SETTLE)

    def before(self, step: int, progress: float) -> None:
        pass

    def finished(self, step: int) -> bool:
        return False

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Pixels are drawn in proportion to their trust, which weights them without more noise."""
        draw = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        level = torch.rand(self.settings.batch, generator=draw, dtype=torch.float64)
        chosen = torch.searchsorted(self.ladder, level * self.ladder[-1], right=True)
        chosen = chosen.clamp(max=len(self.ladder) - 1)
        index, mix = self.features.index[chosen], self.features.mix[chosen]
        target = F.normalize(kernels.gather(self.features.tokens.float(), index, mix), dim=1)
        loss = (self.network(self.points[chosen]) - target).square().sum(dim=1).mean()
        return loss, {"cosine": round(1.0 - 0.5 * float(loss.detach()), 4)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {f"param.{n}": p.detach() for n, p in self.network.named_parameters()}, {}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        _restore(self.network, tensors)
        self.optimiser = self._new_optimiser()


def cube_of(points: Tensor) -> Similarity:
    """The world from the cube [-1, 1]^3 with the middle and longest side of the points [N, 3]."""
    low, high = points.double().amin(dim=0), points.double().amax(dim=0)
    half = 0.5 * float((high - low).max())
    return Similarity(torch.eye(3, dtype=torch.float64), 0.5 * (low + high), half or 1.0)


def save_feature_field(path: Path, field: FeatureField) -> None:
    """Write the field to one file, atomically. Raises InputError when the disk refuses."""
    tensors = {f"param.{n}": p.detach() for n, p in field.network.named_parameters()}
    tensors["world_from_field"] = field.frame.matrix().double()
    if field.basis is not None:
        tensors |= {"basis.mean": field.basis.mean, "basis.axes": field.basis.axes}
    save_tensors(path, {n: t.contiguous() for n, t in tensors.items()}, {"kind": KIND})


def load_feature_field(path: Path | str) -> FeatureField:
    """Read a feature field.

    Raises:
        InputError: no such file, not a feature field, or damaged.
    """
    path = Path(path)
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND:
        raise InputError(f"{path} holds {metadata.get('kind', 'something')!r}, not a feature field")
    try:
        channels, width = tensors["param.last.weight"].shape
        blocks = sum(name.endswith(".0.weight") for name in tensors)
        network = CoordinateNetwork(channels, width, blocks)
        _restore(network, tensors)
        frame = Similarity.from_matrix(tensors["world_from_field"])
        basis = None
        if "basis.axes" in tensors:
            basis = Basis(tensors["basis.mean"], tensors["basis.axes"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} does not hold what a feature field has: {error}") from None
    return FeatureField(network, frame, basis)


def _restore(network: CoordinateNetwork, tensors: dict[str, Tensor]) -> None:
    prefix = "param."
    state = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    check_finite(**{name: tensor for name, tensor in state.items()})
    network.load_state_dict(state)
