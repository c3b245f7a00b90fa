"""A teacher's features, lifted onto a geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera
from geodistill.checks import InputError, UsageError
from geodistill.footprint import Footprint
from geodistill.lift.agreement import scatter
from geodistill.lift.files import Basis, FeatureSet
from geodistill.lift.scenes import MeshScene, Scene
from geodistill.lift.smooth import smoothed
from geodistill.lift.solve import Lifted, refined
from geodistill.lift.views import TokenLook, View, alike
from geodistill.log import progress
from geodistill.teachers import reduce
from geodistill.teachers.base import MeshTeacher, Teacher
from geodistill.teachers.tokens import token_index, token_surface

Solver = Callable[[Sequence[View], slice], Lifted]
BLOCK = 64
"""Channels that are solved for together: what bounds the memory of a lift."""
SMOOTHING = 0.4
"""Of a patch. Twice as much blurs small parts into one another, none leaves the noise of pixels."""


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
    smoothing: float = SMOOTHING,
) -> LiftReport:
    """Look at a scene from all cameras, let the teacher see the pictures, and lift what it says.

    Tokens are brought to unit length, as similarity compares directions, and reduced to their
    principal components among the tokens that show the scene. All views that show an element count
    alike for it, and what is finer than the patches, which is noise, is smoothed away.

    Args:
        scene: the geometry.
        teacher: an image teacher.
        cameras: a batch of pinhole cameras.
        channels: how many to keep; None: all of the teacher's.
        solver: from views and a range of channels to features.
        photographs: [N, H, W, 3] in [0, 1], what the teacher sees in place of our own pictures.
        smoothing: standard deviation in widths of the teacher's patches; 0: none.

    Raises:
        InputError: no camera sees the scene.
    """
    seen_by = observed(scene, teacher, cameras, channels, photographs)
    views = [alike(view) for view in seen_by.views]
    width = channels if seen_by.basis is not None else teacher.channels
    parts = [solver(views, block) for block in reduce.channel_blocks(width, BLOCK)]
    features = torch.cat([part.features for part in parts], dim=1)
    seen = parts[0].seen
    spread = scatter(views, features, seen)
    seen, mass = seen.cpu(), parts[0].mass.cpu()
    features = scene.filled(features.cpu(), seen)
    if smoothing > 0:
        width = smoothing * seen_by.patch
        features = smoothed(features, mass, scene.positions, width, scene.normals)
    found = FeatureSet(
        features,
        seen,
        scene.kind,
        scene.digest,
        teacher.name,
        teacher.fingerprint,
        seen_by.basis,
        spread,
    )
    steps = max(part.steps for part in parts)
    return LiftReport(found, float(seen.float().mean()), seen_by.explained, steps)


@dataclass(frozen=True, eq=False)
class Observations:
    """What a teacher sees of a scene.

    Attributes:
        views: one of each camera, with tokens in the basis.
        patch: how wide a patch of the teacher is on the surface, in the scene's unit.
        looks: the features of each view's pixels again, with their tokens.
        points: float32 [P, 3] of each view, where its pixels lie about the scene's middle.
        basis: of the tokens' channels, None where they are the teacher's own.
        explained: part of the teacher's variance that the channels keep.
    """

    views: list[View]
    patch: float
    looks: list[TokenLook]
    points: list[Tensor]
    basis: Basis | None
    explained: float


def observed(
    scene: Scene,
    teacher: Teacher,
    cameras: Camera,
    channels: int | None = BLOCK,
    photographs: Tensor | None = None,
) -> Observations:
    """Look at a scene from all cameras and ask the teacher about it; see `lift_features`."""
    glimpses = _glimpses(scene, teacher, cameras, photographs)
    if not any(len(glimpse.used) for glimpse in glimpses):
        raise InputError("no camera sees the geometry: point them at it")
    looks = [glimpse.look for glimpse in glimpses]
    basis, explained = None, 1.0
    if channels is not None and channels < teacher.channels:
        pca = reduce.fit((g.look.tokens[g.used] for g in glimpses), channels)
        basis, explained = Basis(pca.mean, pca.components.T.contiguous()), pca.explained
        looks = [replace(look, tokens=pca.apply(look.tokens)) for look in looks]
    views = [View(g.footprint, k, g.trust) for g, k in zip(glimpses, looks, strict=True)]
    patches = torch.tensor([glimpse.patch for glimpse in glimpses if len(glimpse.used)])
    points = [glimpse.points for glimpse in glimpses]
    return Observations(views, float(patches.mean()), looks, points, basis, explained)


def middle(scene: Scene) -> Tensor:
    """The mean position of its elements. [3]"""
    return scene.positions.mean(dim=0)


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


@dataclass(frozen=True, eq=False)
class _Glimpse:
    """One camera's look at a scene, and what the teacher says of it.

    `points` float32 [P, 3] are about the scene's middle; `used` are the tokens whose patches show
    something trusted, `patch` is how wide one is on the surface.
    """

    footprint: Callable[[], Footprint]
    trust: Tensor
    points: Tensor
    look: TokenLook
    used: Tensor
    patch: float


def _glimpses(
    scene: Scene, teacher: Teacher, cameras: Camera, photographs: Tensor | None
) -> list[_Glimpse]:
    found = []
    with progress(len(cameras), f"{teacher.name}, views") as bar:
        for i in range(len(cameras)):
            found.append(
                _glimpse(
                    scene, teacher, cameras[i], None if photographs is None else photographs[i]
                )
            )
            bar.advance()
    return found


def _glimpse(scene: Scene, teacher: Teacher, camera: Camera, photograph: Tensor | None) -> _Glimpse:
    look = scene.look(camera, teacher.patch_px)
    image = look.image if photograph is None else photograph.to(look.image)
    grid = teacher.features(image[None].float())
    tokens = F.normalize(grid.tokens.reshape(-1, grid.tokens.shape[-1]), dim=1)
    # The grid's geometry without its tokens, which are kept only as they are lifted.
    grid = replace(grid, tokens=grid.tokens.new_empty(1, *grid.size, 0))
    points, trust = look.points - middle(scene).to(look.points), look.trust.float()
    near = (look.points[trust > 0] - camera.centers.to(look.points)).norm(dim=-1)
    patch = 0.5 * sum(grid.stride_px) * float(near.mean() / camera.K[0, 0]) if len(near) else 1.0
    points = points.float()
    return _Glimpse(
        look.footprint,
        trust.reshape(-1),
        points.reshape(-1, 3),
        TokenLook(tokens, lambda: token_surface(grid, points, trust, patch)),
        token_index(grid, camera.size)[trust.reshape(-1) > 0].unique().long(),
        patch,
    )
