"""Posed images of NeRF-synthetic (Blender), nerfstudio, instant-ngp and COLMAP.

The layout is recognised by what the folder holds. Cameras land in the user's own frame with
OpenCV axes; nothing is centred, scaled or rotated.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geodistill import log
from geodistill.cameras import Camera
from geodistill.checks import InputError, UsageError
from geodistill.io import blender, colmap, transforms
from geodistill.io.frames import (
    Frame,
    FrameSet,
    common_size,
    of_pictures,
    size_text,
    to_camera,
)
from geodistill.io.images import ImageInfo, image_info, read_mask, read_pixels
from geodistill.io.splits import expect_split

Background = Literal["auto", "white", "black", "scene"]

_THREADS = min(8, os.cpu_count() or 1)
_QUIET_S = 2.0  # what loads faster than this shows no progress


@dataclass(frozen=True)
class PosedCameras:
    """cameras [V], a name per camera, and what the file states besides (`PosedImages`)."""

    cameras: Camera
    names: tuple[str, ...]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class PosedImages:
    """cameras [V] with their pictures.

    images       [V, H, W, 3 | 4]: uint8, or float32 where a picture has more than 8 bits (16-bit
                 PNG in [0, 1], EXR)
    color_space  "srgb" (PNG, JPEG, WebP: straight alpha) or "linear" (EXR: premultiplied alpha)
    names        as the data set spells them
    metadata     what the file states and nothing here applies (`layout`, `aabb_scale`, ...)
    """

    cameras: Camera
    images: Tensor
    names: tuple[str, ...]
    color_space: str
    metadata: dict[str, Any]

    @property
    def has_alpha(self) -> bool:
        return self.images.shape[-1] == 4

    @property
    def premultiplied(self) -> bool:
        return self.has_alpha and self.color_space == "linear"

    def digest(self) -> str:
        """The same for the same cameras and pictures only."""
        found = hashlib.sha256(repr([self.cameras.size, self.color_space]).encode())
        cameras = self.cameras
        for tensor in (cameras.K, cameras.world_from_cam, cameras.distortion, self.images):
            if tensor is not None:
                found.update(tensor.contiguous().numpy().data)
        return found.hexdigest()[:16]

    def behind(self, background: Background) -> float | None:
        """The grey level behind the object, or None where the images' alpha tells object from
        background.

        Args:
            background: auto reads alpha; white or black for images painted on one; scene when the
                images show their surroundings (which leave nothing behind them: 0).

        Raises:
            InputError: auto, and the images have no alpha or are opaque everywhere.
            UsageError: a background is stated although the images have alpha.
        """
        if background == "auto":
            if not self.has_alpha or self._is_opaque():
                lack = "are opaque everywhere" if self.has_alpha else "have no alpha channel"
                raise InputError(
                    f"the images {lack}, so what is background is unknown: pass --background white "
                    "or black if the object is shown on one, or scene if the surroundings belong "
                    "to the picture"
                )
            return None
        if self.has_alpha and not self._is_opaque():
            raise UsageError(f"the images have alpha: leave out --background {background}")
        return 1.0 if background == "white" else 0.0

    def _is_opaque(self) -> bool:
        alpha = self.images[..., 3]
        return bool((alpha >= (255 if alpha.dtype == torch.uint8 else 1.0)).all())

    def composite(self, pixels: Tensor, background: Tensor | float) -> Tensor:
        """Pixels of `images` [..., 3 | 4] over a background (grey, [3], [..., 3]), as float."""
        values = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        if values.shape[-1] == 3:
            return values
        rgb, alpha = values[..., :3], values[..., 3:]
        return (rgb if self.premultiplied else rgb * alpha) + (1 - alpha) * background


def load_posed_images(
    path: Path | str, split: str = "train", dtype: torch.dtype = torch.float32
) -> PosedImages:
    """Cameras and pictures of a data set, given by its folder or its transforms.json.

    `split` is train, val, test or all; `dtype` is the cameras'. Raises UsageError for an unknown
    split and InputError, naming the file and the remedy, for whatever is wrong with the data.
    """
    with _system_refusals(path):
        return _load(_read(Path(path), split), dtype)


def load_cameras(
    path: Path | str, split: str = "train", dtype: torch.dtype = torch.float32
) -> PosedCameras:
    """As `load_posed_images` without reading pictures.

    An image size that the data set does not state is taken from the header of its first picture.
    """
    with _system_refusals(path):
        return _posed_cameras(_read(Path(path), split), dtype)


def load_camera_file(path: Path | str, dtype: torch.dtype = torch.float32) -> PosedCameras:
    """Every camera of a file in the transforms.json form, as `save_cameras` writes it, in order."""
    with _system_refusals(path):
        return _posed_cameras(transforms.read_transforms(Path(path)), dtype)


@contextmanager
def _system_refusals(path: Path | str) -> Iterator[None]:
    """What the system says no to (permissions, names too long) is bad input as well."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {error.filename or path}: {error.strerror}") from None


