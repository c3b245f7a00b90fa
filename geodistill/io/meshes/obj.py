"""Wavefront OBJ: polygons, texture coordinates, materials and vertex colours.

Lines of one kind are joined and parsed together; only faces of unlike forms are told apart.
Normals, lines, points and groups are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.meshes.arrays import (
    MaterialArrays,
    MeshArrays,
    check_indices,
    distinct_rows,
    fans,
    mesh_arrays,
    numbers,
    split_corners,
)
from geodistill.io.meshes.mtl import DEFAULT, find_mtl, mtl_files, read_mtl
from geodistill.io.meshes.textures import colour_bytes
from geodistill.io.whole_file import read_whole

_NO_MATERIAL = ("", "none", "(null)")
_WITHOUT_DIGITS = bytes(range(256)), b"0123456789"


@dataclass(frozen=True)
class _Lines:
    """The lines of a file, and where those of each kind stand."""

    text: list[bytes]
    vertices: np.ndarray
    coordinates: np.ndarray
    faces: np.ndarray
    others: list[int]  # mtllib and usemtl


def read_obj(path: Path) -> MeshArrays:
    """Vertices in the file's order; one is repeated where it has several texture coordinates."""
    lines = _lines(read_whole(path))
    vertices, colors = _vertices(lines, path)
    coordinates = _coordinates(lines, path)
    corners, sizes = _polygons(lines, path, len(vertices), len(coordinates))
    corner, polygon = fans(sizes)
    materials, face_material = _materials(lines, path)
    faces, uv = corners[corner, 0], None
    check_indices(faces, len(vertices), path)
    used = corners[corner, 1]
    if len(used) and used.max() >= 0:
        check_indices(np.maximum(used, 0), len(coordinates), path, "texture coordinate")
        same, first = distinct_rows(coordinates)
        coordinates = coordinates[first]
        used = np.where(used < 0, -1, same[used])
        faces, origin, coordinate = split_corners(faces, used, len(vertices))
        vertices, colors = vertices[origin], None if colors is None else colors[origin]
        uv = np.where(coordinate[:, None] < 0, 0, coordinates[coordinate])
    return mesh_arrays(
        vertices,
        faces,
        uv,
        colors,
        materials,
        face_material[polygon] if materials else None,
    )


def _lines(data: bytes) -> _Lines:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\\\n" in data:
        data = data.replace(b"\\\n", b" ")
    if b"\t" in data:
        data = data.replace(b"\t", b" ")
    if b"\n " in data or data.startswith(b" "):
        data = b"\n".join(line.lstrip() for line in data.split(b"\n"))
    text = data.split(b"\n")
    buffer = np.frombuffer(data + b"\n  ", np.uint8)
    starts = np.concatenate([[0], np.flatnonzero(buffer[: len(data)] == ord("\n")) + 1])

    def are(beginning: str) -> np.ndarray:
        found = starts
        for place, letter in enumerate(beginning):
            found = found[buffer[np.minimum(found + place, len(buffer) - 1)] == ord(letter)]
        return np.searchsorted(starts, found)

    return _Lines(text, are("v "), are("vt "), are("f "), [*are("mtl"), *are("use")])


def _rows(lines: Sequence[bytes]) -> np.ndarray | None:
    """float64 [N, C] of lines that hold as many numbers each, or None."""
    joined = b" ".join(lines)
    values = None if b"#" in joined else numbers(joined)
    width = len(lines[0].split())
    if values is None or len(values) != width * len(lines):
        return None
    return values.reshape(len(lines), width)


def _table(lines: _Lines, which: np.ndarray, skip: int, least: int, path: Path) -> np.ndarray:
    """The numbers behind a keyword, float64 [N, C], short lines filled with NaN."""
    texts = [lines.text[i][skip:] for i in which]
    if not texts:
        return np.zeros((0, least))
    table = _rows(texts)
    if table is not None and table.shape[1] >= least:
        return table
    rows = []
    for number, text in zip(which, texts, strict=True):
        row = numbers(text.partition(b"#")[0])
        if row is None or len(row) < least:
            raise InputError(
                f"{path}: line {number + 1} is not {least} numbers: "
                f"{lines.text[number][:60].decode('utf-8', 'replace')!r}"
            )
        rows.append(row)
    result = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(result, rows, strict=True):
        row[: len(values)] = values
    return result


