"""Splat files: how large, how fast, and whether someone else's reader finds the same.

    npm install -g @playcanvas/splat-transform
    python benchmarks/formats.py [--only speed,foreign] [--json]

Seconds are wall time on otherwise idle cores, the median of three; a million splats of degree 3,
clustered. Where splat-transform is not on the path its part is left out and said so.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from deforming.rows import Row, at_most, run_parts, seconds
from torch import Tensor
from torch.nn import functional as F

from geodistill.geometry.splats import Splats, load_splats, save_splats

LIMITS_S = {".ply": 2.0, ".splat": 2.0, ".compressed.ply": None, ".spz": 6.0, ".sog": 60.0}
MILLION = 1_000_000
FOREIGN = 20_000
CLOSE = 1e-4
READINGS = 0.02
"""What programs differ by in .splat: some read a byte b of rotation as b / 128 - 1, as its own
does, others as b / 127.5 - 1; and an opacity of 255 as 1 or as less."""
TOOL = "splat-transform"


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
    """What splat-transform reads in our files and we in its own, beside each other's reading."""
    tool = shutil.which(TOOL)
    if tool is None:
        return [Row(f"{TOOL} is not on the path", "left out")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_splats(place / "scene.ply", clustered(FOREIGN, 1))
        for ending in LIMITS_S:
            ours = place / f"ours{ending}"
            save_splats(ours, load_splats(place / "scene.ply"))
            _convert(tool, ours, place / "back.ply")
            apart = _apart(load_splats(ours), load_splats(place / "back.ply"))
            limit = READINGS if ending == ".splat" else CLOSE
            rows.append(_row(f"our {ending}, read by {TOOL}", apart, limit))
        for ending in (".compressed.ply", ".spz", ".sog"):
            theirs = place / f"theirs{ending}"
            options = ["-g", "cpu"] if ending == ".sog" else []
            save_splats(place / "few.ply", clustered(2000, 2))
            _convert(tool, place / "few.ply", theirs, *options)
            _convert(tool, theirs, place / "back.ply")
            apart = _apart(load_splats(theirs), load_splats(place / "back.ply"))
            rows.append(_row(f"its {ending}, read here", apart, CLOSE))
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


def _row(what: str, apart: dict[str, float], limit: float) -> Row:
    text = ", ".join(f"{name} {value:.1g}" for name, value in apart.items())
    return Row(what, text, f"<= {limit:.2g}", max(apart.values()) <= limit)


if __name__ == "__main__":
    sys.exit(run_parts({"speed": speed, "foreign": foreign}, "Measure splat files."))
