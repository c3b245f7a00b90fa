"""SOG: the pictures splat by splat against the format's definition, both versions, round trips."""

from __future__ import annotations

import functools
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geodistill.checks import UsageError
from geodistill.io.splats import SplatArrays, read_splats, write_splats
from geodistill.io.splats import sog_write as writer
from geodistill.io.splats.arrays import sigmoid
from geodistill.io.splats.sog_write import sog_files

Parts = dict[str, bytes]
FIELDS = ("means", "rotations", "log_scales", "opacity_logits", "sh")


def some_splats(count: int, degree: int = 0, seed: int = 0) -> SplatArrays:
    draw = np.random.default_rng(seed)
    quaternions = draw.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return SplatArrays(
        means=(draw.normal(size=(count, 3)) * [9, 1, 0.1]).astype(np.float32),
        rotations=quaternions.astype(np.float32),
        log_scales=(draw.normal(size=(count, 3)) - 4).astype(np.float32),
        opacity_logits=(2 * draw.normal(size=count)).astype(np.float32),
        sh=(0.3 * draw.normal(size=(count, (degree + 1) ** 2, 3))).astype(np.float32),
        attributes={},
    )


def parts_of(path: Path) -> tuple[dict[str, Any], Parts]:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(parts.pop("meta.json")), parts


def bundle(path: Path, meta: Any, parts: Parts, folder: str = "", **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in {**parts, "meta.json": json.dumps(meta).encode()}.items():
            archive.writestr(folder + name, content)
    return path


def written(path: Path, splats: SplatArrays) -> tuple[dict[str, Any], Parts]:
    write_splats(path, splats)
    return parts_of(path)


@functools.cache
def pixels(data: bytes) -> list[tuple[int, ...]]:
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]  # pyright: ignore


def position(low: int, high: int, least: float, most: float) -> float:
    value = least + (most - least) * ((high << 8) + low) / 65535
    return math.copysign(math.exp(abs(value)) - 1, value)


def quaternion(r: int, g: int, b: int, a: int) -> list[float]:
    if a < 252:
        return [1, 0, 0, 0]
    kept = [(value / 255 - 0.5) * 2 / math.sqrt(2) for value in (r, g, b)]
    largest = math.sqrt(max(0, 1 - sum(value * value for value in kept)))
    length = math.hypot(*kept, largest)  # more than 1 where the three are too large
    return [value / length for value in (*kept[: a - 252], largest, *kept[a - 252 :])]


def logit(byte: int) -> float:
    share = min(max(byte / 255, 1e-6), 1 - 1e-6)
    return math.log(share / (1 - share))


def assert_reads_as_defined(found: SplatArrays, meta: dict[str, Any], parts: Parts) -> None:
    """One splat at a time, as the definition of version 2 says."""
    image = {
        key: [pixels(parts[name]) for name in meta[key]["files"]] for key in meta if key[0] in "mqs"
    }
    bands = meta.get("shN", {}).get("bands", 0)
    each = (bands + 1) ** 2 - 1
    scales, colours = meta["scales"]["codebook"], meta["sh0"]["codebook"]
    assert found["means"].shape == (meta["count"], 3)
    assert found["sh"].shape == (meta["count"], each + 1, 3)
    for i in range(meta["count"]):
        low, high = image["means"][0][i], image["means"][1][i]
        ends = zip(meta["means"]["mins"], meta["means"]["maxs"], strict=True)
        wanted = [position(low[k], high[k], *pair) for k, pair in enumerate(ends)]
        assert found["means"][i] == pytest.approx(wanted, rel=1e-6, abs=1e-12)
        assert found["rotations"][i] == pytest.approx(quaternion(*image["quats"][0][i]), abs=1e-6)
        codes = image["scales"][0][i][:3]
        assert found["log_scales"][i].tolist() == [np.float32(scales[c]) for c in codes]
        *codes, alpha = image["sh0"][0][i]
        assert found["sh"][i, 0].tolist() == [np.float32(colours[c]) for c in codes]
        assert found["opacity_logits"][i] == pytest.approx(logit(alpha), rel=1e-6)
        if bands:
            first, second = image["shN"][1][i][:2]
            label, codebook = first + 256 * second, meta["shN"]["codebook"]
            for k in range(each):
                place = label // 64 * 64 * each + label % 64 * each + k
                codes = image["shN"][0][place][:3]
                assert found["sh"][i, 1 + k].tolist() == [np.float32(codebook[c]) for c in codes]


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 5, 130])
def test_reads_as_defined(count: int, degree: int, tmp_path: Path) -> None:
    path = tmp_path / "a.sog"
    meta, parts = written(path, some_splats(count, degree))
    assert_reads_as_defined(read_splats(path), meta, parts)