def _load(frame_set: FrameSet, dtype: torch.dtype) -> PosedImages:
    frames, source = frame_set.frames, frame_set.source
    files = _expect_files(frames, source)
    infos = _in_threads(image_info, files, "reading image headers")
    size, frames = _of_one_size(frames, files, infos, source)
    linear = {info.dtype == np.float32 for info in infos}
    if len(linear) > 1:
        raise InputError(
            f"{source} mixes EXR images (linear) with PNG or JPEG images (sRGB): convert them to "
            "one kind"
        )
    images = _pixels(frames, files, infos, size, source)
    cameras = to_camera(frames, size, source, dtype)
    names = tuple(frame.name for frame in frames)
    return PosedImages(
        cameras, images, names, "linear" if linear == {True} else "srgb", frame_set.metadata
    )


def _posed_cameras(frame_set: FrameSet, dtype: torch.dtype) -> PosedCameras:
    frames, source = frame_set.frames, frame_set.source
    size = common_size(frames, source)
    if size is None:
        first = frames[0].image
        if first is None or not first.is_file():
            raise InputError(
                f"{source} states no w and h, and its first image {first} does not exist: add w "
                "and h"
            )
        size = image_info(first).size
    cameras = to_camera(frames, size, source, dtype)
    return PosedCameras(cameras, tuple(frame.name for frame in frames), frame_set.metadata)


def _read(path: Path, split: str) -> FrameSet:
    expect_split(split)
    if not path.exists():
        raise InputError(
            f"{path} does not exist: give the folder of a data set or its transforms.json"
        )
    if path.is_file():
        if path.suffix.lower() != ".json":
            raise InputError(f"{path} is not a data set: give its folder or its transforms.json")
        if path in [blender.blender_file(path.parent, name) for name in blender.BLENDER_SPLITS]:
            raise InputError(f"{path} is one split of a data set: give its folder, {path.parent}")
        return transforms.read_split(path, split)
    if blender.is_blender(path):
        return blender.read_blender(path, split)
    if (path / transforms.NAME).is_file():
        return transforms.read_split(path / transforms.NAME, split)
    if colmap.find_model(path) is not None:
        return colmap.read_colmap(path, split)
    places = ", ".join(colmap.PLACES)
    raise InputError(
        f"{path} holds no known data set: looked for transforms_train.json (Blender), "
        "transforms.json (nerfstudio, instant-ngp), and cameras and images .bin or .txt (COLMAP) "
        f"in {places}"
    )


def _expect_files(frames: list[Frame], source: Path) -> list[Path]:
    nameless = next((frame.name for frame in frames if frame.image is None), None)
    if nameless is not None:
        raise InputError(
            f"{source}: {nameless} has no file_path: it lists cameras without pictures"
        )
    files = [frame.image for frame in frames if frame.image is not None]
    for kind, wanted in (
        ("images", files),
        ("masks", [frame.mask for frame in frames if frame.mask is not None]),
    ):
        missing = [file for file in wanted if not file.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(wanted)} {kind} named in {source} are missing, the first "
                f"is {missing[0]}: put them there or remove their entries"
            )
    return files


