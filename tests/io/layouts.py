"""One small scene in every layout that is read, by writers that share no code with the readers.

The scene is the plane z = 0 with a colour per place that nothing mirrors onto itself. Cameras are
made with OpenGL axes, as Blender has them, and turned by hand where a layout wants OpenCV's.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)  # height, width
VIEWS = 16
NAMES = [f"view_{index:02d}.png" for index in range(VIEWS)]
ANGLE_X = 0.9


@dataclass
class Scene:
    """opengl [V, 4, 4] world from camera with OpenGL axes, intrinsics [V, 8] fx fy cx cy k1 k2 p1
    p2.
    """

    opengl: np.ndarray
    intrinsics: np.ndarray


def scene(lens: str = "shared") -> Scene:
    """`lens`: "shared" square and centred, "own" another one per frame, "distorted" with
    coefficients as well.
    """
    rng = np.random.default_rng(5)
    poses = []
    for index in range(VIEWS):
        eye = np.array([1.5 * math.cos(index), 1.5 * math.sin(index), 2.0 + 0.1 * index]) + 0.3
        back = eye - np.array([0.2, -0.1, 0.0])
        back /= np.linalg.norm(back)
        right = np.cross(rng.normal(size=3), back)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
        poses.append(pose)
    height, width = SIZE
    focal = 0.5 * width / math.tan(0.5 * ANGLE_X)
    intrinsics = np.tile([focal, focal, width / 2, height / 2, 0, 0, 0, 0], (VIEWS, 1))
    if lens != "shared":
        intrinsics[:, :4] += rng.uniform(-2, 2, (VIEWS, 4))
    if lens == "distorted":
        intrinsics[:, 4:] = rng.uniform(-1, 1, (VIEWS, 4)) * [0.2, 0.05, 0.01, 0.01]
    return Scene(np.array(poses), intrinsics)


def colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[..., 3] in [0, 1], smooth, and different under every flip and quarter turn."""
    wave = np.sin(1.1 * x + 0.4) * np.cos(0.7 * y - 0.9)
    return np.stack([0.5 + 0.4 * np.tanh(x), 0.5 + 0.4 * np.tanh(y), 0.5 + 0.4 * wave], axis=-1)


def photograph(made: Scene, view: int) -> np.ndarray:
    """uint8 [H, W, 3] of a pinhole view; what looks away from the plane is black."""
    fx, fy, cx, cy = made.intrinsics[view, :4]
    v, u = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    in_cam = np.stack([(u - cx) / fx, -(v - cy) / fy, -np.ones_like(u)], axis=-1)
    direction = in_cam @ made.opengl[view, :3, :3].T
    eye = made.opengl[view, :3, 3]
    distance = -eye[2] / direction[..., 2]
    hit = eye + distance[..., None] * direction
    return (
        (np.where(distance[..., None] > 0, colour(hit[..., 0], hit[..., 1]), 0) * 255)
        .round()
        .astype(np.uint8)
    )