def slow_morton(means: np.ndarray) -> list[int]:
    low, high = means.min(axis=0), means.max(axis=0)
    codes = []
    for point in means:
        cell = [
            int((p - a) / (b - a) * (2**21 - 1)) for p, a, b in zip(point, low, high, strict=True)
        ]
        bits = (cell[axis] >> bit & 1 for bit in range(20, -1, -1) for axis in (2, 1, 0))
        codes.append(int("".join(map(str, bits)), 2))
    return sorted(range(len(codes)), key=codes.__getitem__)


def test_writes_as_defined(tmp_path: Path) -> None:
    """Every byte of every splat but the labels of the palette, whose entries are tested apart."""
    splats = some_splats(77, 1)
    meta, parts = written(tmp_path / "a.sog", splats)
    assert meta["version"] == 2 and meta["count"] == 77
    assert [*parts] == [
        *("means_l.webp", "means_u.webp", "scales.webp", "quats.webp", "sh0.webp"),
        *("shN_centroids.webp", "shN_labels.webp"),
    ]
    for i, splat in enumerate(slow_morton(splats["means"].astype(np.float64))):
        for axis, value in enumerate(splats["means"][splat].tolist()):
            least, most = meta["means"]["mins"][axis], meta["means"]["maxs"][axis]
            share = (math.copysign(math.log1p(abs(value)), value) - least) / (most - least)
            low, high = (pixels(parts[f"means_{name}.webp"])[i][axis] for name in "lu")
            assert low + 256 * high == round(65535 * share)
        q = splats["rotations"][splat].astype(np.float64)
        largest = int(np.abs(q).argmax())
        kept = np.delete(q / np.linalg.norm(q), largest) * math.copysign(1, q[largest])
        wanted = [*(round(255 * (v / math.sqrt(2) + 0.5)) for v in kept), 252 + largest]
        assert [*pixels(parts["quats.webp"])[i]] == wanted
        found = pixels(parts["scales.webp"])[i][:3]
        for code, value in zip(found, splats["log_scales"][splat], strict=True):
            assert code == nearest(meta["scales"]["codebook"], value)
        *found, alpha = pixels(parts["sh0.webp"])[i]
        for code, value in zip(found, splats["sh"][splat, 0], strict=True):
            assert code == nearest(meta["sh0"]["codebook"], value)
        assert alpha == round(255 / (1 + math.exp(-splats["opacity_logits"][splat])))


def nearest(codes: list[float], value: float) -> int:
    return min(range(256), key=lambda code: abs(codes[code] - float(value)))


def test_the_archive_is_stored_and_the_same_each_time(tmp_path: Path) -> None:
    splats = some_splats(300, 2)
    first = sog_files(splats, tmp_path / "a.sog")["a.sog"]
    assert first == sog_files(splats, tmp_path / "a.sog")["a.sog"]
    for entry in zipfile.ZipFile(io.BytesIO(first)).infolist():
        assert entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        if entry.filename.endswith("webp"):
            assert first[entry.header_offset + 30 + len(entry.filename) :][12:16] in (
                b"VP8L",
                b"VP8X",
            )


