"""Fields on disk: one checksummed safetensors file that holds the whole scene.

Tensors: `param.*`, the occupancy grid and the sparse-voxel nodes as packed bits, the frame, and
the cameras the field was made from. Metadata: architecture, configuration, colour space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill import config as configs
from geodistill.cameras import Camera, Similarity
from geodistill.checks import InputError, check_finite, choose
from geodistill.geometry.contraction import Contraction
from geodistill.geometry.fields.base import Field
from geodistill.geometry.fields.build import ARCHITECTURES, build_field
from geodistill.geometry.fields.foreign import arrays_from_field, field_from_arrays
from geodistill.geometry.fields.plenoxels import Plenoxels
from geodistill.io.fields import format_of, read_field, write_field
from geodistill.io.nerfstudio import checkpoint_of, is_run
from geodistill.runs import is_unfinished, load_tensors, result_file, save_tensors

KIND = "field"
VERSION = 1
FIELD_FILE = "field.safetensors"
OF_OTHERS = frozenset(
    {"layers", "bias", "resolutions", "grid", "sh_degree", "frequencies", "skip", "trunk_out"}
    | {"box", "decoder", "level_scale", "limits", "density", "color", "nodes"}
)
"""Settings that files of other programs have and our own fields leave as they are."""
_CONTRACTIONS: dict[str, Contraction] = {"none": "none", "linf": "linf", "l2": "l2"}


def save_field(field: Field, path: Path) -> None:
    """Write the field to one file, atomically; the ending of the name says the format.

    Raises:
        UsageError: what another program's format does not hold.
        InputError: the field holds NaN or infinite values, or the disk refused the write.
    """
    if format_of(path) is not None:
        check_finite(**dict(field.named_parameters()))
        return write_field(path, arrays_from_field(field))
    save_tensors(path, field_tensors(field), field_metadata(field))


def load_field(path: Path | str, device: str | torch.device = "cpu") -> Field:
    """Read a field from its file, the run folder that made it, or another program's file.

    Raises:
        InputError: no such file, not a field, damaged, or its values are not finite.
    """
    path = field_path(path)
    if format_of(path) is not None:
        return field_from_arrays(read_field(path), str(path)).to(device)
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND:
        raise InputError(
            f"{path} holds {metadata.get('kind', 'something')!r}, not a radiance field"
        )
    if int(metadata.get("version", 0)) > VERSION:
        raise InputError(f"{path} was written by a newer geodistill: update this one")
    try:
        field = field_from_tensors(tensors, metadata)
    except KeyError as error:
        raise InputError(f"{path} lacks {error}, which its description asks for") from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold what its description says: {error}") from None
    return field.to(device)


def field_path(path: Path | str) -> Path:
    """The field file that a path means: itself, or the one in a run folder, ours or nerfstudio's.

    Raises:
        InputError: a folder without one, or a pipe or device.
    """
    path = result_file(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is neither a file nor a folder")
    if is_run(path):
        return checkpoint_of(path)
    if not path.is_dir():
        return path
    file = path / FIELD_FILE
    if not file.exists():
        if is_unfinished(path):
            raise InputError(
                f"{path} is of a run that was interrupted: give its command again to finish it"
            )
        raise InputError(f"{path} has no {FIELD_FILE}: it is not a finished run of fit or convert")
    return file


def field_tensors(field: Field) -> dict[str, Tensor]:
    """Everything of a field that is a tensor, on the CPU, ready to be stored."""
    parameters = {f"param.{name}": p.detach().cpu() for name, p in field.named_parameters()}
    check_finite(**parameters)
    tensors = {**parameters, "occupancy": _pack(field.occupancy)}
    tensors["world_from_field"] = field.world_from_field.cpu()
    if isinstance(field, Plenoxels):
        tensors["nodes"] = _pack(field.links >= 0)
    if field.views is not None:
        tensors["views.K"] = field.views.K.cpu()
        tensors["views.world_from_cam"] = field.views.world_from_cam.cpu()
        if field.views.distortion is not None:
            tensors["views.distortion"] = field.views.distortion.cpu()
        tensors["views.size"] = torch.tensor(field.views.size)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def field_metadata(field: Field) -> dict[str, Any]:
    """What rebuilds the field around its tensors."""
    return {
        "kind": KIND,
        "version": VERSION,
        "architecture": field.architecture,
        "config": configs.to_dict(field.config),
        "color_space": field.color_space,
        "occupancy_resolution": field.occupancy.shape[0],
        "contraction": field.contraction,
    }


def field_from_tensors(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Field:
    """The inverse of `field_tensors` and `field_metadata`."""
    architecture = choose("field architecture", metadata["architecture"], ARCHITECTURES)
    config = configs.from_dict(architecture.config, metadata["config"])
    field = build_field(metadata["architecture"], config)
    resolution = metadata["occupancy_resolution"]
    field.occupancy = _unpack(tensors["occupancy"], (resolution,) * 3)
    if metadata["color_space"] not in ("srgb", "linear"):
        raise InputError(f"color space {metadata['color_space']!r}, known are srgb and linear")
    field.color_space = metadata["color_space"]
    field.contraction = choose("contraction", metadata.get("contraction", "none"), _CONTRACTIONS)
    restore_field(field, tensors)
    if "views.K" in tensors:
        height, width = tensors["views.size"].tolist()
        field.views = Camera(
            tensors["views.K"],
            tensors["views.world_from_cam"],
            (height, width),
            tensors.get("views.distortion"),
        )
    return field


def restore_field(field: Field, tensors: dict[str, Tensor]) -> None:
    """Put stored tensors back into a field of the same configuration and resolution."""
    check_finite(**{name: t for name, t in tensors.items() if t.is_floating_point()})
    field.occupancy = _unpack(tensors["occupancy"], field.occupancy.shape)
    Similarity.from_matrix(tensors["world_from_field"])  # refuses what is not one
    field.world_from_field = tensors["world_from_field"].double()
    if isinstance(field, Plenoxels):
        nodes, values = _unpack(tensors["nodes"], field.links.shape), tensors["param.values"]
        if values.shape != (int(nodes.sum()), field.channels):
            raise InputError(
                f"{int(nodes.sum())} voxel nodes, but values of shape {[*values.shape]}"
            )
        field.allocate(nodes, values)
    with torch.no_grad():
        for name, parameter in field.named_parameters():
            stored = tensors[f"param.{name}"]
            if stored.shape != parameter.shape:
                raise InputError(
                    f"{name} has shape {list(stored.shape)}, expected {list(parameter.shape)}"
                )
            parameter.copy_(stored)


def describe(path: Path | str) -> dict[str, Any]:
    """What a field file is, for `geodistill info`."""
    field = load_field(path)
    low, high = scene_bounds(field)
    return {
        "kind": "radiance field",
        "architecture": field.architecture,
        "config": _shown_config(field.config),
        "parameters": field.parameter_count(),
        "occupied": round(float(field.occupancy.float().mean()), 4),
        "bounds": [low.tolist(), high.tolist()],
        "color_space": field.color_space,
        "contraction": field.contraction,
        "views": 0 if field.views is None else len(field.views),
    }


def _shown_config(config: Any) -> dict[str, Any]:
    """Sizes; and what only files of other programs change where they did."""
    told, usual = configs.to_dict(config), configs.to_dict(type(config)())
    return {k: v for k, v in told.items() if k not in OF_OTHERS or v != usual[k]}


def scene_bounds(field: Field) -> tuple[Tensor, Tensor]:
    """World-space corners of the unit cube's axis-aligned box. ([3], [3])"""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    world = field.frame.apply(corners)
    return world.amin(dim=0), world.amax(dim=0)


def _pack(bits: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(bits.cpu().numpy().reshape(-1)))


def _unpack(packed: Tensor, shape: Sequence[int]) -> Tensor:
    count = math.prod(shape)
    expected = -(-count // 8)
    if packed.numel() != expected:
        text = " x ".join(str(n) for n in shape)
        raise InputError(f"a grid of {text} bits takes {expected} bytes, not {len(packed)}")
    bits = np.unpackbits(packed.numpy(), count=count).astype(bool)
    return torch.from_numpy(bits).reshape(*shape)