def _vertices(lines: _Lines, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """float64 [V, 3], and uint8 [V, 4] where three colour values in [0, 1] follow."""
    table = _table(lines, lines.vertices, 2, 3, path)
    if table.shape[1] < 6 or np.isnan(table[:, 3:6]).all():
        return table[:, :3], None
    table[np.isnan(table[:, 3:6]).any(axis=1), 3:6] = 1
    return table[:, :3], colour_bytes(table[:, 3:6])


def _coordinates(lines: _Lines, path: Path) -> np.ndarray:
    table = _table(lines, lines.coordinates, 3, 1, path)
    if table.shape[1] == 1:
        return np.concatenate([table, np.zeros_like(table)], axis=1).astype(np.float32)
    return table[:, :2].astype(np.float32)


def _polygons(
    lines: _Lines, path: Path, vertices: int, coordinates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Position and coordinate index of every corner, int64 [K, 2], and corners of each face."""
    if not len(lines.faces):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    texts = [lines.text[i][2:] for i in lines.faces]
    groups: dict[bytes, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(text.translate(*_WITHOUT_DIGITS), []).append(index)
    sizes = np.zeros(len(texts), np.int64)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for form, members in groups.items():
        plain = not set(form) - set(b" /-")
        table = _face_table([texts[i] for i in members]) if plain else None
        chunks = (
            [(np.array(members), table)]
            if table is not None
            else [(np.array([i]), _one_face(lines, path, i, texts[i])) for i in members]
        )
        for faces, corners in chunks:
            sizes[faces] = corners.shape[1]
            parts.append((faces, corners))
    starts = np.cumsum(sizes) - sizes
    result = np.empty((int(sizes.sum()), 2), np.int64)
    for faces, corners in parts:
        places = starts[faces][:, None] + np.arange(corners.shape[1])
        result[places] = corners
    owner = np.repeat(lines.faces, sizes)
    for column, keyword, count in (
        (0, lines.vertices, vertices),
        (1, lines.coordinates, coordinates),
    ):
        index = result[:, column]
        back = index < 0  # -1 is the last one before the face
        index[back] += np.searchsorted(keyword, owner[back]) + 1
        wrong = back & (index <= 0)
        if wrong.any():
            line = int(owner[wrong.argmax()])
            raise InputError(
                f"{path}: line {line + 1} counts back beyond the first of {count}: "
                f"{lines.text[line][:60].decode('utf-8', 'replace')!r}"
            )
    if (result[:, 0] == 0).any():
        line = int(owner[(result[:, 0] == 0).argmax()])
        raise InputError(f"{path}: line {line + 1} refers to vertex 0, but they count from 1")
    return result - 1, sizes


def _face_table(texts: list[bytes]) -> np.ndarray | None:
    """Position and coordinate numbers as written, [F, n, 2], of faces all like the first one."""
    words = texts[0].split()
    forms = {word.count(b"/") + 1 for word in words}
    if len(forms) != 1:
        return None
    form = forms.pop()
    without_coordinate = any(b"//" in word or word.endswith(b"/") for word in words)
    if without_coordinate and not all(b"//" in word and word[-1:] != b"/" for word in words):
        return None
    joined = [text.replace(b"/", b" ") for text in texts]
    table = _rows(joined)
    width = form - 1 if without_coordinate else form
    if table is None or table.shape[1] != width * len(words) or form > 3:
        return None
    corners = table.reshape(len(texts), len(words), width).astype(np.int64)
    if width == 1 or without_coordinate:
        return np.stack([corners[..., 0], np.zeros_like(corners[..., 0])], axis=-1)
    return corners[..., :2]


def _one_face(lines: _Lines, path: Path, index: int, text: bytes) -> np.ndarray:
    """One face by itself, int64 [1, n, 2], 0 where a corner has no coordinate."""
    corners = []
    try:
        for word in text.partition(b"#")[0].split():
            place, *rest = word.split(b"/")
            corners.append((int(place), int(rest[0]) if rest and rest[0] else 0))
        return np.array(corners, np.int64).reshape(1, -1, 2)
    except (ValueError, OverflowError):
        line = int(lines.faces[index])
        raise InputError(
            f"{path}: line {line + 1} is not a face: "
            f"{lines.text[line][:60].decode('utf-8', 'replace')!r}"
        ) from None


def _materials(lines: _Lines, path: Path) -> tuple[list[MaterialArrays], np.ndarray]:
    """The materials, and the one of each polygon, int64 [P]."""
    libraries: dict[str, None] = {}
    switches: list[tuple[int, str]] = []
    for index in sorted(lines.others):
        words = lines.text[index].decode("utf-8", "replace").split(None, 1)
        rest = words[1].strip() if len(words) > 1 else ""
        if words[0] == "mtllib":
            libraries[rest] = None
        elif words[0] == "usemtl":
            switches.append((index, rest))
    materials = _described([*libraries], path)
    number = {material["name"]: i for i, material in reversed([*enumerate(materials)])}
    for _, name in switches:
        if name not in number and name.lower() not in _NO_MATERIAL:
            number[name] = len(materials)
            materials.append({"name": name, "base_color": DEFAULT, "texture": None})
    starts = np.searchsorted(lines.faces, [-1, *(line for line, _ in switches)])
    used = [-1, *(number.get(name, -1) for _, name in switches)]  # none before the first switch
    return materials, np.repeat(used, np.diff(starts, append=len(lines.faces)))


def _described(libraries: list[str], path: Path) -> list[MaterialArrays]:
    """The materials of the libraries that `mtllib` lines name, each library read once."""
    materials: list[MaterialArrays] = []
    pictures: dict[Path, np.ndarray] = {}
    done: set[Path] = set()
    for names in libraries:
        found = find_mtl(path.parent, names)
        if not found:
            log.say(f"{path}: the material library {names} is missing")
        for library in found:
            if library.resolve() not in done:
                done.add(library.resolve())
                materials += read_mtl(library, pictures)
    return materials


def obj_files(mesh: MeshArrays, path: Path) -> dict[str, bytes]:
    """The files that make the mesh, by name, the OBJ itself last.

    Colours lose their alpha; positions keep every bit. Textures are multiplied by their factor.
    """
    files, head = {}, []
    names: list[str] = []
    if mesh["materials"]:
        files, names = mtl_files(mesh["materials"], path.stem)
        head = [f"mtllib {path.stem}.mtl"]
    rows = [f"v {x!r} {y!r} {z!r}" for x, y, z in mesh["vertices"].tolist()]
    if mesh["colors"] is not None:
        shades = (mesh["colors"][:, :3] / 255).tolist()
        shown = [f" {red:.6g} {green:.6g} {blue:.6g}" for red, green, blue in shades]
        rows = [row + shade for row, shade in zip(rows, shown, strict=True)]
    head += rows
    one = mesh["faces"] + 1
    if mesh["uv"] is None:
        faces = [f"f {a} {b} {c}" for a, b, c in one.tolist()]
    else:
        head += [f"vt {u:.9g} {v:.9g}" for u, v in mesh["uv"].tolist()]
        faces = [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in one.tolist()]
    files[path.name] = "\n".join([*head, *_with_switches(faces, mesh, names), ""]).encode()
    return files


def _with_switches(faces: list[str], mesh: MeshArrays, names: list[str]) -> list[str]:
    """The face lines with `usemtl` wherever the material changes."""
    material = mesh["face_material"]
    if material is None or not names:
        return faces
    changes = np.flatnonzero(np.diff(material, prepend=-1))
    result, done = [], 0
    for start in changes.tolist():
        number = int(material[start])
        result += [*faces[done:start], f"usemtl {names[number] if number >= 0 else 'none'}"]
        done = start
    return result + faces[done:]
