"""Splat files: how large, how fast, and whether someone else's reader finds the same.

    python benchmarks/formats.py [--only speed,foreign] [--json]

Seconds are wall time on otherwise idle cores, the median of three; a million splats of degree 3,
clustered. The foreign readers are plyfile and, installed into the cache by npm, splat-transform,
three.js's loaders and Niantic's SPZ library; where there is no npm they are left out and said so.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from rows import Row, at_most, run_parts, seconds
from torch import Tensor
from torch.nn import functional as F

from geodistill.geometry.splats import Splats, load_splats, save_splats
from geodistill.io.splats import SplatArrays, read_splats
from geodistill.io.splats.arrays import SH_C0
from geodistill.io.splats.gltf import HALF_TURN
from geodistill.io.splats.turning import turned
from geodistill.runs import cache_root

LIMITS_S = {".ply": 2.0, ".splat": 2.0, ".compressed.ply": None, ".spz": 6.0, ".sog": 60.0}
MILLION = 1_000_000
FOREIGN = 20_000
CLOSE = 1e-4
READINGS = 0.02
"""What programs differ by in .splat: some read a byte b of rotation as b / 128 - 1, as its own
does, others as b / 127.5 - 1; and an opacity of 255 as 1 or as less."""
TOOL = "splat-transform"
PACKAGES = ("@playcanvas/splat-transform", "three", "@spz-loader/core")
SCRIPT = Path(__file__).with_name("read_splats.mjs")
PROGRAMS = {"three": "three.js", "spz": "the SPZ library"}
READERS = {"three": (".ply", ".splat", ".spz", ".glb"), "spz": (".spz",)}
BYTE, HARMONIC = 0.502 / 255, 0.502 / 128
"""Half a step of the bytes that three.js keeps of colours and of harmonics."""


def clustered(count: int, seed: int = 0) -> Splats:
    """Splats as scenes have them: in clumps of like size and colour."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw)

    clump = torch.randint(500, (count,), generator=draw)
    return Splats(
        3 * normal(500, 3)[clump] + 0.2 * normal(count, 3),
        F.normalize(normal(count, 4), dim=1),
        normal(500, 3)[clump] * 0.3 + normal(count, 3) * 0.4 - 4.5,
        normal(count) * 2,
        torch.cat([normal(500, 1, 3)[clump], 0.15 * normal(500, 15, 3)[clump]], 1)
        + 0.05 * normal(count, 16, 3),
    )


def speed() -> list[Row]:
    splats, rows = clustered(MILLION), []
    with tempfile.TemporaryDirectory() as folder:
        for ending, limit in LIMITS_S.items():
            path = Path(folder) / f"scene{ending}"
            for what, run in (
                ("write", lambda path=path: save_splats(path, splats)),
                ("read", lambda path=path: load_splats(path)),
            ):
                spent = statistics.median(seconds(run) for _ in range(3))
                name = f"{what} a million splats of degree 3, {ending}"
                size = f"{path.stat().st_size / 1e6:.0f} MB"
                if limit is None:
                    rows.append(Row(name, f"{spent:.3g} s", peers=size))
                else:
                    rows.append(at_most(name, spent, limit, "s", size))
            path.unlink()
    return rows


