"""Radiance fields: one protocol, six architectures, one file format."""

from __future__ import annotations

from geodistill.geometry.fields.base import Field, ParamGroup
from geodistill.geometry.fields.build import ARCHITECTURES, build_field
from geodistill.geometry.fields.files import describe, field_path, load_field, save_field

__all__ = [
    "ARCHITECTURES",
    "Field",
    "ParamGroup",
    "build_field",
    "describe",
    "field_path",
    "load_field",
    "save_field",
]
