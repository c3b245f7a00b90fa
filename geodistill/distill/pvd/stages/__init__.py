"""The PVD recipe: features, then points, then rays, as published and released.

Fang et al., "One is All: Bridging the Gap Between Neural Radiance Fields Architectures with
Progressive Volume Distillation", AAAI 2023, sec. 3. Teacher and student see the same samples of
the same rays. Log-densities are compared inside the hard window [-2, 7] per scene radius, with
what follows from it: a student outside the window gets no gradient, and a student may leave
density exp(-2), which dims a ray across the scene to 76 %, wherever the teacher has less. The
field left behind is therefore foggy without its occupancy grid.
"""

from __future__ import annotations

from geodistill.distill.pvd.stages.job import PvdJob
from geodistill.distill.pvd.stages.optimiser import AdamW
from geodistill.distill.pvd.stages.settings import PvdSettings, loss_weights
from geodistill.distill.pvd.stages.student import inherit

__all__ = ["AdamW", "PvdJob", "PvdSettings", "inherit", "loss_weights"]
