"""Names for how the axes of a world lie, and the turns between them."""

from __future__ import annotations

from typing import Literal

import torch

from geodistill.cameras import Similarity

Axes = Literal["opencv", "opengl", "blender", "y-up", "z-up"]

_ROWS: dict[Axes, tuple[tuple[float, ...], ...]] = {
    "opencv": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "opengl": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "blender": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
}
"""Where each axis of a convention points, in OpenCV's (x right, y down, z forward)."""
_ROWS["y-up"], _ROWS["z-up"] = _ROWS["opengl"], _ROWS["blender"]


def turn(source: Axes, target: Axes) -> Similarity:
    """From the axes `source` to the axes `target`.

    opencv: x right, y down, z forward, as 3D Gaussian Splatting and COLMAP have them. opengl or
    y-up: x right, y up, z backward, as in SPZ and most viewers of meshes. blender or z-up: x right,
    y forward, z up.
    """
    rows = {name: torch.tensor(_ROWS[name], dtype=torch.float64) for name in (source, target)}
    return Similarity(rows[target] @ rows[source].T, torch.zeros(3, dtype=torch.float64))
