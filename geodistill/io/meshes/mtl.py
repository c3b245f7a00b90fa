"""Wavefront MTL: names, diffuse colours and diffuse textures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.meshes.arrays import MaterialArrays
from geodistill.io.meshes.textures import (
    encode_png,
    find_beside,
    read_texture,
    texture_name,
    tinted,
)

DEFAULT = (0.8, 0.8, 0.8, 1.0)
"""The colour of a material that nothing describes."""

_OPTION_VALUES = {"-mm": 2, "-o": 3, "-s": 3, "-t": 3}  # others take one; the last three up to it


def read_mtl(path: Path, pictures: dict[Path, np.ndarray]) -> list[MaterialArrays]:
    """The materials of a library, in its order; `pictures` as in `read_texture`.

    A texture replaces Kd, which exporters fill with greys that nobody sees; `d` and `Tr` are the
    alpha. Raises InputError for a texture that is no picture; a missing one is reported in a line.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    found: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        words = line.split(None, 1)
        if not words:
            continue
        key, rest = words[0].lower(), words[1].strip() if len(words) > 1 else ""
        if key == "newmtl":
            found.append((rest, {}))
        elif found and rest:
            found[-1][1][key] = rest
    return [_material(name, values, path, pictures) for name, values in found]


def find_mtl(folder: Path, names: str) -> list[Path]:
    """The libraries that one `mtllib` line names: one name with blanks in it, or several."""
    whole = find_beside(folder, names)
    if whole is not None:
        return [whole]
    return [path for name in names.split() if (path := find_beside(folder, name)) is not None]


def _material(
    name: str, values: dict[str, str], path: Path, pictures: dict[Path, np.ndarray]
) -> MaterialArrays:
    alpha = 1.0
    if "d" in values:
        alpha = _number(values["d"].split()[-1], 1.0)
    elif "tr" in values:
        alpha = 1 - _number(values["tr"].split()[-1], 0.0)
    texture = None
    if "map_kd" in values:
        picture = _file_name(values["map_kd"], path)
        texture = read_texture(path.parent, picture, path, pictures)
    colour = DEFAULT[:3]
    if "kd" in values:
        parts = [_number(part, 0.8) for part in values["kd"].split()[:3]]
        colour = tuple(parts) if len(parts) == 3 else (parts[0],) * 3
    if texture is not None:
        colour = (1.0, 1.0, 1.0)
    r, g, b, a = (min(max(value, 0.0), 1.0) for value in (*colour, alpha))
    return {"name": name, "base_color": (r, g, b, a), "texture": texture}


def _file_name(value: str, path: Path) -> str:
    """What follows the options of a map statement; the name itself may hold blanks."""
    words = value.split(" ")
    while len(words) > 1 and words[0].startswith("-"):
        option, wanted = words[0], _OPTION_VALUES.get(words[0], 1)
        taken = 1
        while taken <= wanted and taken < len(words) - 1:
            if wanted == 3 and not _is_number(words[taken]):
                break
            taken += 1
        if option in ("-o", "-s") and set(words[1:taken]) - {"0", "0.0", "1", "1.0"}:
            log.say(f"{path}: the texture's option {' '.join(words[:taken])} is not applied")
        words = words[taken:]
    return " ".join(words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _number(word: str, otherwise: float) -> float:
    value = float(word) if _is_number(word) else otherwise
    return value if np.isfinite(value) else otherwise


def mtl_files(materials: list[MaterialArrays], stem: str) -> tuple[dict[str, bytes], list[str]]:
    """The files of a library, {stem}.mtl and its PNG textures, and the name of each material.

    Names are made distinct and free of line breaks, since faces refer to them.
    """
    names, files, lines = _distinct([m["name"] for m in materials]), {}, []
    for number, (name, material) in enumerate(zip(names, materials, strict=True)):
        red, green, blue, alpha = material["base_color"]
        lines += [f"newmtl {name}"]
        if material["texture"] is None:
            lines += [f"Kd {red!r} {green!r} {blue!r}"]
        else:
            picture = texture_name(stem, number)
            files[picture] = encode_png(tinted(material["texture"], (red, green, blue, 1.0)))
            lines += ["Kd 1 1 1", f"map_Kd {picture}"]
        lines += [f"d {alpha!r}", ""]
    return {**files, f"{stem}.mtl": "\n".join(lines).encode()}, names


def _distinct(names: list[str]) -> list[str]:
    result: list[str] = []
    for number, name in enumerate(names):
        clean = " ".join(name.split()) or f"material_{number}"
        while clean in result or clean.lower() in ("none", "(null)"):
            clean = f"{clean}_{number}"
        result.append(clean)
    return result
