"""The weights in a checkpoint of torch-ngp or PVD, each checked where it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.fields.placing import LARGEST_WEIGHT

_BUFFERS = (
    "aabb_train",
    "aabb_infer",
    "density_grid",
    "density_bitfield",
    "step_counter",
    "encoder.offsets",
    "encoder_bg.offsets",
)
"""What stands among the weights and is none: these are not averaged."""


class Named(NamedTuple):
    """A field without its frame and occupancy."""

    architecture: str
    config: dict[str, Any]
    parameters: dict[str, NDArray[np.float32]]


class Model:
    """Tensors by name, and which of them were used."""

    def __init__(self, path: Path, tensors: dict[str, Any]) -> None:
        self.path, self.tensors = path, tensors
        self.names, self.used = set(tensors), set[str]()

    def raw(self, name: str) -> NDArray:
        """As it is stored."""
        if name not in self.tensors:
            raise InputError(f"{self.path} has no {name}: it is damaged, or of another program")
        self.used.add(name)
        tensor = self.tensors[name]
        return tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.numpy()

    def array(self, name: str, *shape: int | None) -> NDArray[np.float32]:
        """float32 of this shape (None: any size), finite."""
        found = self.raw(name)
        fits = found.ndim == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
        )
        if not fits or found.dtype != np.float32 or found.size == 0:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise InputError(
                f"{self.path}: {name} is {found.dtype} {[*found.shape]}, not float [{wanted}]"
            )
        if not (np.abs(found) <= LARGEST_WEIGHT).all():
            raise InputError(
                f"{self.path}: {name} holds NaN or values beyond {LARGEST_WEIGHT:g}: its training "
                "failed"
            )
        return found

    def matrices(self, form: str, inputs: int) -> list[NDArray[np.float32]]:
        """Those named `form` with 0, 1, ... in it, each with as many columns as the last has rows;
        at least two."""
        found = [self.array(form.format(0), None, inputs)]
        while form.format(len(found)) in self.names:
            found.append(self.array(form.format(len(found)), None, len(found[-1])))
        if len(found) < 2 or any(len(m) != len(found[0]) for m in found[:-1]):
            widths = [len(m) for m in found]
            raise InputError(
                f"{self.path}: the layers of {form.split('.')[0]} are {widths} wide, a field here "
                "has hidden layers of one width"
            )
        return found


def model_of(path: Path, checkpoint: dict[str, Any]) -> Model:
    """The weights that the program renders with."""
    import torch

    found = checkpoint.get("model", checkpoint)
    tensors = (
        {
            name: value
            for name, value in found.items()
            if isinstance(name, str) and isinstance(value, torch.Tensor)
        }
        if isinstance(found, dict)
        else {}
    )
    if not tensors:
        raise InputError(f"{path} holds no weights of a model: check its name")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return Model(path, _averaged(path, tensors, checkpoint.get("ema")))


def _averaged(path: Path, tensors: dict[str, Any], ema: Any) -> dict[str, Any]:
    """With the averages of the training's weights, which stand in the same order, in their place"""
    import torch

    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, (list, tuple)) or not shadow:
        return tensors
    weights = [name for name in tensors if name not in _BUFFERS]
    fits = len(shadow) == len(weights) and all(
        isinstance(average, torch.Tensor) and average.shape == tensors[name].shape
        for name, average in zip(weights, shadow, strict=False)
    )
    if not fits:
        log.say(f"{path}: its averaged weights do not fit its weights, which are used as they are")
        return tensors
    return {**tensors, **dict(zip(weights, shadow, strict=True))}


def network(prefix: str, weights: list[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """By geodistill's names."""
    return {f"{prefix}.weights.{i}": matrix for i, matrix in enumerate(weights)}


def harmonics_head(
    model: Model, features: int, bound: float
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """The decoder exp(raw), sigmoid(color_net([16 harmonics of the direction, features]))."""
    color = model.matrices("color_net.{}.weight", 16 + features)
    if len(color[-1]) != 3:
        raise InputError(f"{model.path}: color_net gives {len(color[-1])} values, not 3 colours")
    decoder = {
        "density": "exp",
        "density_scale": bound,
        "features": features,
        "head": "harmonics",
        "width": len(color[0]),
        "layers": len(color) - 1,
        "bias": False,
    }
    return decoder, network("color_head", color)
