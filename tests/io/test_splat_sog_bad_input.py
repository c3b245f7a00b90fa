"""Whatever is wrong with a SOG scene is one sentence that names the file and the trouble."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geodistill.checks import InputError
from geodistill.io.splats import read_splats
from tests.io.test_splat_sog import (
    FIELDS,
    bundle,
    first_version,
    some_splats,
    unbundled,
    written,
)


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=pattern) as caught:
        read_splats(path)
    assert "\n" not in str(caught.value) and str(path.parent) in str(caught.value)


def picture(height: int, width: int, mode: str = "RGBA", format: str = "WEBP") -> bytes:
    encoded = io.BytesIO()
    Image.new(mode, (width, height)).save(encoded, format, lossless=True)
    return encoded.getvalue()


def test_what_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "a.sog"
    refused(path, "does not exist")
    path.write_bytes(b"")
    refused(path, "is empty")
    path.write_bytes(b"ply\nformat")
    refused(path, r"a\.sog is not a SOG bundle, which is a ZIP archive: check its name")
    path.write_bytes(b"PK\x03\x04 and nothing more")
    refused(path, r"a\.sog is truncated or damaged \(the end of the archive is missing\)")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, r"a\.sog is no SOG bundle: it has no meta\.json")
    refused(tmp_path / "meta.json", "does not exist")
    (tmp_path / "meta.json").write_bytes(b" " * (2**22 + 1))
    refused(tmp_path / "meta.json", r"is larger than any meta\.json of a SOG scene")


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b"{", r"its meta\.json is not valid JSON"),
        (b"[" * 100_000, r"its meta\.json is not valid JSON"),
        (b"\xff\xfe\xfd", r"its meta\.json is not valid JSON"),
        (b"[1]", r"its meta\.json is not a JSON object"),
        (b"{}", r"is no SOG scene: its meta\.json has no 'means'"),
        (b'{"version": 3}', r"is SOG version 3, where 1 and 2 are read: export it as version 2"),
        (b'{"version": "2"}', r'is SOG version "2", where 1 and 2 are read'),
        (b'{"lodLevels": 3, "tree": {}}', r"is the index of a streamed scene"),
    ],
)
def test_what_is_no_meta(content: bytes, pattern: str, tmp_path: Path) -> None:
    for name in ("meta.json", "lod-meta.json"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, pattern)
    with zipfile.ZipFile(tmp_path / "a.sog", "w") as archive:
        archive.writestr("meta.json", content)
    refused(tmp_path / "a.sog", pattern)


def put(*keys: Any) -> Callable[[Any], None]:
    *path, last, value = keys

    def change(content: Any) -> None:
        for key in path:
            content = content[key]
        content[last] = value

    return change


def drop(*keys: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


CHANGES: list[tuple[Callable[[Any], None], str]] = [
    (put("count", 0), "count of its meta.json must be a number of splats, 1 or more, got 0"),
    (put("count", -5), "count of its meta.json must be .* got -5"),
    (put("count", 5.0), "count of its meta.json must be .* got 5.0"),
    (put("count", True), "count of its meta.json must be .* got true"),
    (drop("count"), "count of its meta.json must be .* got null"),
    (put("count", 10**12), "declares 1000000000000 splats, but its pictures have .* bytes"),
    (put("count", 65), "its picture sh0.webp has 64 pixels, but 65 are needed"),
    (drop("sh0"), "is no SOG scene: its meta.json has no 'sh0'"),
    (put("quats", 7), "is no SOG scene: its meta.json has no 'quats'"),
    (put("means", "files", ["a"]), "means.files of its meta.json must be 2 names of pictures"),
    (put("means", "files", "ab"), "means.files of its meta.json must be 2 names of pictures"),
    (put("sh0", "files", [3]), "sh0.files .* must be the name of a picture beside it, got 3"),
    (put("sh0", "files", [""]), 'sh0.files .* must be the name of a picture beside it, got ""'),
    (put("sh0", "files", ["../a.webp"]), "must be the name of a picture beside it"),
    (put("sh0", "files", ["/etc/passwd"]), "must be the name of a picture beside it"),
    (put("sh0", "files", ["a\nb.webp"]), "must be the name of a picture beside it"),
    (put("sh0", "files", ["none.webp"]), "lacks its picture none.webp: copy the whole scene"),
    (put("means", "mins", [1, 2]), r"means.mins .* must be 3 numbers, got \[1, 2\]"),
    (put("means", "mins", [1, 2, "3"]), "means.mins .* must be 3 numbers"),
    (put("means", "maxs", [1, 2, float("nan")]), "means.maxs .* must be 3 numbers"),
    (put("means", "maxs", [1, 2, 10**400]), "means.maxs .* must be 3 numbers"),
    (put("means", "maxs", [1, 2, 95.0]), "its means hold .* NaN or infinite values"),
    (put("scales", "codebook", []), "scales.codebook .* must be 1 numbers"),
    (drop("scales", "codebook"), "scales.codebook .* must be 256 numbers, got null"),
    (put("scales", "codebook", [None] * 256), "scales.codebook .* must be 255 numbers"),
    (put("scales", "codebook", [1.0] * 3), "its log scales hold .* NaN or infinite values"),
    (put("sh0", "codebook", 0, 1e39), "sh0.codebook .* must be 256 numbers"),
    (put("shN", "bands", 4), "shN.bands of its meta.json must be 0 to 3, got 4"),
    (put("shN", "bands", 1.0), "shN.bands of its meta.json must be 0 to 3, got 1.0"),
    (put("shN", "bands", 2), "has 192 pixels, but 512 are needed"),
    (put("shN", "count", 0), "shN.count of its meta.json must be 1 to 65536, got 0"),
    (put("shN", "count", 65537), "shN.count of its meta.json must be 1 to 65536, got 65537"),
    (put("shN", "count", 65), "has 192 pixels, but 384 are needed"),
    (put("shN", "files", ["shN_centroids.webp"]), "shN.files .* must be 2 names of pictures"),
    (put("shN", "files", ["sh0.webp", "sh0.webp"]), "has 64 pixels, but 192 are needed"),
    (put("shN", []), "is no SOG scene: its meta.json has no 'shN'"),
]


@pytest.mark.parametrize(("change", "pattern"), CHANGES)
def test_a_meta_that_is_wrong(change: Callable[[Any], None], pattern: str, tmp_path: Path) -> None:
    meta, parts = written(tmp_path / "a.sog", some_splats(50, 1))
    change(meta)
    refused(bundle(tmp_path / "a.sog", meta, parts), pattern)
    refused(unbundled(tmp_path / "b", meta, parts), pattern)


FIRST: list[tuple[Callable[[Any], None], str]] = [
    (put("means", "shape", []), "means.shape of its meta.json must be a number of splats"),
    (put("means", "shape", [2.5, 3]), "means.shape .* got 2.5"),
    (put("sh0", "maxs", [1, 2, 3]), r"sh0.maxs of its meta.json must be 4 numbers"),
    (put("shN", "mins", None), "shN.mins of its meta.json must be 1 numbers, got null"),
    (
        put("shN", "files", ["scales.webp", "scales.webp"]),
        "is 7 pixels wide, where 64 entries of 3",
    ),
]


@pytest.mark.parametrize(("change", "pattern"), FIRST)
def test_a_first_version_that_is_wrong(
    change: Callable[[Any], None], pattern: str, tmp_path: Path
) -> None:
    meta, parts = first_version(49, 1)
    change(meta)
    refused(bundle(tmp_path / "a.sog", meta, parts), pattern)


def huge_png() -> bytes:
    """A PNG whose header declares 16000 x 16000 pixels."""
    data = bytearray(picture(4, 4, format="PNG"))
    data[16:24] = struct.pack(">2I", 16000, 16000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


PICTURES: list[tuple[str, bytes, str]] = [
    ("quats", b"", "its picture quats.webp is not a whole WebP or PNG picture|is empty"),
    ("quats", b"no picture", "its picture quats.webp is not a whole WebP or PNG picture"),
    ("quats", picture(8, 8, "RGB", "BMP"), "is not a whole WebP or PNG picture"),
    ("quats", picture(8, 8)[:-9], "quats.webp is (truncated or damaged|not a whole WebP)"),
    ("means_u", picture(7, 7), "its picture means_u.webp has 49 pixels, but 50 are needed"),
    ("scales", picture(300, 300), "scales.webp has 90000 pixels, where at most 65736 are used"),
    ("sh0", picture(8, 8, "I;16", "PNG"), r"sh0.webp does not have 8 bits a channel \(I;16\)"),
    ("sh0", huge_png(), "sh0.webp (is refused|has 256000000 pixels, where at most 65736)"),
    ("shN_labels", picture(2, 2), "its picture shN_labels.webp has 4 pixels"),
    ("shN_centroids", picture(200, 300), "is 300 pixels wide, where 64 entries of 3 pixels are"),
    ("shN_centroids", picture(2000, 960), "has 1920000 pixels, where at most 984000 are used"),
]


@pytest.mark.parametrize(("name", "content", "pattern"), PICTURES)
def test_a_picture_that_is_wrong(name: str, content: bytes, pattern: str, tmp_path: Path) -> None:
    meta, parts = written(tmp_path / "a.sog", some_splats(50, 1))
    parts[f"{name}.webp"] = content
    refused(bundle(tmp_path / "a.sog", meta, parts), pattern)
    refused(unbundled(tmp_path / "b", meta, parts), pattern)


def test_archives_that_unpack_to_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.sog"
    meta, parts = written(path, some_splats(50, 1))
    deflated: dict[str, Any] = {"compression": zipfile.ZIP_DEFLATED}
    bundle(path, meta, {**parts, "sh0.webp": parts["sh0.webp"] + bytes(10**7)}, **deflated)
    refused(path, "would unpack to 100.* bytes, more than 64 times its")
    noise = np.random.default_rng(0).bytes(10**6)
    bundle(path, meta, {**parts, "sh0.webp": parts["sh0.webp"] + noise}, **deflated)
    refused(path, "its sh0.webp would unpack to 1000.* bytes, where at most 591424 are used")
    bundle(path, {**meta, "x": noise.hex() * 3}, parts)
    refused(path, "its meta.json would unpack to 600.* bytes, where at most 4194304 are used")
    bundle(path, meta, parts, compression=zipfile.ZIP_BZIP2)
    refused(path, "its entry .* is encrypted or packed in an unknown way")
    data = bytearray(bundle(path, {**meta, "count": 10**9}, parts).read_bytes())
    refused(path, "declares 1000000000 splats, but its pictures have .* bytes")
    place = data.index(b"PK\x01\x02")
    data[place + 20 : place + 28] = b"\xff\xff\xff\x7f" * 2  # both sizes of the first picture
    path.write_bytes(data)
    refused(path, "its entry 'means_l.webp' reaches beyond its end")


def test_a_changed_picture_does_not_match_its_checksum(tmp_path: Path) -> None:
    data = bytearray(
        bundle(tmp_path / "a.sog", *written(tmp_path / "a.sog", some_splats(5))).read_bytes()
    )
    data[data.index(b"means_u.webp") + 40] ^= 1
    (tmp_path / "a.sog").write_bytes(data)
    refused(tmp_path / "a.sog", "its entry 'means_u.webp' does not match its checksum")


def outcome(path: Path) -> str:
    """Read, or refused in one line; nothing else."""
    try:
        found = read_splats(path)
    except InputError as error:
        assert "\n" not in str(error)
        return "refused"
    count = len(found["means"])
    assert all(len(found[name]) == count and np.isfinite(found[name]).all() for name in FIELDS)
    assert np.abs(np.linalg.norm(found["rotations"], axis=1) - 1).max() < 1e-5
    return "read"


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """A byte turned over, a piece cut out, put in, or the end left out."""
    place, kind = int(draw.integers(len(data))), int(draw.integers(4))
    if kind == 0:
        return data[:place] + bytes([data[place] ^ int(draw.integers(1, 256))]) + data[place + 1 :]
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + draw.bytes(int(draw.integers(1, 9))) + data[place:]
    return data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]


def test_damage_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "a.sog"
    written(path, some_splats(50, 1))
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    outcomes = []
    for _ in range(300):
        path.write_bytes(mutated(whole, draw))
        outcomes.append(outcome(path))
    assert {*outcomes} == {"read", "refused"}  # what nothing points to may hold anything


def test_damage_within_a_part_is_refused_or_read(tmp_path: Path) -> None:
    """Behind the archive's own checks: pictures and meta.json."""
    draw = np.random.default_rng(1)
    scenes = [first_version(49, 1), written(tmp_path / "a.sog", some_splats(50, 1))]
    outcomes = []
    for number in range(200):
        meta, parts = scenes[number % 2]
        path = unbundled(tmp_path / "b", meta, parts)
        name = sorted([*parts, "meta.json"])[int(draw.integers(len(parts) + 1))]
        content = mutated((path.parent / name).read_bytes(), draw)
        (path.parent / name).write_bytes(content)
        outcomes.append(outcome(path))
    assert {*outcomes} == {"read", "refused"}


def test_a_meta_of_other_values_is_refused_or_read(tmp_path: Path) -> None:
    """Each value of meta.json replaced by others of every type."""
    meta, parts = written(tmp_path / "a.sog", some_splats(50, 1))
    others: list[Any] = [None, True, -1, 10**30, 1e999, "x", [], {}, [[1]], ["a"], "\0"]
    outcomes = []
    for key, inner in [(k, None) for k in meta] + [
        (k, i) for k, part in meta.items() if isinstance(part, dict) for i in part
    ]:
        for other in others:
            changed = json.loads(json.dumps(meta))
            put(*((key,) if inner is None else (key, inner)), other)(changed)
            outcomes.append(outcome(bundle(tmp_path / "b.sog", changed, parts)))
    assert {*outcomes} == {"read", "refused"}
