"""How well places are recognised again by their features.

Twelve views of a mesh are parted in two. A place, seen from the one half, is looked for among 1000
places seen from the other half, and found if the most similar one lies within 5 % of the mesh's
diagonal. `mirrored`: places of the left half of a mirror-symmetric mesh are looked for among those
of the right half, and found if they are near their mirror image. Compared are: the lift; the plain
mean of the bilinear features at a vertex's projection into the views that show it (back-projection,
as Diff3F does it: Dutt et al. 2024, section 3.2); and a single view of each half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from deforming.rows import Row, at_least
from torch import Tensor
from torch.nn import functional as F

from assets import fetch
from geodistill.cameras import Camera
from geodistill.geometry.mesh_files import load_mesh
from geodistill.lift.scenes import MeshScene, cameras_around
from geodistill.teachers import load_teacher
from geodistill.teachers.base import Teacher
from geodistill.teachers.lifted import lift_features
from geodistill.teachers.tokens import token_bilinear

VIEWS, SIZE_PX, PLACES, NEAR = 12, 448, 1000, 0.05
GENESIS, WEBXR = "genesis/assets/meshes", "package/dist/profiles"
MESHES: dict[str, tuple[str, str, int | None]] = {
    # name: asset, member, axis across which it is mirror-symmetric
    "dragon": ("genesis-world", f"{GENESIS}/dragon/dragon.obj", None),
    "duck": ("genesis-world", f"{GENESIS}/duck/duck.obj", 0),
    "cosmos": ("webxr-input-profiles", f"{WEBXR}/htc-vive-cosmos/left.glb", None),
    "trigger": ("webxr-input-profiles", f"{WEBXR}/generic-trigger/left.glb", 0),
    "magicleap": ("webxr-controllers", f"{WEBXR}/magicleap-two/none.glb", 0),
    "index": ("webxr-controllers", f"{WEBXR}/valve-index/left.glb", None),
    "reverb": ("webxr-controllers", f"{WEBXR}/hp-mixed-reality/left.glb", None),
}
METHODS = ("lift", "back-projection", "single view")


@dataclass(frozen=True)
class Found:
    """Features [V, C] of the vertices that were seen, bool [V]."""

    features: Tensor
    seen: Tensor


def rows() -> list[Row]:
    teacher = load_teacher("lite0")
    again: dict[str, list[float]] = {method: [] for method in METHODS}
    mirrored: dict[str, list[float]] = {method: [] for method in METHODS}
    for asset, member, axis in MESHES.values():
        scene = MeshScene(load_mesh(fetch(asset) / member))
        halves = {m: _halves(scene, teacher, m) for m in METHODS}
        both = torch.stack([found.seen for pair in halves.values() for found in pair]).all(0)
        places = _spread(both)
        for method, (one, two) in halves.items():
            again[method].append(_found(scene, one, two, places, places, None))
            if axis is not None:
                middle = 0.5 * (scene.positions[:, axis].amin() + scene.positions[:, axis].amax())
                left = scene.positions[:, axis] < middle
                mirrored[method].append(
                    _found(scene, one, two, _spread(both & left), _spread(both & ~left), axis)
                )
    return [*_compared("from other views", again), *_compared("across the mirror", mirrored)]


def _compared(what: str, shares: dict[str, list[float]]) -> list[Row]:
    """The lift's mean share of places found, against each of the others."""
    mean = {method: sum(found) / len(found) for method, found in shares.items()}
    peers = ", ".join(f"{method} {mean[method]:.1%}" for method in METHODS)
    count = len(shares["lift"])
    return [
        at_least(
            f"places found again {what}, {count} meshes: gain over {method}",
            100 * (mean["lift"] / mean[method] - 1),
            10,
            "%",
            peers,
        )
        for method in METHODS[1:]
    ]


def _halves(scene: MeshScene, teacher: Teacher, method: str) -> tuple[Found, Found]:
    cameras = cameras_around(scene, VIEWS, SIZE_PX)
    make: Callable[[Camera], Found] = {
        "lift": lambda part: _lifted(scene, teacher, part),
        "back-projection": lambda part: _projected(scene, teacher, part),
        "single view": lambda part: _projected(scene, teacher, part[:1]),
    }[method]
    if method == "single view":
        one, two = _overlapping(scene, cameras)
        return make(cameras[one : one + 1]), make(cameras[two : two + 1])
    return make(cameras[0::2]), make(cameras[1::2])


def _lifted(scene: MeshScene, teacher: Teacher, cameras: Camera) -> Found:
    found = lift_features(scene, teacher, cameras, None).found
    return Found(found.features, found.seen)


def _projected(scene: MeshScene, teacher: Teacher, cameras: Camera) -> Found:
    """The plain mean of what the views that show a vertex have at its projection."""
    total = torch.zeros(len(scene.positions), teacher.channels)
    count = torch.zeros(len(scene.positions))
    for i in range(len(cameras)):
        look = scene.look(cameras[i], teacher.patch_px)
        shown, pixel = _shown(scene, cameras[i], look.points)
        grid = teacher.features(look.image[None].float())
        index, mix = token_bilinear(grid, cameras.size)
        tokens = grid.tokens.reshape(-1, grid.tokens.shape[-1])
        near, share = index[pixel].long(), mix[pixel]
        total[shown] += (tokens[near] * share[..., None]).sum(1)
        count[shown] += 1
    return Found(total / count.clamp_min(1)[:, None], count > 0)


def _shown(scene: MeshScene, camera: Camera, points: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices that a view shows, and the pixel that each falls into."""
    height, width = camera.size
    into = camera.world_from_cam.double().inverse()
    local = scene.positions @ into[:3, :3].T + into[:3, 3]
    xy = local @ camera.K.double().T
    column, row = (torch.floor(xy[:, a] / xy[:, 2]).long() for a in (0, 1))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = (row * width + column).clamp(0, height * width - 1)
    size = float((scene.positions.amax(0) - scene.positions.amin(0)).norm())
    gap = (points.reshape(-1, 3)[pixel] - scene.positions).norm(dim=1)
    shown = (inside & (gap < 0.01 * size)).nonzero()[:, 0]
    return shown, pixel[shown]


def _overlapping(scene: MeshScene, cameras: Camera) -> tuple[int, int]:
    """The nearest two cameras of different halves: the single views that see most in common."""
    centers = cameras.centers
    apart = torch.cdist(centers[0::2].double(), centers[1::2].double())
    best = int(apart.argmin())
    return 2 * (best // apart.shape[1]), 2 * (best % apart.shape[1]) + 1


def _spread(mask: Tensor) -> Tensor:
    """At most `PLACES` of the places that a mask [V] names, evenly by number."""
    known = mask.nonzero()[:, 0]
    return known[torch.linspace(0, len(known) - 1, min(PLACES, len(known))).long()]


def _found(
    scene: MeshScene, one: Found, two: Found, asked: Tensor, among: Tensor, axis: int | None
) -> float:
    """The share of places whose most similar one lies where they are, or their mirror image."""
    a = F.normalize(one.features[asked], dim=1)
    b = F.normalize(two.features[among], dim=1)
    where = scene.positions[among[(a @ b.T).argmax(1)]]
    wanted = scene.positions[asked].clone()
    if axis is not None:
        middle = 0.5 * (scene.positions[:, axis].amin() + scene.positions[:, axis].amax())
        wanted[:, axis] = 2 * middle - wanted[:, axis]
    size = float((scene.positions.amax(0) - scene.positions.amin(0)).norm())
    return float(((where - wanted).norm(dim=1) < NEAR * size).float().mean())
