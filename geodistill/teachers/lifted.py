"""A teacher's features, lifted onto a geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera
from geodistill.checks import InputError, UsageError
from geodistill.lift.files import Basis, FeatureSet
from geodistill.lift.scenes import MeshScene, Scene
from geodistill.lift.solve import Lifted, refined
from geodistill.lift.views import PixelFeatures, View
from geodistill.log import progress
from geodistill.teachers import reduce
from geodistill.teachers.base import MeshTeacher, Teacher
from geodistill.teachers.tokens import token_index

Solver = Callable[[Sequence[View], slice], Lifted]
BLOCK = 64
"""Channels that are solved for together: what bounds the memory of a lift."""


@dataclass(frozen=True, eq=False)
class LiftReport:
    """What a lift came to.

    Attributes:
        found: the features.
        coverage: part of the elements that a trusted pixel shows, from 0 to 1.
        explained: part of the teacher's variance that the channels keep.
        steps: refinements that were taken.
    """

    found: FeatureSet
    coverage: float
    explained: float
    steps: int


def lift_features(
    scene: Scene,
    teacher: Teacher,
    cameras: Camera,
    channels: int | None = BLOCK,
    solver: Solver = lambda views, part: refined(views, channels=part),
    photographs: Tensor | None = None,
) -> LiftReport:
    """Look at a scene from all cameras, let the teacher see the pictures, and lift what it says.

    Tokens are brought to unit length, as similarity compares directions, and reduced to their
    principal components among the tokens that show the scene.

    Args:
        scene: the geometry.
        teacher: an image teacher.
        cameras: a batch of pinhole cameras.
        channels: how many to keep; None: all of the teacher's.
        solver: from views and a range of channels to features.
        photographs: [N, H, W, 3] in [0, 1], what the teacher sees in place of our own pictures.

    Raises:
        InputError: no camera sees the scene.
    """
    seen_by = observed(scene, teacher, cameras, channels, photographs)
    views = seen_by.views
    width = views[0].features.tokens.shape[1]
    parts = [solver(views, block) for block in reduce.channel_blocks(width, BLOCK)]
    features = torch.cat([part.features for part in parts], dim=1)
    seen = parts[0].seen
    found = FeatureSet(
        scene.filled(features, seen),
        seen,
        scene.kind,
        scene.digest,
        teacher.name,
        teacher.fingerprint,
        seen_by.basis,
    )
    steps = max(part.steps for part in parts)
    return LiftReport(found, float(seen.float().mean()), seen_by.explained, steps)


@dataclass(frozen=True, eq=False)
class Observations:
    """What a teacher sees of a scene.

    Attributes:
        views: one of each camera, with tokens in the basis.
        points: float64 [P, 3] of each view, where its pixels lie; empty unless asked for.
        basis: of the tokens' channels, None where they are the teacher's own.
        explained: part of the teacher's variance that the channels keep.
    """

    views: list[View]
    points: list[Tensor]
    basis: Basis | None
    explained: float


def observed(
    scene: Scene,
    teacher: Teacher,
    cameras: Camera,
    channels: int | None = BLOCK,
    photographs: Tensor | None = None,
    places: bool = False,
) -> Observations:
    """Look at a scene from all cameras and let the teacher see the pictures; see `lift_features`.

    With `places` the surface points under the pixels are kept.
    """
    views, points = _views(scene, teacher, cameras, photographs, places)
    shown = [_shown(view) for view in views]
    if not any(len(tokens) for tokens in shown):
        raise InputError("no camera sees the geometry: point them at it")
    basis, explained = None, 1.0
    if channels is not None and channels < teacher.channels:
        pca = reduce.fit(shown, channels)
        basis, explained = Basis(pca.mean, pca.components.T.contiguous()), pca.explained
        views = [_with_tokens(view, pca.apply(view.features.tokens)) for view in views]
    return Observations(views, points, basis, explained)


def described(scene: Scene, teacher: MeshTeacher) -> FeatureSet:
    """What a teacher that looks at no images says of a mesh.

    Raises:
        UsageError: a scene that is no mesh.
    """
    if not isinstance(scene, MeshScene):
        raise UsageError(f"the teacher '{teacher.name}' needs a mesh, this is a {scene.kind}")
    features = teacher.vertex_features(scene.mesh).float()
    seen = torch.ones(len(features), dtype=torch.bool)
    return FeatureSet(features, seen, scene.kind, scene.digest, teacher.name, teacher.fingerprint)


def _views(
    scene: Scene, teacher: Teacher, cameras: Camera, photographs: Tensor | None, places: bool
) -> tuple[list[View], list[Tensor]]:
    """Every camera's look at the scene, with the teacher's tokens for it; and where pixels lie."""
    found, points = [], []
    with progress(len(cameras), f"{teacher.name}, views") as bar:
        for i in range(len(cameras)):
            look = scene.look(cameras[i], teacher.patch_px)
            image = look.image if photographs is None else photographs[i]
            grid = teacher.features(image[None].float())
            tokens = F.normalize(grid.tokens.reshape(-1, grid.tokens.shape[-1]), dim=1)
            index = token_index(grid, cameras.size)[:, None]
            features = PixelFeatures(tokens, index, torch.ones(len(index), 1))
            found.append(View(look.footprint, features, look.trust.reshape(-1).float()))
            if places:
                points.append(look.points.reshape(-1, 3))
            bar.advance()
    return found, points


def _shown(view: View) -> Tensor:
    """The tokens that some trusted pixel looks up."""
    used = view.features.index[view.trust > 0]
    return view.features.tokens[used.unique().long()]


def _with_tokens(view: View, tokens: Tensor) -> View:
    features = PixelFeatures(tokens, view.features.index, view.features.mix)
    return View(view.footprint, features, view.trust)
