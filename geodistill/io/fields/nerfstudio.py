"""Radiance fields of nerfstudio: nerfacto, instant-ngp, tensorf, vanilla-nerf.

What a checkpoint holds is told by the names in it, so that methods that change settings of these,
such as nerfacto-huge, are read too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from geodistill.checks import InputError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.nerfstudio_hash import read_hash_field
from geodistill.io.fields.nerfstudio_mlp import read_mlp_field
from geodistill.io.fields.nerfstudio_tensorf import read_tensor_field
from geodistill.io.nerfstudio import Run, cameras_of, load_model, open_run, user_from_run

if TYPE_CHECKING:
    from torch import Tensor

Reader = Callable[[Run, dict[str, "Tensor"]], FieldArrays]
READERS: dict[str, Reader] = {
    "field.max_res": read_hash_field,
    "field.density_encoding.": read_tensor_field,
    "field_fine.": read_mlp_field,
}
"""By a name that only models of the kind have, or its beginning."""


def read_nerfstudio(path: Path) -> FieldArrays:
    """The field of a run: of its folder, its config.yml or one of its checkpoints.

    A field of all of space, contracted, keeps nerfstudio's contraction. Raises InputError, naming
    the file, for one that is missing, damaged, or of a method that is not read.
    """
    run = open_run(path)
    state = load_model(run.checkpoint)
    for begin, read in READERS.items():
        if any(name.startswith(begin) for name in state):
            arrays = read(run, state)
            break
    else:
        method = f" of {run.method}" if run.method else ""
        raise InputError(
            f"{run.checkpoint} holds a model{method}, which is not read: nerfacto, instant-ngp, "
            "tensorf, vanilla-nerf and splatfacto are"
        )
    user = user_from_run(run.folder).matrix().numpy()
    arrays["world_from_field"] = user @ arrays["world_from_field"]
    arrays["views"] = cameras_of(run)
    arrays["extra"] = {"format": "nerfstudio", "method": run.method}
    return arrays