def signed_logarithms(means: np.ndarray) -> np.ndarray:
    return np.sign(means) * np.log1p(np.abs(means.astype(np.float64)))


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 64, 1000])
def test_round_trip(count: int, degree: int, tmp_path: Path) -> None:
    """Half a step of each quantisation. A power of two of splats keep their own harmonics but for
    the 256 codes; another count has a part of their spread as error."""
    path = tmp_path / "a.sog"
    splats = some_splats(count, degree)
    write_splats(path, splats)
    found = read_splats(path)
    order = writer.morton_order(splats["means"])
    wanted = {name: splats[name][order] for name in FIELDS}
    logs, back = signed_logarithms(wanted["means"]), signed_logarithms(found["means"])
    assert (np.abs(logs - back) <= 0.501 * np.ptp(logs, axis=0) / 65535 + 1e-6).all()
    turned = np.abs((wanted["rotations"] * found["rotations"]).sum(axis=1))
    assert turned.min() > 1 - 3e-5  # within a degree
    assert np.abs(wanted["log_scales"] - found["log_scales"]).max() < 0.06
    share = sigmoid(wanted["opacity_logits"]) - sigmoid(found["opacity_logits"])
    assert np.abs(share).max() < 0.501 / 255
    error = wanted["sh"] - found["sh"]
    assert np.abs(error[:, 0]).max() < 0.02
    if degree and count < 1000:
        assert np.abs(error[:, 1:]).max() < 0.02
    elif degree:
        part = (error[:, 1:] ** 2).mean() / (wanted["sh"][:, 1:] ** 2).mean()
        assert part < (0.13, 0.3, 0.4)[degree - 1]


def test_a_scene_that_was_read_is_written_as_it_is(tmp_path: Path) -> None:
    """Nothing is lost a second time: its codes and its palette are found again."""
    path = tmp_path / "a.sog"
    write_splats(path, some_splats(1000, 1))
    once = read_splats(path)
    write_splats(path, once)
    twice = read_splats(path)
    order = writer.morton_order(once["means"])
    for name in ("log_scales", "opacity_logits", "sh"):
        np.testing.assert_array_equal(twice[name], once[name][order])
    np.testing.assert_allclose(twice["means"], once["means"][order], atol=1e-5)
    turned = np.abs((twice["rotations"] * once["rotations"][order]).sum(axis=1))
    assert turned.min() > 1 - 1e-5  # another component may be the largest by a bit


def test_transparent_and_opaque_splats_keep_their_colours(tmp_path: Path) -> None:
    splats = some_splats(64)
    splats["opacity_logits"][:32] = -30
    splats["opacity_logits"][32:] = 30
    write_splats(tmp_path / "a.sog", splats)
    found = read_splats(tmp_path / "a.sog")
    order = writer.morton_order(splats["means"])
    np.testing.assert_array_equal(found["sh"], splats["sh"][order])  # 192 values, 256 codes
    assert sorted({*found["opacity_logits"].tolist()}) == pytest.approx([logit(0), logit(255)])
    write_splats(tmp_path / "b.sog", found)
    again = read_splats(tmp_path / "b.sog")
    np.testing.assert_array_equal(again["opacity_logits"], found["opacity_logits"])


def test_splats_in_one_place_and_without_harmonics_of_their_own(tmp_path: Path) -> None:
    splats = some_splats(100, 3)
    for name in FIELDS:
        splats[name][:] = splats[name][:1]
    write_splats(tmp_path / "a.sog", splats)
    found = read_splats(tmp_path / "a.sog")
    np.testing.assert_allclose(found["means"], splats["means"], rtol=1e-6)
    np.testing.assert_allclose(found["sh"], splats["sh"], rtol=1e-5)
    np.testing.assert_array_equal(found["log_scales"], splats["log_scales"])


