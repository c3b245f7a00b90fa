"""The parts of a SOG scene, bundled in a ZIP archive or beside meta.json, none read unbounded.

Source: PlayCanvas, The SOG Format, sections 1 and 2.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from geodistill.checks import InputError
from geodistill.io.whole_file import read_start, read_whole

META = "meta.json"
_LONGEST_META = 2**22
_FORMATS = ("WEBP", "PNG")
_MODES = ("RGB", "RGBA", "L", "LA", "P")
_SLACK, _PER_BYTE = 2**18, 8  # splats without a byte and for each: real ones take ten bytes each
_ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, struct.error, RuntimeError,
    NotImplementedError, OverflowError,
)  # fmt: skip
_PICTURE_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


class SogFile:
    """The object of meta.json and the pictures by their names.

    Raises InputError for what is missing, damaged, or would unpack to more than it can be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._folder = PurePosixPath()
        self._length = 0
        if path.name.lower().endswith(".json"):
            content = read_start(path, _LONGEST_META + 1)
            if len(content) > _LONGEST_META:
                raise InputError(f"{path} is larger than any {META} of a SOG scene: check its name")
        else:
            content = self._opened(read_whole(path, b"PK", "a SOG bundle, which is a ZIP archive"))
        self.meta = _json_object(content, path)

    def check_count(self, count: int, names: list[str]) -> None:
        """Raises InputError for more splats than the pictures of these names can hold."""
        size = sum(self._size(name) for name in names)
        if self._archive is not None:
            size = min(size, self._length)
        if count > _SLACK + _PER_BYTE * size:
            raise InputError(
                f"{self.path} declares {count} splats, but its pictures have {size} bytes: it is "
                "damaged"
            )

    def picture(self, name: str, least: int, most: int) -> np.ndarray:
        """uint8 [H, W, 4] with least to most pixels; alpha is 255 where the picture has none."""
        where = f"{self.path}: its picture {name}"
        data = self._read(name, 8 * most + 2**16)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(data), formats=_FORMATS)
            with image:
                pixels = image.width * image.height
                if pixels < least:
                    raise InputError(f"{where} has {pixels} pixels, but {least} are needed")
                if pixels > most:
                    raise InputError(f"{where} has {pixels} pixels, where at most {most} are used")
                if image.mode not in _MODES:
                    raise InputError(f"{where} does not have 8 bits a channel ({image.mode})")
                return np.asarray(image.convert("RGBA"))
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError(f"{where} is not a whole WebP or PNG picture: copy it again") from None
        except Image.DecompressionBombError as error:
            raise InputError(f"{where} is refused: {error}") from None
        except _PICTURE_DAMAGE as error:
            raise InputError(f"{where} is truncated or damaged ({error}): copy it again") from None

    def _opened(self, data: bytes) -> bytes:
        """The bytes of meta.json, the one nearest to the archive's root."""
        self._length = len(data)
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
            names = [PurePosixPath(name) for name in self._archive.namelist()]
        except _ZIP_DAMAGE as error:
            raise InputError(
                f"{self.path} is a truncated or damaged ZIP archive ({error}): copy it again"
            ) from None
        found = sorted((n for n in names if n.name == META), key=lambda n: len(n.parts))
        if not found:
            raise InputError(f"{self.path} is no SOG bundle: it has no {META}")
        self._folder = found[0].parent
        return self._member(META, _LONGEST_META)

    def _size(self, name: str) -> int:
        try:
            if self._archive is not None:
                return self._archive.getinfo(str(self._folder / name)).compress_size
            return (self.path.parent / name).stat().st_size
        except (KeyError, OSError):
            raise InputError(
                f"{self.path} lacks its picture {name}: copy the whole scene"
            ) from None

    def _read(self, name: str, most: int) -> bytes:
        if self._archive is not None:
            return self._member(name, most)
        return read_whole(self.path.parent / name)

    def _member(self, name: str, most: int) -> bytes:
        assert self._archive is not None
        try:
            entry = self._archive.getinfo(str(self._folder / name))
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"compression {entry.compress_type}")
            if entry.file_size > most:
                raise InputError(
                    f"{self.path}: its {name} would unpack to {entry.file_size} bytes, where at "
                    f"most {most} are used"
                )
            return self._archive.read(entry)
        except KeyError:
            raise InputError(f"{self.path} lacks {name}: copy the whole scene") from None
        except InputError:
            raise
        except _ZIP_DAMAGE as error:
            why = str(error)[:80]  # some quote the archive
            raise InputError(
                f"{self.path}: its {name} is truncated or damaged ({why}): copy it again"
            ) from None


def _json_object(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: its {META} is not valid JSON ({error}): it may be truncated, copy it again"
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: its {META} is not a JSON object")
    return found
