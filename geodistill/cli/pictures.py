"""The work of `geodistill render`: views of a scene as PNG, EXR or MP4."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geodistill.cameras import Camera, orbit_cameras
from geodistill.checks import UsageError
from geodistill.cli.options import expect_free, is_film, stem_of
from geodistill.geometry.kinds import kind_of
from geodistill.geometry.orientation import Vector, named, up_of
from geodistill.io.exr import write_exr
from geodistill.io.images import write_mp4, write_png
from geodistill.io.posed import load_camera_file, load_cameras
from geodistill.log import progress, say
from geodistill.render.fields import GBuffer
from geodistill.render.viewable import FieldView
from geodistill.render.viewpoints import DEFAULT_FOV_RAD, expect_in_view, framing_distance
from geodistill.runs import make_folder, result_file
from geodistill.shade.color import linear_from_srgb, srgb_from_linear
from geodistill.shade.viewable import Viewable, load_viewable

if TYPE_CHECKING:
    from geodistill.cli.render import Arguments

OURS = re.compile(r"\d{4}(_.*)?\.(png|exr)")
"""Names of the pictures that `render` writes."""
NAME_LENGTH = 48
"""Characters of a frame's name that its picture keeps: file systems take 255 bytes."""
ORBIT_ELEVATION_RAD = 0.4
DEFAULT_RESOLUTION = 400


def write_views(arguments: Arguments) -> dict[str, Any]:
    """Render what the arguments ask for and write it; the result names the files' place."""
    scene = load_viewable(arguments.source, arguments.device)
    cameras, names = _cameras(arguments, scene)
    kind = _format(arguments)
    output = arguments.output or Path(f"{stem_of(arguments.source)}_views")
    linear = scene.color_space == "linear"
    if kind == "mp4":
        if len(arguments.channels) != 1:
            raise UsageError("a film shows one channel: give one name to --channels")
        output = output if is_film(output) else output.with_name(f"{output.name}.mp4")
        make_folder(output.parent)
        expect_free(arguments.overwrite, output)
        channel = arguments.channels[0]
        views = _render(arguments, scene, cameras)
        write_mp4(output, (_picture(view, channel, linear, opaque=True) for view in views))
        return {"output": str(output), "views": len(cameras)}
    stale = _pictures(output, arguments.overwrite)
    written: set[Path] = set()
    for name, view in zip(names, _render(arguments, scene, cameras), strict=True):
        make_folder(output)
        if kind == "exr":
            path = output / f"{name}.exr"
            write_exr(path, _exr_channels(view, arguments.channels, linear))
            written.add(path)
            continue
        for channel in arguments.channels:
            suffix = "" if channel == "color" else f"_{channel}"
            path = output / f"{name}{suffix}.png"
            write_png(path, _picture(view, channel, linear, opaque=False))
            written.add(path)
    for path in stale - written:
        path.unlink()
    return {"output": str(output), "views": len(cameras)}


def _pictures(output: Path, overwrite: bool) -> set[Path]:
    """What an earlier `render` wrote into the folder. Raises UsageError if that may not be
    replaced, or if there is anything else."""
    if not output.is_dir():
        return set()
    found = sorted(output.iterdir())
    foreign = [path.name for path in found if not OURS.fullmatch(path.name)]
    if foreign:
        raise UsageError(f"{output} holds other things ({foreign[0]}): choose another -o")
    if found and not overwrite:
        raise UsageError(f"{output} holds pictures: choose another -o or pass --overwrite")
    return set(found)


def _render(arguments: Arguments, scene: Viewable, cameras: Camera) -> Iterator[GBuffer]:
    normals = "normal" in arguments.channels
    with progress(len(cameras), "rendering views") as bar:
        for i in range(len(cameras)):
            yield scene.view(cameras[i], normals)
            bar.advance()