def _of_one_size(
    frames: list[Frame], files: list[Path], infos: list[ImageInfo], source: Path
) -> tuple[tuple[int, int], list[Frame]]:
    """The pictures' size, and the frames of pictures of that size."""
    size = infos[0].size
    for file, info in zip(files, infos, strict=True):
        if info.size != size:
            raise InputError(
                f"{files[0]} is {size_text(size)} but {file} is {size_text(info.size)}: "
                "all pictures of a data set must have one size, resize or crop them"
            )
    own = of_pictures(frames, size, source)
    if own is None:
        raise InputError(
            f"{files[0]} is {size_text(size)} but {source} declares "
            f"{size_text(common_size(frames, source))}: use the pictures that the cameras were "
            "made for, or correct the intrinsics"
        )
    return size, own


def _pixels(
    frames: list[Frame],
    files: list[Path],
    infos: list[ImageInfo],
    size: tuple[int, int],
    source: Path,
) -> Tensor:
    """[V, H, W, C], filled in place by threads, so that no picture is in memory twice."""
    masked = any(frame.mask is not None for frame in frames)
    if masked:
        log.say(f"what the masks of {source} hide counts as empty")
    alpha = masked or any(info.channels == 4 for info in infos)
    opaque = [
        file
        for file, frame, info in zip(files, frames, infos, strict=True)
        if info.channels == 3 and frame.mask is None
    ]
    if alpha and opaque:
        log.say(
            f"{len(opaque)} of the {len(files)} pictures of {source} have no alpha and count as "
            f"foreground everywhere, the first is {opaque[0]}"
        )
    eight_bit = all(info.dtype == np.uint8 for info in infos)
    shape = (len(files), *size, 4 if alpha else 3)
    try:
        images = torch.empty(shape, dtype=torch.uint8 if eight_bit else torch.float32)
    except RuntimeError:
        gib = np.prod(shape, dtype=float) * (1 if eight_bit else 4) / 2**30
        raise InputError(
            f"the {len(files)} pictures of {source} need {gib:.1f} GiB of memory: scale them down"
        ) from None
    array = images.numpy()

    def fill(view: int) -> None:
        _fill(array[view], files[view], frames[view].mask, infos[view].size)

    _in_threads(fill, list(range(len(files))), "reading images")
    return images


def _fill(target: np.ndarray, file: Path, mask_file: Path | None, size: tuple[int, int]) -> None:
    """Put a picture into `target` [H, W, C], its alpha multiplied by the mask."""
    pixels = read_pixels(file)
    linear = pixels.dtype == np.float32
    if linear and not np.isfinite(pixels).all():
        raise InputError(f"{file} holds NaN or infinite pixels: mend or remove the picture")
    unit = 255 if target.dtype == np.uint8 else 1
    if not linear and target.dtype != pixels.dtype:
        pixels = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    target[..., :3] = pixels[..., :3]
    if target.shape[-1] == 4:
        target[..., 3] = pixels[..., 3] if pixels.shape[-1] == 4 else unit
    if mask_file is None:
        return
    mask = read_mask(mask_file)
    if mask.shape != size:
        raise InputError(
            f"the mask {mask_file} is {size_text(mask.shape)} but its image is {size_text(size)}"
        )
    share = mask.astype(np.float32)[..., None] / 255
    masked = slice(0, 4) if linear else slice(3, 4)  # linear pictures are premultiplied
    scaled = target[..., masked] * share
    target[..., masked] = scaled.round() if target.dtype == np.uint8 else scaled


def _in_threads(work: Callable[[Any], Any], items: list[Any], what: str) -> list[Any]:
    """`work` on every item, results in order; the first failure ends it."""
    started = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool, ExitStack() as shown:
        futures = [pool.submit(work, item) for item in items]
        bar = None
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if bar is not None:
                    bar.advance()
                elif time.monotonic() - started > _QUIET_S:
                    bar = shown.enter_context(log.progress(len(items), what))
                    bar.advance(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
