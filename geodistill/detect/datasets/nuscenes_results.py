"""Detections in the file that the nuScenes benchmark takes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geodistill.detect.objects import Objects
from geodistill.runs.files import atomic_write

META = {f"use_{name}": name == "lidar" for name in ("camera", "lidar", "radar", "map", "external")}


def write_results(path: Path, frames: Sequence[str], found: Sequence[Objects]) -> None:
    """Write detections of frames, in the global frame, atomically. The format has no unknown
    velocity and attribute: they are 0 and "" there.
    """
    results = {frame: _boxes(frame, one) for frame, one in zip(frames, found, strict=True)}
    text = json.dumps({"meta": META, "results": results}, allow_nan=False)
    atomic_write(path, text.encode())


def _boxes(frame: str, found: Objects) -> list[dict[str, Any]]:
    assert found.scores is not None
    boxes = []
    for k, name in enumerate(found.names):
        length, width, height = found.sizes[k].tolist()
        half = float(found.yaws[k]) / 2
        velocity = [0.0, 0.0] if found.velocities is None else found.velocities[k].tolist()
        boxes.append(
            {
                "sample_token": frame,
                "translation": found.centers[k].tolist(),
                "size": [width, length, height],
                "rotation": [math.cos(half), 0.0, 0.0, math.sin(half)],
                "velocity": velocity,
                "detection_name": name,
                "detection_score": float(found.scores[k]),
                "attribute_name": "" if found.attributes is None else found.attributes[k],
            }
        )
    return boxes
