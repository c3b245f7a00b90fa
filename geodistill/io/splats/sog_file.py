"""The parts of a SOG scene, bundled in a ZIP archive or beside meta.json, none read unbounded.

Source: PlayCanvas, The SOG Format, sections 1 and 2.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from geodistill.checks import InputError
from geodistill.io.json_values import json_object
from geodistill.io.whole_file import read_start, read_whole
from geodistill.io.zip_entries import Entry, expect_whole, unpacked, zip_entries

META = "meta.json"
_LONGEST_META = 2**22
_FORMATS = ("WEBP", "PNG")
_MODES = ("RGB", "RGBA", "L", "LA", "P")
_SLACK, _PER_BYTE = 2**18, 8  # splats without a byte and for each: real ones take ten bytes each
_PICTURE_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


class SogFile:
    """The object of meta.json and the pictures by their names.

    Raises InputError for what is missing, damaged, or would unpack to more than it can be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[PurePosixPath, Entry] | None = None
        self._data = np.empty(0, np.uint8)
        self._folder = PurePosixPath()
        if path.name.lower().endswith(".json"):
            content = read_start(path, _LONGEST_META + 1)
            if len(content) > _LONGEST_META:
                raise InputError(f"{path} is larger than any {META} of a SOG scene: check its name")
        else:
            content = self._opened(read_whole(path, b"PK", "a SOG bundle, which is a ZIP archive"))
        self.meta = json_object(content, f"{path}: its {META}")

    def check_count(self, count: int, names: list[str]) -> None:
        """Raises InputError for more splats than the pictures of these names can hold."""
        size = sum(self._size(name) for name in names)
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
        self._data = np.frombuffer(data, np.uint8)
        entries = zip_entries(self.path, self._data)
        self._entries = {PurePosixPath(name): entry for name, entry in entries.items()}
        found = sorted((n for n in self._entries if n.name == META), key=lambda n: len(n.parts))
        if not found:
            raise InputError(f"{self.path} is no SOG bundle: it has no {META}")
        self._folder = found[0].parent
        return self._read(META, _LONGEST_META)

    def _size(self, name: str) -> int:
        if self._entries is not None:
            return self._entry(name).packed
        try:
            return (self.path.parent / name).stat().st_size
        except OSError:
            raise self._lacks(name) from None

    def _read(self, name: str, most: int) -> bytes:
        if self._entries is None:
            return read_whole(self.path.parent / name)
        entry = self._entry(name)
        if entry.size > most:
            raise InputError(
                f"{self.path}: its {name} would unpack to {entry.size} bytes, where at most {most} "
                "are used"
            )
        content = unpacked(self.path, self._data, name, entry)
        expect_whole(self.path, name, entry, content)
        return content.tobytes()

    def _entry(self, name: str) -> Entry:
        assert self._entries is not None
        entry = self._entries.get(self._folder / name)
        if entry is None:
            raise self._lacks(name)
        return entry

    def _lacks(self, name: str) -> InputError:
        return InputError(f"{self.path} lacks its picture {name}: copy the whole scene")
