"""The intrinsics of a frame in a transforms.json."""

from __future__ import annotations

import math
from typing import Any

from geodistill.checks import InputError
from geodistill.io.frames import MAX_SIDE_PX, Lens
from geodistill.io.json_values import optional_number

_NUMBERS = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")
_QUOTED = ("k1", "k2", "k3", "k4", "p1", "p2")
_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE")
_OTHER_LENSES = ("is_fisheye", "ftheta_p0", "latlong", "equirectangular", "lonlat")
_UNDISTORT = (
    "undistort the images to a pinhole camera first, for example with colmap image_undistorter"
)


def read_lens(values: dict[str, Any], where: str) -> Lens:
    """The lens of a frame: `values` holds the file's keys with the frame's own over them. Its
    distortion may be in quotes, as nerfstudio once wrote RealityCapture's."""
    values = {**values, **{key: _unquoted(values[key]) for key in _QUOTED if key in values}}
    _expect_known(values, where)
    lens = {key: optional_number(values, key, where) for key in _NUMBERS}
    angle = {
        key: optional_number(values, key, where) for key in ("camera_angle_x", "camera_angle_y")
    }
    if lens["fl_x"] is None and angle["camera_angle_x"] is None and lens["fl_y"] is None:
        raise InputError(
            f"{where} has neither fl_x nor camera_angle_x: add its focal length in pixels as fl_x"
        )
    for key in ("fl_x", "fl_y"):
        value = lens[key]
        if value is not None and not value > 0:
            raise InputError(
                f"{where} has {key} = {value}: a focal length in pixels must be positive"
            )
    for key, value in angle.items():
        if value is not None and not 0 < value < math.pi:
            raise InputError(
                f"{where} has {key} = {value}: an angle of view lies between 0 and pi radians"
            )
    return Lens(
        lens["fl_x"],
        lens["fl_y"],
        lens["cx"],
        lens["cy"],
        angle["camera_angle_x"],
        # Beside fl_x in pixels, an exporter's rounded angle must not make the pixels oblong.
        angle["camera_angle_y"] if lens["fl_x"] is None else None,
        (lens["k1"] or 0.0, lens["k2"] or 0.0, lens["p1"] or 0.0, lens["p2"] or 0.0),
    )


def read_size(values: dict[str, Any], where: str) -> tuple[int, int] | None:
    """(H, W), or None where the file states neither."""
    width, height = (optional_number(values, key, where) for key in ("w", "h"))
    if width is None and height is None:
        return None
    if width is None or height is None:
        raise InputError(f"{where} has only one of w and h: add the other")
    if not all(side == int(side) and 1 <= side <= MAX_SIDE_PX for side in (width, height)):
        raise InputError(
            f"{where} has w = {width:g}, h = {height:g}: they must be whole numbers of pixels"
        )
    return int(height), int(width)


def _unquoted(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _expect_known(values: dict[str, Any], where: str) -> None:
    model = values.get("camera_model", "OPENCV")
    other = next((key for key in _OTHER_LENSES if values.get(key)), None)
    if model not in _MODELS or other:
        named = f"camera_model '{model}'" if model not in _MODELS else f"a lens with '{other}'"
        raise InputError(f"{where} has {named}, known are {', '.join(_MODELS)}: {_UNDISTORT}")
    for key in ("k3", "k4", "k5", "k6"):
        if optional_number(values, key, where):
            raise InputError(
                f"{where} has {key} = {values[key]}, only k1, k2, p1, p2 are known: {_UNDISTORT}"
            )