def foreign() -> list[Row]:
    """What other programs read in our files and we in theirs, beside each other's reading."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = _plyfile_rows(place)
        npm, node = shutil.which("npm"), shutil.which("node")
        if npm is None or node is None:
            return [*rows, Row("npm is not on the path", "its readers are left out")]
        packages = _installed(npm)
        rows += _transform_rows(place, str(packages / "node_modules" / ".bin" / TOOL))
        for reader, endings in READERS.items():
            for ending in endings:
                ours = place / f"scene{ending}"
                save_splats(ours, clustered(FOREIGN, 1))
                command = [node, str(packages / SCRIPT.name), reader, str(ours), str(place / "out")]
                subprocess.run(command, check=True, capture_output=True)
                found = np.fromfile(place / "out", np.float32)
                rows.append(_script_row(ending, reader, _as_written(ours), found))
    return rows


def _installed(npm: str) -> Path:
    """The folder with the foreign readers of npm, which are fetched where they are missing."""
    folder = cache_root() / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / "node_modules" / name).is_dir() for name in PACKAGES):
        command = [npm, "install", "--ignore-scripts", "--prefix", str(folder), *PACKAGES]
        subprocess.run(command, check=True, capture_output=True)
    shutil.copy(SCRIPT, folder)
    return folder


def _plyfile_rows(place: Path) -> list[Row]:
    from plyfile import PlyData

    splats = clustered(FOREIGN, 1)
    save_splats(place / "scene.ply", splats)
    vertex = PlyData.read(place / "scene.ply")["vertex"]

    def columns(*names: str) -> Tensor:
        return torch.from_numpy(np.stack([vertex[name] for name in names], axis=1))

    rest = columns(*(f"f_rest_{i}" for i in range(45))).view(-1, 3, 15).mT
    theirs = Splats(
        columns("x", "y", "z"),
        columns("rot_0", "rot_1", "rot_2", "rot_3"),
        columns("scale_0", "scale_1", "scale_2"),
        columns("opacity")[:, 0],
        torch.cat([columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None], rest], dim=1),
    )
    return [_row("our .ply, read by plyfile", _apart(splats, theirs))]


def _as_written(path: Path) -> SplatArrays:
    """Our reading of a file, in the axes of the file: glTF looks the other way than 3DGS."""
    arrays = read_splats(path)
    return turned(arrays, HALF_TURN, np.zeros(3)) if path.suffix == ".glb" else arrays


def _script_row(ending: str, reader: str, ours: SplatArrays, found: np.ndarray) -> Row:
    """Our reading of a file beside that of read_splats.mjs, in the axes of the file."""
    blocks = []
    while len(found):
        size = int(found[0])
        blocks.append(torch.from_numpy(found[1 : 1 + size].copy()))
        found = found[1 + size :]
    count = len(ours["means"])
    centers, covariances, colors, harmonics = (block.view(count, -1) for block in blocks)
    splats = Splats(**{f.name: torch.from_numpy(np.asarray(ours[f.name])) for f in fields(Splats)})
    expected, (row, column) = _covariances(splats), torch.triu_indices(3, 3)
    traces = expected.diagonal(dim1=1, dim2=2).sum(1)[:, None]
    seen, rest = splats.sh[:, 0] * SH_C0 + 0.5, splats.sh[:, 1:].reshape(count, -1)
    limits = dict.fromkeys(("means", "covariances", "colours", "harmonics"), CLOSE)
    # A byte of 255 is an opacity of 1 there; here it is half a step less, whose logit is finite.
    limits["opacities"] = BYTE
    if reader == "three":
        seen, rest = seen.clamp(0, 1), rest.clamp(-1, 127 / 128)
        limits |= {"colours": BYTE, "harmonics": HARMONIC}
    gaps = {
        "means": centers - splats.means,
        "covariances": (covariances - expected[:, row, column]) / traces,
        "colours": colors[:, :3] - seen,
        "opacities": colors[:, 3] - splats.opacity_logits.sigmoid(),
        "harmonics": harmonics - rest,
    }
    apart = {name: float(gap.abs().max()) for name, gap in gaps.items() if gap.numel()}
    return _row(f"our {ending}, read by {PROGRAMS[reader]}", apart, limits)


def _transform_rows(place: Path, tool: str) -> list[Row]:
    rows = []
    save_splats(place / "scene.ply", clustered(FOREIGN, 1))
    for ending in LIMITS_S:
        ours = place / f"ours{ending}"
        save_splats(ours, load_splats(place / "scene.ply"))
        _convert(tool, ours, place / "back.ply")
        apart = _apart(load_splats(ours), load_splats(place / "back.ply"))
        limit = READINGS if ending == ".splat" else CLOSE
        rows.append(_row(f"our {ending}, read by {TOOL}", apart, dict.fromkeys(apart, limit)))
    for ending in (".compressed.ply", ".spz", ".sog"):
        theirs = place / f"theirs{ending}"
        options = ["-g", "cpu"] if ending == ".sog" else []
        save_splats(place / "few.ply", clustered(2000, 2))
        _convert(tool, place / "few.ply", theirs, *options)
        _convert(tool, theirs, place / "back.ply")
        apart = _apart(load_splats(theirs), load_splats(place / "back.ply"))
        rows.append(_row(f"its {ending}, read here", apart))
    return rows


def _convert(tool: str, source: Path, target: Path, *options: str) -> None:
    command = [tool, "-q", "-w", *options, str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True)


def _apart(ours: Splats, theirs: Splats) -> dict[str, float]:
    """Largest differences; of opacities as they are seen, of covariances over their traces."""

    def largest(a: Tensor, b: Tensor) -> float:
        return float((a - b).abs().max())

    one, two = _covariances(ours), _covariances(theirs)
    traces = one.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    degree = min(ours.sh.shape[1], theirs.sh.shape[1])
    return {
        "means": largest(ours.means, theirs.means),
        "scales": largest(ours.log_scales, theirs.log_scales),
        "opacities": largest(ours.opacity_logits.sigmoid(), theirs.opacity_logits.sigmoid()),
        "harmonics": largest(ours.sh[:, :degree], theirs.sh[:, :degree]),
        "covariances": largest(one / traces, two / traces),
    }


def _covariances(splats: Splats) -> Tensor:
    """float64 [N, 3, 3]"""
    w, x, y, z = F.normalize(splats.rotations.double(), dim=1).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    axes = torch.stack([torch.stack(row, 1) for row in rows], 1)
    axes = axes * splats.log_scales.double().exp()[:, None]
    return axes @ axes.mT


def _row(what: str, apart: dict[str, float], limits: dict[str, float] | None = None) -> Row:
    limits = limits or dict.fromkeys(apart, CLOSE)
    text = ", ".join(f"{name} {value:.1g}" for name, value in apart.items())
    target = " to ".join(dict.fromkeys(f"{v:.2g}" for v in sorted(set(limits.values()))))
    return Row(what, text, f"<= {target}", all(v <= limits[name] for name, v in apart.items()))


if __name__ == "__main__":
    sys.exit(run_parts({"speed": speed, "foreign": foreign}, "Measure splat files."))