def _cameras(arguments: Arguments, scene: Viewable) -> tuple[Camera, list[str]]:
    if arguments.orbit is not None:
        resolution = arguments.resolution or DEFAULT_RESOLUTION
        cameras = orbit_cameras(
            arguments.orbit,
            scene.frame.t,
            framing_distance(scene),
            ORBIT_ELEVATION_RAD,
            DEFAULT_FOV_RAD,
            (resolution, resolution),
            _up(arguments, scene),
        )
        return cameras, [f"{i:04d}" for i in range(len(cameras))]
    if arguments.data is not None:
        posed = load_cameras(arguments.data, arguments.split)
    else:
        assert arguments.cameras is not None
        posed = load_camera_file(arguments.cameras)
    cameras = posed.cameras
    expect_in_view(scene, cameras, arguments.data or arguments.cameras)
    if cameras.distortion is not None and not isinstance(scene, FieldView):
        say("fields alone are drawn through lenses that distort: their distortion is left out")
        cameras = replace(cameras, distortion=None)
    if arguments.resolution is not None:
        cameras = cameras.scaled(arguments.resolution / max(cameras.size))
    return cameras, [f"{i:04d}_{_printable(Path(name).stem)}" for i, name in enumerate(posed.names)]


def _up(arguments: Arguments, scene: Viewable) -> Vector:
    """The axis of an orbit. What is not known is z, which most fields and scans have up."""
    if arguments.up is not None:
        return named(arguments.up)
    source = result_file(arguments.source)
    found = up_of(kind_of(source), source, scene.views)
    return named("z") if found.source == "guess" else found.axis


def _printable(name: str) -> str:
    """A part of a file name that every system takes."""
    return "".join(c if c.isprintable() else "_" for c in name)[:NAME_LENGTH]


def _format(arguments: Arguments) -> str:
    if arguments.format is not None:
        return arguments.format
    return "mp4" if arguments.output and is_film(arguments.output) else "png"


def _picture(view: GBuffer, channel: str, linear: bool, opaque: bool) -> Tensor:
    """[H, W, 3 | 4] in [0, 1]: sRGB with straight alpha or over white, depth with near bright."""
    alpha = view.opacity[..., None]
    if channel == "color":
        color = view.over(1.0) if opaque else view.color / alpha.clamp_min(1e-6)
        color = srgb_from_linear(color.clamp_min(0.0)) if linear else color
        return color if opaque else torch.cat([color, alpha], dim=-1)
    if channel == "opacity":
        image = alpha
    elif channel == "normal":
        assert view.normal is not None
        image = 0.5 * (view.normal + 1.0)
    else:
        image = _near_bright(view)[..., None]
    return image.expand(*image.shape[:2], 3)


def _near_bright(view: GBuffer) -> Tensor:
    hit = view.opacity > 0.5
    if not hit.any():
        return torch.zeros_like(view.depth)
    near, far = view.depth[hit].min(), view.depth[hit].max()
    return (1.0 - 0.8 * (view.depth - near) / (far - near).clamp_min(1e-9)) * hit


def _exr_channels(view: GBuffer, channels: tuple[str, ...], linear: bool) -> dict[str, Tensor]:
    """Premultiplied linear colour with A, world depth as Z (infinite behind nothing), normals as
    N.*"""
    out: dict[str, Tensor] = {}
    if "color" in channels:
        color = view.color
        if not linear:
            alpha = view.opacity[..., None].clamp_min(1e-6)
            color = linear_from_srgb(color / alpha) * alpha
        out |= dict(zip("RGB", color.unbind(-1), strict=True))
    if "color" in channels or "opacity" in channels:
        out["A"] = view.opacity
    if "depth" in channels:
        out["Z"] = torch.where(view.opacity > 0.5, view.depth, torch.inf)
    if "normal" in channels:
        assert view.normal is not None
        out |= dict(zip(("N.X", "N.Y", "N.Z"), view.normal.unbind(-1), strict=True))
    return out
