"""geodistill: distil 3D representations and what they know into one another.

The names below are the public ones. Each is imported when it is first used, so that
`import geodistill` stays fast. None may be the name of a room: importing the room would hide it.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Camera": "geodistill.cameras:Camera",
    "Field": "geodistill.geometry.fields:Field",
    "Similarity": "geodistill.cameras:Similarity",
    "compare": "geodistill.metrics.fidelity:compare",
    "convert_field": "geodistill.distill.pvd:convert",
    "fit_field": "geodistill.fit.field:fit",
    "load_field": "geodistill.geometry.fields:load_field",
    "render_view": "geodistill.render.fields:render_view",
    "render_views": "geodistill.render.fields:render_views",
    "view": "geodistill.viewer.notebook:view",
}

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'geodistill' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _PUBLIC[name].split(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
