"""Cameras, the sets of cameras that look at a scene, and the similarity that relates two frames.

A camera here has OpenCV axes (x right, y down, z forward), pixel centres at +0.5 (the first pixel
spans [0, 1]) and a `world_from_cam` that takes camera coordinates to the user's own world. Other
conventions are converted where a file is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError, check

Vector = Tensor | Sequence[float]

RIGID_TOLERANCE = (
    1e-3  # how far R^T R may be from the identity: what a few decimals in a file leave
)


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera, or a batch of cameras that share an image size.

    K               [..., 3, 3]  intrinsics in pixels
    world_from_cam  [..., 4, 4]  rigid transform, OpenCV axes
    size            (H, W)
    distortion      [..., 4] k1, k2, p1, p2 of the OpenCV model, or None for a pinhole

    Raises ShapeError when the batch dimensions differ, UsageError for an empty size.
    """

    K: Tensor
    world_from_cam: Tensor
    size: tuple[int, int]
    distortion: Tensor | None = None

    def __post_init__(self) -> None:
        check(K=(self.K, "... 3 3"), world_from_cam=(self.world_from_cam, "... 4 4"))
        batch = self.batch_shape
        if self.K.shape[:-2] != batch:
            raise ShapeError(
                f"K and world_from_cam have different batches: {[*self.K.shape]}, {[*batch, 4, 4]}"
            )
        if self.distortion is not None and self.distortion.shape != (*batch, 4):
            raise ShapeError(
                f"distortion must have shape {[*batch, 4]}, got {[*self.distortion.shape]}"
            )
        if min(self.size) < 1:
            raise UsageError(
                f"a camera's size must be (height, width) of at least 1, got {self.size}"
            )

    @classmethod
    def from_fov(cls, fov_rad: float, size: tuple[int, int], world_from_cam: Tensor) -> Camera:
        """Square pixels, a centred principal point, and `fov_rad` from left to right."""
        if not 0 < fov_rad < math.pi:
            raise UsageError(f"a field of view must lie between 0 and pi radians, got {fov_rad}")
        height, width = size
        focal_px = 0.5 * width / math.tan(0.5 * fov_rad)
        K = torch.tensor([[focal_px, 0, 0.5 * width], [0, focal_px, 0.5 * height], [0, 0, 1]])
        return cls(
            K.to(world_from_cam).expand(*world_from_cam.shape[:-2], 3, 3), world_from_cam, size
        )

    @property
    def batch_shape(self) -> torch.Size:
        return self.world_from_cam.shape[:-2]

    @property
    def device(self) -> torch.device:
        return self.world_from_cam.device

    @property
    def dtype(self) -> torch.dtype:
        return self.world_from_cam.dtype

    @property
    def centers(self) -> Tensor:
        """[..., 3] the optical centres in the world."""
        return self.world_from_cam[..., :3, 3]

    @property
    def cam_from_world(self) -> Tensor:
        """[..., 4, 4] the inverse of `world_from_cam`."""
        rotation = self.world_from_cam[..., :3, :3].mT
        return _rigid(rotation, -(rotation @ self.centers[..., None])[..., 0])

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("a single camera has no length; camera[None] makes a batch of one")
        return self.batch_shape[0]

    def __getitem__(self, index: Any) -> Camera:
        """Index the batch like a tensor: camera[3], camera[::2], camera[mask], camera[None]."""
        distortion = None if self.distortion is None else self.distortion[index]
        return replace(
            self, K=self.K[index], world_from_cam=self.world_from_cam[index], distortion=distortion
        )

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> Camera:
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device=device or tensor.device, dtype=dtype or tensor.dtype)

        distortion = None if self.distortion is None else moved(self.distortion)
        return Camera(moved(self.K), moved(self.world_from_cam), self.size, distortion)

    def scaled(self, factor: float) -> Camera:
        """The same view with about `factor` times the pixels a side, rounded to whole pixels."""
        height, width = (max(1, round(side * factor)) for side in self.size)
        scale = self.K.new_tensor([[width / self.size[1]], [height / self.size[0]], [1.0]])
        return replace(self, K=self.K * scale, size=(height, width))


