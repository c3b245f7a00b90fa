"""3D Gaussian splats: the state of a scene (Kerbl et al., "3D Gaussian Splatting", 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Splats:
    """N Gaussians in the user's own frame and unit."""

    means: Tensor  # float32 [N, 3]
    rotations: Tensor  # float32 [N, 4] unit quaternions (w, x, y, z)
    log_scales: Tensor  # float32 [N, 3] natural logarithms of standard deviations
    opacity_logits: Tensor  # float32 [N]
    sh: Tensor  # float32 [N, (degree + 1)^2, 3], 3DGS basis and order; colour = 0.5 + sum
