"""SOG scenes of PlayCanvas: splats as quantised pictures, versions 2 and 1.

Source: PlayCanvas, The SOG Format (version 2); playcanvas/sogs for version 1, which has no number.
Axes are those of the splats before: 3DGS's. Scales are logarithms, colours 3DGS's coefficients.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.splats.arrays import (
    COEFFICIENTS,
    SplatArrays,
    say_antialiased,
    splat_arrays,
)
from geodistill.io.splats.smallest_three import from_smallest_three
from geodistill.io.splats.sog_file import SogFile

ROW = 64  # palette entries in a row of their picture
LARGEST_FIRST = 252  # in the fourth channel of a rotation, + 0 to 3 for w, x, y, z
_MOST_ENTRIES = 2**16


def read_sog(path: Path) -> SplatArrays:
    """A bundle, or the meta.json that lies beside its pictures.

    As the format's own tools read it: opacities keep a millionth from 0 and 1, a rotation without
    a valid mark does not turn, and a splat whose label is no entry of the palette has no harmonics.
    Raises InputError for what is missing, damaged, of another version or not finite.
    """
    file = SogFile(path)
    if "lodLevels" in file.meta or "tree" in file.meta:
        raise InputError(
            f"{path} is the index of a streamed scene, not a scene: give the meta.json of a chunk"
        )
    version = file.meta.get("version", 1)
    if version not in (1, 2):
        raise InputError(
            f"{path} is SOG version {json.dumps(version)[:40]}, where 1 and 2 are read: export it "
            "as version 2"
        )
    if file.meta.get("model") == "antialiased" or file.meta.get("antialias") is True:
        say_antialiased(path, "its meta.json")
    return _Scene(file, version).arrays()


class _Scene:
    """What the versions share, and where they differ: codebooks in 2, ranges in 1."""

    def __init__(self, file: SogFile, version: int) -> None:
        self.file, self.codebooks = file, version == 2
        self.count = self._count()
        parts = {"means": 2, "scales": 1, "quats": 1, "sh0": 1}
        self.names = {key: self._files(key, number) for key, number in parts.items()}
        if file.meta.get("shN") is not None and self._values("shN").get("bands") != 0:
            self.names["shN"] = self._files("shN", 2)
        file.check_count(self.count, [name for names in self.names.values() for name in names])

    def arrays(self) -> SplatArrays:
        colours = self._pixels("sh0")
        channels = [colours[:, i] for i in range(4)]
        tables = self._tables("sh0", 3 if self.codebooks else 4)
        sh0 = np.stack([tables[i][channels[i]] for i in range(3)], axis=1)[:, None]
        opacity = _LOGITS if self.codebooks else tables[3]
        scales, tables = self._pixels("scales"), self._tables("scales", 3)
        return splat_arrays(
            self.file.path,
            self._means(),
            _rotations(self._pixels("quats")),
            np.stack([tables[i][scales[:, i]] for i in range(3)], axis=1),
            opacity[channels[3]],
            np.concatenate([sh0, *self._harmonics()], axis=1),
        )

    def _means(self) -> np.ndarray:
        low, high = self._pixels("means", 0), self._pixels("means", 1)
        least, most = (self._numbers("means", key, 3) for key in ("mins", "maxs"))
        columns = []
        for axis in range(3):
            logarithms = _between(least[axis], most[axis], 2**16)
            with np.errstate(over="ignore"):
                table = np.sign(logarithms) * np.expm1(np.abs(logarithms))
            columns.append(table[low[:, axis] | high[:, axis].astype(np.uint16) << 8])
        return np.stack(columns, axis=1)

    def _harmonics(self) -> list[np.ndarray]:
        """[[N, K - 1, 3]], or none where the scene has colours alone."""
        if "shN" not in self.names:
            return []
        entries = self._palette()
        pixels = self._pixels("shN", 1)
        labels = pixels[:, 0] | pixels[:, 1].astype(np.uint16) << 8
        outside = labels >= len(entries)
        if outside.any():
            log.say(
                f"{self.file.path}: {int(outside.sum())} splats have a label beyond the palette's "
                f"{len(entries)} entries and get no harmonics"
            )
            entries = np.pad(entries, ((0, 1), (0, 0), (0, 0)))
            labels = np.minimum(labels, len(entries) - 1)
        return [entries[labels]]

    def _palette(self) -> np.ndarray:
        """float32 [entries, K - 1, 3]"""
        count, coefficients = self._palette_size()
        least = 1 if coefficients is None else -(-count // ROW) * ROW * coefficients
        most = (_MOST_ENTRIES + ROW) * (COEFFICIENTS[-1] - 1)
        picture = self.file.picture(self.names["shN"][0], least, most)
        found = {ROW * (k - 1): k - 1 for k in COEFFICIENTS[1:]}.get(picture.shape[1])
        if found is None or found != (coefficients or found):
            raise InputError(
                f"{self.file.path}: the picture of its palette is {picture.shape[1]} pixels wide, "
                f"where {ROW} entries of {coefficients or '3, 8 or 15'} pixels are: it is damaged"
            )
        entries = picture[..., :3].reshape(-1, found, 3)[:count]
        return self._tables("shN", 1)[0][entries]

    def _palette_size(self) -> tuple[int, int | None]:
        """The number of entries and their harmonics; in version 1 the picture alone says these."""
        if not self.codebooks:
            return _MOST_ENTRIES, None
        count, bands = (self._values("shN").get(key) for key in ("count", "bands"))
        if not _whole(bands) or bands not in (1, 2, 3):
            raise self._bad("shN", "bands", bands, "0 to 3")
        if not _whole(count) or not 1 <= count <= _MOST_ENTRIES:
            raise self._bad("shN", "count", count, f"1 to {_MOST_ENTRIES}")
        return count, COEFFICIENTS[bands] - 1

    def _pixels(self, key: str, number: int = 0) -> np.ndarray:
        """uint8 [N, 4]"""
        name = self.names[key][number]
        picture = self.file.picture(name, self.count, 4 * self.count + 2**16)
        return picture.reshape(-1, 4)[: self.count]

    def _tables(self, key: str, channels: int) -> list[np.ndarray]:
        """float32 [256], what the bytes of each channel stand for; NaN for what is no code."""
        if not self.codebooks:
            least, most = (self._numbers(key, end, channels) for end in ("mins", "maxs"))
            return [
                _between(a, b, 256).astype(np.float32) for a, b in zip(least, most, strict=True)
            ]
        codes = self._values(key).get("codebook")
        if isinstance(codes, list) and len(codes) == 256 and codes[0] is None:
            # older writers left the first code out, and viewers continue the codes' mean step
            rest = self._numbers(key, "codebook", 255, codes[1:])
            codes = [rest[0] + (rest[0] - rest[-1]) / 255, *rest]
        length = min(256, len(codes)) if isinstance(codes, list) else 256
        table = np.full(256, np.nan, np.float32)
        table[:length] = self._numbers(key, "codebook", length, codes)
        return [table] * channels

    def _count(self) -> int:
        if self.codebooks:
            key, name, count = "count", "count", self.file.meta.get("count")
        else:
            shape = self._values("means").get("shape")
            count = shape[0] if isinstance(shape, list) and shape else None
            key, name = "means", "shape"
        if not _whole(count) or count < 1:
            raise self._bad(key, name, count, "a number of splats, 1 or more")
        return count

    def _files(self, key: str, number: int) -> list[str]:
        names = self._values(key).get("files")
        if not isinstance(names, list) or len(names) < number:
            raise self._bad(key, "files", names, f"{number} names of pictures")
        for name in names[:number]:
            if not isinstance(name, str) or not name.isprintable() or not _is_inside(name):
                raise self._bad(key, "files", name, "the name of a picture beside it")
        return names[:number]

    def _values(self, key: str) -> dict[str, Any]:
        found = self.file.meta.get(key)
        if not isinstance(found, dict):
            raise InputError(f"{self.file.path} is no SOG scene: its meta.json has no '{key}'")
        return found

    def _numbers(self, key: str, name: str, length: int, values: Any = None) -> np.ndarray:
        """float64 [length], finite in single precision; one number stands for a list of one."""
        given = self._values(key).get(name) if values is None else values
        listed = given if isinstance(given, list) else [given]
        numbers = [float(v) for v in listed if _real(v)]
        if not length or len(numbers) < length or len(listed) != len(numbers):
            raise self._bad(key, name, given, f"{max(length, 1)} numbers")
        return np.array(numbers[:length])

    def _bad(self, key: str, name: str, value: Any, wanted: str) -> InputError:
        place = name if key == name else f"{key}.{name}"
        return InputError(
            f"{self.file.path}: {place} of its meta.json must be {wanted}, got "
            f"{json.dumps(value)[:60]}: export the scene again"
        )


def _rotations(pixels: np.ndarray) -> np.ndarray:
    """float64 [N, 4] quaternions (w, x, y, z) of three components and the mark of the largest."""
    largest = pixels[:, 3].astype(np.int64) - LARGEST_FIRST
    valid = largest >= 0
    largest[~valid] = 0
    others = ((np.arange(256) / 255 * 2 - 1) / np.sqrt(2))[pixels[:, :3]]
    others[~valid] = 0
    return from_smallest_three(largest, others)


def _between(low: float, high: float, steps: int) -> np.ndarray:
    """float64 [steps], linear from low to high."""
    return low + (high - low) * (np.arange(steps) / (steps - 1))


def _opacity_logits() -> np.ndarray:
    share = np.clip(np.arange(256) / 255, 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share))


_LOGITS = _opacity_logits()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> TypeGuard[float]:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) <= float(np.finfo(np.float32).max)
    )
