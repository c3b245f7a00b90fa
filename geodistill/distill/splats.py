"""A field, a mesh or points made into Gaussian splats."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from geodistill.checks import InputError, UsageError
from geodistill.convert.cache import survey
from geodistill.convert.surface_splats import splats_on_field, splats_on_mesh, splats_on_points
from geodistill.fit.splats import SplatJob, look_around
from geodistill.geometry.fields import Field
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats, transformed
from geodistill.runs import Run
from geodistill.shade.viewable import viewable
from geodistill.train import Budget, train

STEPS = 400
"""Steps of training, one view each."""


@dataclass(frozen=True)
class SplatConfig:
    """How splats are made of something else."""

    spacing: float = 0.012
    """Of splats on a field, in half sides of its cube."""
    count: int = 40_000
    """Splats on a mesh."""
    degree: int = 2
    """Of the harmonics."""
    rays: int = 150_000
    """Through a field, that find its surface."""
    views: int = 48
    """Pictures that they are trained on."""
    resolution: int = 400
    """Pixels along the longer side of those; the splats look best at about that."""


SMALL = SplatConfig(spacing=0.025, count=10_000, rays=60_000, views=32, resolution=200)
"""For a first look."""


def to_splats(
    scene: Field | Mesh | Points,
    config: SplatConfig | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    run: Run | None = None,
) -> Splats:
    """Splats that look like a scene from everywhere, in the user's world.

    They start on its surface and are then trained on pictures of it; those of points, of which
    pictures say nothing that the points do not, are not trained.

    Args:
        scene: a field, a mesh in its own colours, or a point cloud.
        config: how many splats, of what, trained on what.
        budget: steps or seconds of training.
        seed: of rays, viewpoints and everything random.
        run: a run folder for checkpoints and metrics; an interrupted one is continued.

    Raises:
        UsageError: a config that is none.
        InputError: a field of linear colours, which splat files do not hold, or a scene without a
            surface.
    """
    config = config or SplatConfig()
    check_config(config)
    seen = viewable(scene)
    if seen.color_space != "srgb":
        raise InputError(f"splats hold sRGB colours, this field {seen.color_space} ones")
    if isinstance(scene, Points):
        return _start(scene, config, seed)
    frame = seen.frame
    start = transformed(_start(scene, config, seed), frame.inverse())
    job = SplatJob(start, look_around(seen, config.views, config.resolution, seed + 1), seed)
    train(job, budget or Budget(steps=STEPS), run, "splats")
    with torch.no_grad():
        return transformed(job.splats, frame)


def _start(scene: Field | Mesh | Points, config: SplatConfig, seed: int) -> Splats:
    """Splats on the surface of a scene, in its world."""
    if isinstance(scene, Field):
        cache = survey(scene, config.rays, seed)
        return splats_on_field(scene, cache, config.spacing, config.degree)
    if isinstance(scene, Points):
        made = splats_on_points(scene)
    else:
        made = splats_on_mesh(scene, config.count, seed)
    more = (config.degree + 1) ** 2 - 1
    zeros = made.sh.new_zeros(len(made), more, 3)
    return replace(made, sh=torch.cat([made.sh, zeros], dim=1))


def check_config(config: SplatConfig) -> None:
    """Raise UsageError, naming the setting, for what no splats can be made with."""
    if not 1e-4 <= config.spacing <= 1:
        raise UsageError(f"'spacing' must lie between 0.0001 and 1, got {config.spacing}")
    if not 0 <= config.degree <= 3:
        raise UsageError(f"'degree' must be from 0 to 3, got {config.degree}")
    for name, most in (("count", 10**7), ("rays", 10**7), ("views", 10**4), ("resolution", 10**4)):
        if not 1 <= getattr(config, name) <= most:
            raise UsageError(f"'{name}' must be from 1 to {most}, got {getattr(config, name)}")
