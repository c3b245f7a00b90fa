"""A small nuScenes tree: a vehicle that drives, turns and pitches past a parked truck, a car that
drives, a pedestrian who is in one sample alone, and a bicycle in a rack."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

TIME_US = 1_500_000_000_000_000
PERIOD_US = 50_000  # of a sweep; each tenth is a key frame's
MOUNT_M = (0.94, 0.0, 1.84)
SCENES = ("scene-0061", "scene-0103")

# Where and how large: x, y, z, width, length, height, yaw; and metres a second.
TRUCK = (620.0, 1015.0, 1.5, 2.5, 7.0, 3.0, 2.0)
CAR, SPEED = (600.0, 1004.0, 0.8, 1.8, 4.2, 1.6, 0.7), 6.0
WALKER = (604.0, 990.0, 0.9, 0.6, 0.7, 1.8, -1.0)
BICYCLE, RACK = (590.0, 995.0, 0.6, 0.6, 1.7, 1.2, 0.1), (590.0, 995.5, 0.6, 2.0, 5.0, 1.2, 0.3)


def yaw_quaternion(yaw: float) -> list[float]:
    return [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]


def rotation(quaternion: list[float]) -> np.ndarray:
    """By the definition of a product with a quaternion on both sides."""
    w, *v = quaternion
    part = np.array(v)
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return (w * w - part @ part) * np.eye(3) + 2 * np.outer(part, part) + 2 * w * cross


def product(a: list[float], b: list[float]) -> list[float]:
    w, v, u, p = a[0], np.array(a[1:]), b[0], np.array(b[1:])
    return [float(w * u - v @ p), *(w * p + u * v + np.cross(v, p)).tolist()]


def pose(sweep: int) -> tuple[list[float], list[float]]:
    """Of the vehicle, at a sweep of a scene."""
    turn = yaw_quaternion(0.4 + 0.02 * sweep)
    pitch = 0.01 * math.sin(sweep)
    at = [595.0 + 0.6 * sweep, 1000.0 + 0.1 * sweep, 0.0]
    return at, product(turn, [math.cos(pitch / 2), 0.0, math.sin(pitch / 2), 0.0])


MOUNT = yaw_quaternion(-math.pi / 2)


def seen(points: np.ndarray, sweep: int) -> np.ndarray:
    """Points of the global frame in that of the LiDAR."""
    at, turn = pose(sweep)
    vehicle = (points - at) @ rotation(turn)
    return (vehicle - MOUNT_M) @ rotation(MOUNT)


def surface(box: tuple[float, ...]) -> np.ndarray:
    """The corners of a box a little smaller, in the global frame: [8, 3]."""
    x, y, z, width, length, height, yaw = box
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    local = 0.49 * signs * (length, width, height)
    return local @ rotation(yaw_quaternion(yaw)).T + (x, y, z)


def car_at(sweep: int) -> tuple[float, ...]:
    x, y, *rest = CAR
    gone = SPEED * sweep * PERIOD_US * 1e-6
    return (x + gone * math.cos(CAR[6]), y + gone * math.sin(CAR[6]), *rest)


def write_nuscenes(root: Path, version: str = "v1.0-mini", keys: int = 3) -> Path:
    """Each scene has so many key frames, and nine sweeps between two; the version's folder is
    returned."""
    tables: dict[str, list[dict[str, Any]]] = {
        "sensor": [
            {"token": "s0", "channel": "CAM_FRONT", "modality": "camera"},
            {"token": "s1", "channel": "LIDAR_TOP", "modality": "lidar"},
        ],
        "calibrated_sensor": [
            {
                "token": "m0",
                "sensor_token": "s0",
                "translation": [1, 0, 1],
                "rotation": [1, 0, 0, 0],
            },
            {"token": "m1", "sensor_token": "s1", "translation": [*MOUNT_M], "rotation": MOUNT},
        ],
        "category": [
            {"token": "c0", "name": "vehicle.truck"},
            {"token": "c1", "name": "vehicle.car"},
            {"token": "c2", "name": "human.pedestrian.adult"},
            {"token": "c3", "name": "vehicle.bicycle"},
            {"token": "c4", "name": "static_object.bicycle_rack"},
        ],
        "attribute": [
            {"token": "a0", "name": "vehicle.moving"},
            {"token": "a1", "name": "vehicle.parked"},
        ],
    }
    tables |= {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "instance")}
    tables["sample_annotation"] = []
    for folder in ("samples/LIDAR_TOP", "sweeps/LIDAR_TOP"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(SCENES):
        tables["scene"].append({"token": f"scene{number}", "name": name})
        kinds = [f"i{number}{k}" for k in range(5)]
        tables["instance"] += [
            {"token": token, "category_token": f"c{k}"} for k, token in enumerate(kinds)
        ]
        start = TIME_US + number * 10**9
        for sweep in range(10 * (keys - 1) + 1):
            key, sample = sweep % 10 == 0, f"{number}-sample-{-(-sweep // 10)}"
            time = start + sweep * PERIOD_US
            at, turn = pose(sweep)
            file = f"{'samples' if key else 'sweeps'}/LIDAR_TOP/{number}-{sweep:02d}.pcd.bin"
            tables["ego_pose"].append(
                {"token": f"p{number}-{sweep}", "translation": at, "rotation": turn}
            )
            tables["ego_pose"].append(
                {"token": f"q{number}-{sweep}", "translation": [0, 0, 0], "rotation": [1, 0, 0, 0]}
            )
            common = {"sample_token": sample, "timestamp": time, "is_key_frame": key}
            tables["sample_data"] += [
                {
                    "calibrated_sensor_token": f"m{k}",
                    "ego_pose_token": f"{'qp'[k]}{number}-{sweep}",
                    "filename": (file if k else "samples/CAM_FRONT/none.jpg"),
                    **common,
                }
                for k in (0, 1)
            ]
            _write_scan(root / file, sweep)
            if key:
                tables["sample"].append(
                    {"token": sample, "scene_token": f"scene{number}", "timestamp": time}
                )
                tables["sample_annotation"] += _annotated(sample, kinds, sweep)
    tables["sample_data"].reverse()  # their order is nothing
    folder = root / version
    folder.mkdir()
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return folder


def _annotated(sample: str, kinds: list[str], sweep: int) -> list[dict[str, Any]]:
    things = [TRUCK, car_at(sweep), WALKER, BICYCLE, RACK]
    rows = []
    for k, (x, y, z, width, length, height, yaw) in enumerate(things):
        if k == 2 and sweep != 10:
            continue
        rows.append(
            {
                "sample_token": sample,
                "instance_token": kinds[k],
                "attribute_tokens": [["a1"], ["a0"], [], [], []][k],
                "translation": [x, y, z],
                "size": [width, length, height],
                "rotation": yaw_quaternion(yaw),
                "num_lidar_pts": 0 if k == 2 else 8,
                "num_radar_pts": 3 if k == 2 else 0,
            }
        )
    return rows


def _write_scan(path: Path, sweep: int) -> None:
    points = np.concatenate([surface(TRUCK), surface(car_at(sweep))])
    local = np.concatenate([seen(points, sweep), [[0.5, -0.9, 0.1]]])  # the last is the vehicle
    count = len(local)
    intensity = np.repeat([51.0, 255.0, 0.0], [8, 8, 1])
    table = np.column_stack([local, intensity, np.arange(count) % 32])
    path.write_bytes(table.astype("<f4").tobytes())
