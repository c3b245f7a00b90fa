"""A teacher's features, lifted onto a geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera
from geodistill.checks import InputError, UsageError, check
from geodistill.footprint import Footprint
from geodistill.lift.agreement import view_scatter
from geodistill.lift.files import Basis, FeatureSet
from geodistill.lift.scene import Scene
from geodistill.lift.scenes import MeshScene
from geodistill.lift.smooth import smoothed
from geodistill.lift.solve import NOTHING_SEEN, Lifted, refined
from geodistill.lift.views import PixelFeatures, View, equalised
from geodistill.log import progress
from geodistill.teachers import reduce
from geodistill.teachers.base import MeshTeacher, Teacher
from geodistill.teachers.tokens import TokenGrid, token_index, token_surface

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
        ShapeError: photographs of another number or size than the cameras take.
    """
    shown = observed(scene, teacher, cameras, channels, photographs)
    views = [equalised(view) for view in shown.views]
    kept = teacher.channels if shown.basis is None else shown.basis.axes.shape[1]
    parts = [solver(views, block) for block in reduce.channel_blocks(kept, BLOCK)]
    seen, mass = parts[0].seen.cpu(), parts[0].mass.cpu()
    features = torch.cat([part.features.cpu() for part in parts], dim=1)
    features = scene.filled(features, seen)
    if smoothing > 0:
        width = smoothing * shown.patch
        features = smoothed(features, mass, scene.positions, width, scene.normals)
    found = FeatureSet(
        features,
        seen,
        geometry=scene.kind,
        digest=scene.digest,
        teacher=teacher.name,
        fingerprint=teacher.fingerprint,
        basis=shown.basis,
        scatter=view_scatter(views, kept),
    )
    steps = max(part.steps for part in parts)
    return LiftReport(found, float(seen.float().mean()), shown.explained, steps)


@dataclass(frozen=True, eq=False)
class Observations:
    """What a teacher sees of a scene.

    Attributes:
        views: one of each camera, with tokens in the basis.
        points: float32 [P, 3] of each view, where its pixels lie, less `middle` [3].
        patch: how wide a patch of the teacher is on the surface, in the scene's unit: the median.
        basis: of the tokens' channels, None where they are the teacher's own.
        explained: part of the teacher's variance that the channels keep.
    """

    views: list[View]
    points: list[Tensor]
    middle: Tensor
    patch: float
    basis: Basis | None
    explained: float


def observed(
    scene: Scene,
    teacher: Teacher,
    cameras: Camera,
    channels: int | None = BLOCK,
    photographs: Tensor | None = None,
) -> Observations:
    """Look at a scene from all cameras and ask the teacher about it; see `lift_features`.

    Raises InputError where no camera sees the scene, ShapeError for photographs of another number
    or size than the cameras take.
    """
    if photographs is not None:
        size = f"{len(cameras)} {cameras.size[0]} {cameras.size[1]} 3"
        check(photographs=(photographs, size))
    middle, glimpses = scene.positions.mean(dim=0), []
    with progress(len(cameras), f"{teacher.name}, views") as bar:
        for i in range(len(cameras)):
            photograph = None if photographs is None else photographs[i]
            glimpses.append(_glimpse(scene, teacher, cameras[i], photograph, middle))
            bar.advance()
    used = [glimpse.used_tokens() for glimpse in glimpses]
    if not any(len(tokens) for tokens in used):
        raise InputError(NOTHING_SEEN)
    basis, explained = None, 1.0
    if channels is not None and channels < teacher.channels:
        pca = reduce.fit(used, channels)
        basis, explained = Basis(pca.mean.cpu(), pca.components.T.cpu().contiguous()), pca.explained
        glimpses = [replace(g, tokens=pca.apply(g.tokens)) for g in glimpses]
    patch = torch.cat([g.patch[g.trust > 0].cpu() for g in glimpses]).median()
    views = [View(g.footprint, g.features, g.trust.reshape(-1)) for g in glimpses]
    points = [g.points.reshape(-1, 3) for g in glimpses]
    return Observations(views, points, middle, float(patch), basis, explained)


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
    """What one camera sees of a scene, and what the teacher says of it.

    points: float32 [H, W, 3], less the scene's middle.  trust: [H, W].  patch: [H, W], how wide a
    patch is on the surface there.  tokens: [T, C], whose places `grid` has.
    """

    footprint: Callable[[], Footprint]
    points: Tensor
    trust: Tensor
    patch: Tensor
    tokens: Tensor
    grid: TokenGrid

    def features(self) -> PixelFeatures:
        mixture = token_surface(self.grid, self.points, self.trust, self.patch)
        return PixelFeatures(self.tokens, *mixture)

    def used_tokens(self) -> Tensor:
        """Those whose patches show something trusted."""
        size = (self.trust.shape[0], self.trust.shape[1])
        index = token_index(self.grid, size)[self.trust.reshape(-1) > 0]
        return self.tokens[index.unique().long()]


def _glimpse(
    scene: Scene, teacher: Teacher, camera: Camera, photograph: Tensor | None, middle: Tensor
) -> _Glimpse:
    look = scene.look(camera, teacher.patch_px)
    image = look.image if photograph is None else photograph.to(look.image)
    grid = teacher.features(image[None].float())
    tokens = F.normalize(grid.tokens.reshape(-1, grid.tokens.shape[-1]), dim=1)
    # The grid's places without its tokens, which are kept only as they are lifted.
    grid = replace(grid, tokens=grid.tokens.new_empty(1, *grid.size, 0))
    distance = (look.points - camera.centers.to(look.points)).norm(dim=-1)
    patch = 0.5 * sum(grid.stride_px) * distance / float(camera.K[0, 0])
    points = (look.points - middle.to(look.points)).float()
    return _Glimpse(look.footprint, points, look.trust.float(), patch.float(), tokens, grid)
