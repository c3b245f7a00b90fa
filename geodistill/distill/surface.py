"""A teacher's features distilled into a network over a surface, then read at its elements."""

from __future__ import annotations

from torch import Tensor

from geodistill.cameras import Camera
from geodistill.distill.barycentric import (
    BarycentricSettings,
    FeatureField,
    SurfaceSamples,
    distil,
)
from geodistill.lift.agreement import view_scatter
from geodistill.lift.files import Basis, FeatureSet
from geodistill.lift.scene import Scene
from geodistill.lift.solve import weighted_mean
from geodistill.lift.views import PixelFeatures, equalised
from geodistill.teachers.base import Teacher
from geodistill.teachers.lifted import BLOCK, LiftReport, Observations, observed
from geodistill.train import Budget

STEPS = 1500
"""Steps of training, 4096 pixels each."""


def distil_features(
    scene: Scene,
    teacher: Teacher,
    cameras: Camera,
    channels: int | None = BLOCK,
    photographs: Tensor | None = None,
    budget: Budget | None = None,
    seed: int = 0,
) -> tuple[LiftReport, FeatureField]:
    """`teachers.lifted.lift_features` with a coordinate network in place of a linear solve, whose
    pixels count by their trust; the network is smooth by itself.

    The network learns unit vectors: of reduced features those with the mean put back, whose dot
    products are the teacher's own. Every element gets features, seen or not.
    """
    shown = observed(scene, teacher, cameras, channels, photographs)
    budget = budget or Budget(steps=STEPS)
    field = distil(
        samples_of(shown),
        budget,
        BarycentricSettings(seed=seed),
        shown.basis,
    )
    seen = weighted_mean(shown.views, slice(0, 1)).seen.cpu()
    features = features_at(field, scene.positions, shown.basis)
    found = FeatureSet(
        features,
        seen,
        geometry=scene.kind,
        digest=scene.digest,
        teacher=teacher.name,
        fingerprint=teacher.fingerprint,
        basis=shown.basis,
        scatter=view_scatter([equalised(v) for v in shown.views], features.shape[1]),
    )
    return LiftReport(found, float(seen.float().mean()), shown.explained, budget.steps or 0), field


def samples_of(shown: Observations) -> SurfaceSamples:
    """What the trusted pixels of all views show, as directions."""
    parts = []
    for view, points in zip(shown.views, shown.points, strict=True):
        kept, features = (view.trust > 0).nonzero()[:, 0], view.features()
        tokens = features.tokens.float().cpu()
        if shown.basis is not None:
            tokens = shown.basis.uncentred(tokens)
        mixed = PixelFeatures(tokens, features.index[kept].cpu(), features.mix[kept].cpu())
        place = points[kept].double().cpu() + shown.middle
        parts.append(SurfaceSamples(place, mixed, view.trust[kept].cpu()))
    return SurfaceSamples.concatenate(parts)


def features_at(field: FeatureField, points: Tensor, basis: Basis | None) -> Tensor:
    """The features [N, C] that a field has at world points [N, 3], in a basis's channels."""
    directions = field(points)
    return directions if basis is None else basis.centred(directions)