def write_images(folder: Path, made: Scene, views=range(VIEWS)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for view in views:
        Image.fromarray(photograph(made, view)).save(folder / NAMES[view])


def write_blender(folder: Path, made: Scene) -> None:
    """Every eighth view from the first is the test split, as the other layouts choose it."""
    for split, views in (("train", [v for v in range(VIEWS) if v % 8]), ("test", [0, 8])):
        write_images(folder / split, made, views)
        frames = [
            {
                "file_path": f"./{split}/{NAMES[v][:-4]}",
                "rotation": 0.01,
                "transform_matrix": made.opengl[v].tolist(),
            }
            for v in views
        ]
        table = {"camera_angle_x": ANGLE_X, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(table))


def transforms_table(made: Scene) -> dict:
    keys = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")
    frames = [
        {
            "file_path": f"images/{NAMES[v]}",
            "transform_matrix": made.opengl[v].tolist(),
            **dict(zip(keys, made.intrinsics[v].tolist(), strict=True)),
        }
        for v in range(VIEWS)
    ]
    # The order of the file is not that of the names, and instant-ngp's unit cube changes nothing.
    extra = {"aabb_scale": 16, "scale": 0.1, "offset": [0.5, 0.5, 0.5]}
    return {"camera_model": "OPENCV", "w": SIZE[1], "h": SIZE[0], **extra, "frames": frames[::-1]}


def write_nerfstudio(folder: Path, made: Scene) -> None:
    write_images(folder / "images", made)
    (folder / "transforms.json").write_text(json.dumps(transforms_table(made)))


def write_colmap_text(
    folder: Path, made: Scene, place: str = "sparse/0", model: str = "OPENCV"
) -> None:
    write_images(folder / "images", made)
    (folder / place).mkdir(parents=True, exist_ok=True)
    cameras, images = ["# Camera list"], ["# Image list", "# with two lines of data per image"]
    for view in reversed(range(VIEWS)):
        params = " ".join(repr(float(p)) for p in colmap_params(made.intrinsics[view], model))
        cameras.append(f"{view + 1} {model} {SIZE[1]} {SIZE[0]} {params}")
        quaternion, translation = colmap_pose(made.opengl[view])
        pose = " ".join(repr(float(v)) for v in [*quaternion, *translation])
        images += [
            f"{view + 1} {pose} {view + 1} {NAMES[view]}",
            "" if view % 2 else "1.5 2.5 -1 3.5 4.5 7",
        ]
    (folder / place / "cameras.txt").write_text("\n".join(cameras) + "\n")
    (folder / place / "images.txt").write_text("\n".join(images) + "\n")


def write_colmap_binary(
    folder: Path, made: Scene, place: str = "sparse/0", model: str = "OPENCV"
) -> None:
    write_images(folder / "images", made)
    (folder / place).mkdir(parents=True, exist_ok=True)
    number = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4}[
        model
    ]
    cameras, images = struct.pack("<Q", VIEWS), struct.pack("<Q", VIEWS)
    for view in reversed(range(VIEWS)):
        params = colmap_params(made.intrinsics[view], model)
        cameras += struct.pack("<iiQQ", view + 1, number, SIZE[1], SIZE[0]) + struct.pack(
            f"<{len(params)}d", *params
        )
        quaternion, translation = colmap_pose(made.opengl[view])
        images += struct.pack("<i7di", view + 1, *quaternion, *translation, view + 1)
        images += NAMES[view].encode() + b"\0" + struct.pack("<Q", view)
        images += b"".join(struct.pack("<ddq", 1.5, 2.5, -1) for _ in range(view))
    (folder / place / "cameras.bin").write_bytes(cameras)
    (folder / place / "images.bin").write_bytes(images)


def colmap_params(values: np.ndarray, model: str) -> list[float]:
    fx, fy, cx, cy, k1, k2, p1, p2 = values
    return {
        "SIMPLE_PINHOLE": [fx, cx, cy],
        "PINHOLE": [fx, fy, cx, cy],
        "SIMPLE_RADIAL": [fx, cx, cy, k1],
        "RADIAL": [fx, cx, cy, k1, k2],
        "OPENCV": [fx, fy, cx, cy, k1, k2, p1, p2],
    }[model]


def colmap_pose(opengl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(w, x, y, z) and translation of cam_from_world with OpenCV axes, by the eigenvector of
    Bar-Itzhack's matrix.
    """
    cam_from_world = np.linalg.inv(opengl @ np.diag([1.0, -1.0, -1.0, 1.0]))
    r = cam_from_world[:3, :3]
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r.trace()],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1]
    return np.array([w, x, y, z]), cam_from_world[:3, 3]


def expected_rays(made: Scene, view: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel coordinates [N, 2], origins [3] and unit directions [N, 3], by distorting directions
    rather than pixels.
    """
    fx, fy, cx, cy, k1, k2, p1, p2 = made.intrinsics[view]
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-0.5, 0.45, 9), np.linspace(-0.3, 0.35, 7)))
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    u = fx * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)) + cx
    v = fy * (y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y) + cy
    direction = np.stack([x, -y, -np.ones_like(x)], axis=-1) @ made.opengl[view, :3, :3].T
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return np.stack([u, v], axis=-1), made.opengl[view, :3, 3], direction
