"""Makes whole commands small enough to be run many times: the same code with smaller numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def shrink(set_attribute: Callable[[object, str, Any], None] = setattr) -> None:
    """Fewer samples, rays, views, cells and steps everywhere the command line does not reach."""
    from geodistill import train
    from geodistill.convert import cache, latents
    from geodistill.distill import pvd
    from geodistill.distill.pvd import transfer
    from geodistill.distill.pvd.stages import PvdSettings
    from geodistill.fit import bounds, field
    from geodistill.metrics import fidelity

    set_attribute(bounds, "SEARCH_RESOLUTION", 32)
    set_attribute(bounds, "OCCUPANCY_RESOLUTION", 32)
    set_attribute(field, "WARMUP_STEPS", 4)
    set_attribute(field, "OCCUPANCY_EVERY", 4)
    set_attribute(field, "PRUNE_AFTER", 12)
    set_attribute(field, "FitSettings", partial(field.FitSettings, samples=1 << 12, step=1 / 48))
    set_attribute(cache, "CHUNK", 1 << 9)
    set_attribute(latents, "HEAD_STEPS", 40)
    set_attribute(latents, "HEAD_BATCH", 1 << 9)
    set_attribute(transfer, "LOOK_EVERY", 4)
    settings = {
        "cache_rays": 1000,
        "transfer": transfer.TransferSettings(rays=64),
        "pvd": PvdSettings(rays=128, poses=4, resolution=32, step=1 / 48),
    }
    set_attribute(pvd, "ConvertSettings", partial(pvd.ConvertSettings, **settings))
    set_attribute(fidelity.compare, "__defaults__", (4, 24, 0))
    set_attribute(train, "REPORT_EVERY", 5)