def opencv_from_opengl(world_from_cam: Tensor) -> Tensor:
    """`world_from_cam` [..., 4, 4] with OpenGL or Blender camera axes (y up, z back) to OpenCV's.

    The conversion is its own inverse.
    """
    return world_from_cam * world_from_cam.new_tensor([1.0, -1.0, -1.0, 1.0])


opengl_from_opencv = opencv_from_opengl


def look_at(eye: Vector, target: Vector, up: Vector = (0.0, 0.0, 1.0)) -> Tensor:
    """`world_from_cam` [..., 4, 4] of cameras at `eye` [..., 3] that see `target` [..., 3].

    `up` [3] points upward in the picture; where the view runs along it, another axis of the world
    takes its place. Raises UsageError if an eye is at its target.
    """
    eye_t = _vector(eye)
    forward = _vector(target, eye_t) - eye_t
    length = forward.norm(dim=-1, keepdim=True)
    if not bool((length > 0).all()):
        raise UsageError("look_at needs an eye apart from its target")
    forward = forward / length
    right = torch.linalg.cross(forward, _unit(_vector(up, eye_t)).expand_as(forward))
    spare = torch.eye(3).to(forward)[forward.abs().argmin(dim=-1)]
    along_up = right.norm(dim=-1, keepdim=True) < 1e-4
    right = _unit(torch.where(along_up, torch.linalg.cross(forward, spare), right))
    down = torch.linalg.cross(forward, right)
    return _rigid(torch.stack([right, down, forward], dim=-1), eye_t.expand_as(forward))


def rotations(vectors: Tensor) -> Tensor:
    """Rotations about the vectors [..., 3] by their lengths in radians. [..., 3, 3]"""
    basis = torch.eye(3).to(vectors).expand(*vectors.shape[:-1], 3, 3)
    skew = torch.linalg.cross(vectors[..., None, :].expand_as(basis), basis, dim=-1).mT
    return torch.linalg.matrix_exp(skew)


def sphere_cameras(
    n: int,
    center: Vector,
    radius: float,
    fov_rad: float,
    size: tuple[int, int],
    seed: int,
    up: Vector = (0.0, 0.0, 1.0),
) -> Camera:
    """`n` cameras [n] spread evenly over a sphere, looking at its center.

    They form a Fibonacci lattice in an orientation drawn from `seed`.
    """
    _at_least_one(n)
    index = torch.arange(n, dtype=torch.float64)
    height = 1 - (2 * index + 1) / n
    azimuth = index * (math.pi * (3 - math.sqrt(5)))
    ring = (1 - height**2).sqrt()
    lattice = torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), height], dim=-1)
    return _around(center, radius * lattice @ _random_rotation(seed).T, fov_rad, size, up)


def orbit_cameras(
    n: int,
    center: Vector,
    radius: float,
    elevation_rad: float,
    fov_rad: float,
    size: tuple[int, int],
    up: Vector = (0.0, 0.0, 1.0),
) -> Camera:
    """`n` cameras [n] on a circle about the axis `up` through `center`, looking at it.

    The circle is `elevation_rad` above the plane through `center`, at the distance `radius` from
    it. Seen from the tip of `up` it runs counter-clockwise, from +x where `up` allows it.
    """
    _at_least_one(n)
    axis = _unit(_vector(up).double().cpu())
    start = torch.eye(3, dtype=torch.float64)[0 if axis[0].abs() < 0.9 else 1]
    start = _unit(start - (start @ axis) * axis)
    azimuth = (torch.arange(n, dtype=torch.float64) * (2 * math.pi / n))[:, None]
    ring = azimuth.cos() * start + azimuth.sin() * torch.linalg.cross(axis, start)
    offsets = radius * (math.cos(elevation_rad) * ring + math.sin(elevation_rad) * axis)
    return _around(center, offsets, fov_rad, size, up)


