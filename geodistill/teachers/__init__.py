"""Teachers: what is known about images and shapes, by name.

`load_teacher("lite0").features(images)` gives a `TokenGrid`; `same_teacher` compares fingerprints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from geodistill.checks import UsageError, choose
from geodistill.teachers import base
from geodistill.teachers.base import Backbone, MeshTeacher, Teacher, same_teacher
from geodistill.teachers.tokens import TokenGrid, token_bilinear, token_index, token_surface

__all__ = [
    "IMAGE_TEACHERS",
    "MESH_TEACHERS",
    "MeshTeacher",
    "Teacher",
    "TokenGrid",
    "load_mesh_teacher",
    "load_teacher",
    "same_teacher",
    "token_bilinear",
    "token_index",
    "token_surface",
]

IMAGE_TEACHERS = {
    "lite0": "geodistill.teachers.lite:lite0",
    "dinov2-s": "geodistill.teachers.hub:dinov2_s",
    "dinov2-s-focus": "geodistill.teachers.focus:dinov2_s_focus",
}
MESH_TEACHERS = {"geometric": "geodistill.teachers.geometric:GeometricTeacher"}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_teacher(
    name_or_folder: str | Path,
    size_px: int | None = None,
    device: str | torch.device = "cpu",
    mirrored: bool = False,
) -> Backbone:
    """An image teacher by name, by the folder of a Hugging Face model, or by its hub name.

    Args:
        name_or_folder: a key of `IMAGE_TEACHERS`, a folder with config.json, or "org/name".
        size_px: pixels of the longer side as the network sees it; the picture's own where None.
        device: where it runs.
        mirrored: ask it about the mirror image too; see `base.Preprocessing`.

    Raises:
        UsageError: an unknown name, or a size below one patch.
        InputError: weights or a package are absent or damaged.
    """
    name = str(name_or_folder)
    if size_px is not None and size_px < 1:
        raise UsageError(f"a teacher's size must be at least one pixel, got {size_px}")
    known = {**IMAGE_TEACHERS, **MESH_TEACHERS}
    if name not in known and _may_be_a_model(name):
        from geodistill.teachers.hub import load_hub_teacher

        teacher = load_hub_teacher(name, size_px, torch.device(device))
        return base.mirrored(teacher) if mirrored else teacher
    maker = choose("teacher", name, known)
    if name in MESH_TEACHERS:
        raise UsageError(f"the teacher '{name}' looks at meshes, not at images")
    teacher = _resolve(maker)(size_px, torch.device(device))
    return base.mirrored(teacher) if mirrored else teacher


def load_mesh_teacher(name: str) -> MeshTeacher:
    """A teacher that needs no images. Raises UsageError for an unknown name."""
    return _resolve(choose("mesh teacher", name, MESH_TEACHERS))()


def _may_be_a_model(name: str) -> bool:
    """Whether it is a folder, or looks like the path of one or like a hub name."""
    looks = name.startswith((".", "~")) or Path(name).is_absolute() or _HUB_NAME.fullmatch(name)
    return bool(looks) or (name != "" and Path(name).exists())


def _resolve(target: str) -> Callable[..., Any]:
    module, attribute = target.split(":")
    return getattr(import_module(module), attribute)