def test_what_cannot_be_held(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    splats = some_splats(5)
    splats["attributes"] = {"label": np.zeros(5, np.float32), "weight": np.zeros(5, np.float32)}
    write_splats(tmp_path / "a.sog", splats)
    assert capsys.readouterr().err == (
        f"{tmp_path / 'a.sog'}: its format cannot hold the attributes label, weight: left out\n"
    )
    assert not read_splats(tmp_path / "a.sog")["attributes"]
    monkeypatch.setattr(writer, "_WIDEST", 2)
    with pytest.raises(UsageError, match=r"a\.sog cannot hold 5 splats: SOG has room for 4"):
        write_splats(tmp_path / "a.sog", splats)
    with pytest.raises(UsageError, match=r"cannot write splats as meta\.json: choose .*\.sog"):
        write_splats(tmp_path / "meta.json", splats)


@pytest.mark.parametrize("picture", ["WEBP", "PNG"])
@pytest.mark.parametrize("folder", ["", "scene/", "deep/scene/"])
def test_other_bundles(folder: str, picture: str, tmp_path: Path) -> None:
    """Deflated, in a folder, of other pictures, with other names and further values."""
    meta, parts = written(tmp_path / "a.sog", some_splats(50, 2))
    wanted = read_splats(tmp_path / "a.sog")
    others = {}
    for name, data in parts.items():
        image, encoded = Image.open(io.BytesIO(data)), io.BytesIO()
        image.save(
            encoded, picture, **({"lossless": True, "exact": True} if picture == "WEBP" else {})
        )
        others[f"x_{name}"] = encoded.getvalue()
    for part in meta.values():
        if isinstance(part, dict) and "files" in part:
            part["files"] = [f"x_{name}" for name in part["files"]]
    meta |= {"antialias": True, "further": {"files": ["none.webp"]}}
    options = {"compression": zipfile.ZIP_DEFLATED}
    found = read_splats(bundle(tmp_path / "B.SOG", meta, others, folder, **options))
    for name in FIELDS:
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize("mark", [{"model": "antialiased"}, {"antialias": True}])
def test_antialiasing_is_said(
    mark: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta, parts = written(tmp_path / "a.sog", some_splats(5))
    for further, lines in (({}, 0), ({"antialias": False, "model": "2dgs"}, 0), (mark, 1)):
        read_splats(bundle(tmp_path / "b.sog", {**meta, **further}, parts))
        assert capsys.readouterr().err.count("with antialiasing (its meta.json)") == lines


def unbundled(folder: Path, meta: Any, parts: Parts) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in {**parts, "meta.json": json.dumps(meta).encode()}.items():
        (folder / name).write_bytes(content)
    return folder / "meta.json"


def test_unbundled(tmp_path: Path) -> None:
    meta, parts = written(tmp_path / "a.sog", some_splats(50, 1))
    wanted = read_splats(tmp_path / "a.sog")
    found = read_splats(unbundled(tmp_path / "scene", meta, parts))
    for name in FIELDS:
        np.testing.assert_array_equal(found[name], wanted[name])


def first_version(count: int, degree: int, seed: int = 0) -> tuple[dict[str, Any], Parts]:
    """A scene as the first writer made it: square pictures, ranges, opacities as logits."""
    draw = np.random.default_rng(seed)
    side = math.isqrt(count)
    parts: Parts = {}

    def image(name: str, height: int, width: int, channels: int) -> str:
        encoded = io.BytesIO()
        values = draw.integers(0, 256, (height, width, channels)).astype(np.uint8)
        if name == "quats":
            values[..., 3] = draw.integers(252, 256, (height, width))
        if name == "shN_labels":
            values[..., 1] = 0
            values[..., 0] %= 128
        Image.fromarray(values).save(encoded, "WEBP", lossless=True, exact=True)
        parts[f"{name}.webp"] = encoded.getvalue()
        return f"{name}.webp"

    meta: dict[str, Any] = {
        "means": {
            "shape": [count, 3],
            "dtype": "float32",
            "mins": [-2.0, -1.0, 0.5],
            "maxs": [3.0, 1.5, 0.5],
            "files": [image("means_l", side, side, 3), image("means_u", side, side, 3)],
        },
        "scales": {
            "mins": [-9, -8, -7],
            "maxs": [-1, -2, -3],
            "files": [image("scales", side, side, 3)],
        },
        "quats": {"encoding": "quaternion_packed", "files": [image("quats", side, side, 4)]},
        "sh0": {
            "mins": [-1, -2, -3, -5],
            "maxs": [1, 2, 3, 9],
            "files": [image("sh0", side, side, 4)],
        },
    }
    if degree:
        width = 64 * ((degree + 1) ** 2 - 1)
        names = [image("shN_centroids", 2, width, 3), image("shN_labels", side, side, 3)]
        meta["shN"] = {"mins": -0.5, "maxs": 0.75, "quantization": 8, "files": names}
    return meta, parts


def assert_reads_as_the_first_version(
    found: SplatArrays, meta: dict[str, Any], parts: Parts
) -> None:
    def between(key: str, channel: int, byte: int) -> float:
        low, high = (np.ravel(meta[key][end])[channel] for end in ("mins", "maxs"))
        return low + (high - low) * byte / 255

    each = found["sh"].shape[1] - 1
    image = {key: [pixels(parts[name]) for name in meta[key]["files"]] for key in meta}
    for i in range(meta["means"]["shape"][0]):
        low, high = image["means"][0][i], image["means"][1][i]
        ends = zip(meta["means"]["mins"], meta["means"]["maxs"], strict=True)
        wanted = [position(low[k], high[k], *pair) for k, pair in enumerate(ends)]
        assert found["means"][i] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
        assert found["rotations"][i] == pytest.approx(quaternion(*image["quats"][0][i]), abs=1e-6)
        scale, colour = image["scales"][0][i], image["sh0"][0][i]
        wanted = [between("scales", k, scale[k]) for k in range(3)]
        assert found["log_scales"][i] == pytest.approx(wanted, rel=1e-6)
        wanted = [between("sh0", k, colour[k]) for k in range(4)]
        assert [*found["sh"][i, 0], found["opacity_logits"][i]] == pytest.approx(wanted, abs=1e-6)
        for k in range(each):
            label = image["shN"][1][i][0] + 256 * image["shN"][1][i][1]
            codes = image["shN"][0][label // 64 * 64 * each + label % 64 * each + k]
            wanted = [between("shN", 0, codes[c]) for c in range(3)]
            assert found["sh"][i, 1 + k] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("degree", range(4))
def test_the_first_version(degree: int, tmp_path: Path) -> None:
    meta, parts = first_version(49, degree)
    for path in (bundle(tmp_path / "a.sog", meta, parts), unbundled(tmp_path / "b", meta, parts)):
        found = read_splats(path)
        assert found["sh"].shape == (49, (degree + 1) ** 2, 3)
        assert_reads_as_the_first_version(found, meta, parts)


def test_what_viewers_forgive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A first code that is null, marks that are none, labels beyond the palette."""
    path = tmp_path / "a.sog"
    meta, parts = written(path, some_splats(16, 1))
    wanted = read_splats(path)
    codes = meta["scales"]["codebook"]
    first = codes[1] + (codes[1] - codes[255]) / 255
    meta["scales"]["codebook"] = [None, *codes[1:]]
    meta["shN"]["count"] = 3
    quats = np.array(Image.open(io.BytesIO(parts["quats.webp"])))
    quats[0, 1, 3] = 251
    encoded = io.BytesIO()
    Image.fromarray(quats).save(encoded, "WEBP", lossless=True, exact=True)
    found = read_splats(bundle(path, meta, {**parts, "quats.webp": encoded.getvalue()}))
    assert found["rotations"][1].tolist() == [1, 0, 0, 0]
    np.testing.assert_array_equal(found["rotations"][2:], wanted["rotations"][2:])
    lowest = wanted["log_scales"] == np.float32(codes[0])
    assert lowest.sum() >= 1
    np.testing.assert_allclose(found["log_scales"][lowest], first, rtol=1e-6)
    np.testing.assert_array_equal(found["log_scales"][~lowest], wanted["log_scales"][~lowest])
    labels = np.array([p[0] for p in pixels(parts["shN_labels.webp"])])[:16]
    assert not found["sh"][labels >= 3, 1:].any()
    np.testing.assert_array_equal(found["sh"][labels < 3], wanted["sh"][labels < 3])
    assert "13 splats have a label beyond the palette's 3 entries" in capsys.readouterr().err


def test_no_bands_are_no_harmonics(tmp_path: Path) -> None:
    meta, parts = written(tmp_path / "a.sog", some_splats(5))
    meta["shN"] = {"bands": 0}
    assert read_splats(bundle(tmp_path / "a.sog", meta, parts))["sh"].shape == (5, 1, 3)