@dataclass(frozen=True, eq=False)
class Similarity:
    """x_world = s R x + t: how one frame lies in another. R [3, 3] rotation, t [3], s > 0."""

    R: Tensor
    t: Tensor
    s: float = 1.0

    def __post_init__(self) -> None:
        check(R=(self.R, "3 3"), t=(self.t, "3"))
        if not (0 < self.s < math.inf):
            raise UsageError(f"a similarity's scale must be positive and finite, got {self.s}")

    @classmethod
    def identity(cls) -> Similarity:
        """In float64."""
        return cls(torch.eye(3).double(), torch.zeros(3).double())

    @classmethod
    def from_matrix(cls, matrix: Tensor) -> Similarity:
        """From [4, 4] or [3, 4]. Raises InputError when the 3x3 part is not a scaled rotation."""
        linear = matrix[:3, :3].double()
        determinant = float(torch.linalg.det(linear))
        scale = math.copysign(abs(determinant) ** (1 / 3), determinant)
        if not scale > 0 or rigid_error(linear / scale) > RIGID_TOLERANCE:
            raise InputError(
                f"the matrix is not a rotation with one scale: {describe_linear(linear)}"
            )
        return cls(nearest_rotation(linear / scale).to(matrix.dtype), matrix[:3, 3], scale)

    def matrix(self) -> Tensor:
        """[4, 4]"""
        return _rigid(self.s * self.R, self.t)

    def apply(self, points: Tensor) -> Tensor:
        """[..., 3] points into the world, in their own dtype and device."""
        return self.s * self.rotate(points) + self.t.to(points)

    def rotate(self, directions: Tensor) -> Tensor:
        """[..., 3] directions into the world; lengths stay."""
        return directions @ self.R.to(directions).T

    def apply_camera(self, camera: Camera) -> Camera:
        """The camera that sees in the world what `camera` sees here; depths grow by `s`."""
        linear = self.R.to(camera.world_from_cam) @ camera.world_from_cam[..., :3, :3]
        return replace(camera, world_from_cam=_rigid(linear, self.apply(camera.centers)))

    def inverse(self) -> Similarity:
        return Similarity(self.R.T, -(self.R.T @ self.t) / self.s, 1 / self.s)

    def compose(self, inner: Similarity) -> Similarity:
        """`self.compose(inner).apply(x)` is `self.apply(inner.apply(x))`."""
        return Similarity(self.R @ inner.R, self.apply(inner.t), self.s * inner.s)


def is_identity(similarity: Similarity) -> bool:
    """Whether it moves nothing at all."""
    return bool((similarity.matrix() == torch.eye(4).to(similarity.R)).all())


def rigid_error(linear: Tensor) -> float:
    """How far [3, 3] is from a proper rotation: max |R^T R - 1|, or infinity if it mirrors."""
    error = float((linear.T @ linear - torch.eye(3).to(linear)).abs().max())
    return error if float(torch.linalg.det(linear)) > 0 else math.inf


def nearest_rotation(linear: Tensor) -> Tensor:
    """The rotation nearest to [3, 3] (polar decomposition)."""
    u, _, vh = torch.linalg.svd(linear)
    return u @ vh


def describe_linear(linear: Tensor) -> str:
    """Determinant and column lengths of [3, 3], for messages."""
    lengths = ", ".join(f"{float(length):.4g}" for length in linear.norm(dim=0))
    return f"determinant {float(torch.linalg.det(linear)):.4g}, column lengths {lengths}"


def _around(
    center: Vector, offsets: Tensor, fov_rad: float, size: tuple[int, int], up: Vector
) -> Camera:
    middle = _vector(center)
    eyes = middle.double() + offsets.to(middle.device)
    world_from_cam = look_at(eyes, middle.double(), _vector(up).double().to(middle.device))
    return Camera.from_fov(fov_rad, size, world_from_cam.to(middle.dtype))


def _random_rotation(seed: int) -> Tensor:
    """Uniform over rotations: the Q of a Gaussian matrix, made unique and proper by signs."""
    gaussian = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def _rigid(linear: Tensor, translation: Tensor) -> Tensor:
    top = torch.cat([linear, translation[..., None]], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def _vector(value: Vector, like: Tensor | None = None) -> Tensor:
    tensor = torch.as_tensor(value)
    if not tensor.is_floating_point():
        tensor = tensor.float()
    return tensor if like is None else tensor.to(like)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True)


def _at_least_one(n: int) -> None:
    if n < 1:
        raise UsageError(f"at least one camera is needed, got {n}")
