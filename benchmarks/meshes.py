"""Meshes of the fields of the three scenes: how near they come to the field and to the truth.

    pip install -e '.[bench,mesh]'
    python benchmarks/scenes.py
    python benchmarks/convert.py --part teachers
    python benchmarks/meshes.py [--only fields,splats] [--json]

The fields are the teachers that benchmarks/convert.py has fitted, the splats are made of them by
`geodistill convert --to splats`. PSNR is to the field over 20 views of 200 pixels, or to the splats
over 20 views of 400. The Chamfer distance is half the sum of the two mean distances between
surfaces, in percent of the diagonal of the true mesh: from points spread evenly over the mesh to
the true mesh, and the other way from points of the true mesh that can be seen from outside, that
is, along a straight line from some of 200 places all around at the distance of the cameras. What is
inside a closed case is in the true meshes but in no picture of them.

Seconds are wall time; CPU seconds are what all threads have used, which others on the machine do
not change.
"""

from __future__ import annotations

import sys
import time

import torch
from rows import Row, at_least, at_most, run_parts
from splats import SCENES, teacher
from torch import Tensor

from geodistill.cameras import sphere_cameras
from geodistill.distill.meshes import to_mesh
from geodistill.distill.splats import SplatConfig, to_splats
from geodistill.geometry.fields import Field
from geodistill.geometry.manifold import open_edges
from geodistill.geometry.mesh import Mesh, diagonal
from geodistill.geometry.mesh_files import load_mesh
from geodistill.geometry.splats import Splats
from geodistill.geometry.surface import closest_surface_points, sample_surface, surface_points
from geodistill.metrics.fidelity import compare
from geodistill.runs import cache_root
from geodistill.shade.viewable import viewable

MOST_S, LEAST_DB, MOST_PERCENT = 60.0, 27.0, 0.5
POINTS = 40_000
LOOKS, AWAY = 200, 3.2
"""Places that the true mesh is looked at from, and their distance."""
OFF = 1e-4
"""How far from the surface rays begin, lest they hit it."""


def fields() -> list[Row]:
    return [row for name in SCENES for row in _rows(name, teacher(name), {}, "field")]


def splats() -> list[Row]:
    found: list[Row] = []
    for name in SCENES:
        made = to_splats(teacher(name))
        found += _rows(name, made, {"resolution": SplatConfig().resolution}, "splats")
    return found


def _rows(name: str, scene: Field | Splats, looks: dict[str, int], kind: str) -> list[Row]:
    wall, cpu = time.perf_counter(), time.process_time()
    mesh = to_mesh(scene)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    report = compare(viewable(scene), viewable(mesh), **looks).report
    truth = load_mesh(cache_root() / "scenes" / name / "mesh.ply")
    percent = 100 * chamfer(mesh, truth) / diagonal(truth)
    what = f"{name}, {kind} to {len(mesh.faces):,} faces"
    strict = kind == "field"
    return [
        _judged(at_least(f"{what}: PSNR", report["psnr_db"], LEAST_DB, "dB"), strict),
        _judged(at_most(f"{what}: distance to the truth", percent, MOST_PERCENT, "%"), strict),
        at_most(f"{what}: edges without two faces", open_edges(mesh), 0, "edges"),
        at_most(f"{what}: time ({cpu:.0f} CPU s)", wall, MOST_S, "s"),
    ]


def _judged(row: Row, strict: bool) -> Row:
    """The row with its target only where one was set."""
    return row if strict else Row(row.what, row.measured)


def chamfer(mesh: Mesh, truth: Mesh) -> float:
    """Half the sum of the mean distances, in the truth's unit."""
    face, weights = sample_surface(mesh, POINTS, 1)
    there = closest_surface_points(truth, surface_points(mesh, face, weights))[2].mean()
    face, weights = sample_surface(truth, POINTS, 0)
    points = surface_points(truth, face, weights)
    back = closest_surface_points(mesh, points[seen_from_outside(truth, points)])[2].mean()
    return float(there + back) / 2


def seen_from_outside(truth: Mesh, points: Tensor) -> Tensor:
    """bool [N]: points of the surface with a straight line to one of the places around it."""
    import trimesh

    rays = trimesh.Trimesh(truth.vertices.numpy(), truth.faces.numpy(), process=False).ray
    seen = torch.zeros(len(points), dtype=torch.bool)
    for eye in sphere_cameras(LOOKS, torch.zeros(3), AWAY, 1.0, (1, 1), 0).centers.double():
        waiting = (~seen).nonzero()[:, 0]
        way = torch.nn.functional.normalize(eye - points[waiting], dim=1)
        start = points[waiting] + OFF * way
        hidden = torch.from_numpy(rays.intersects_any(start.numpy(), way.numpy()))
        seen[waiting[~hidden]] = True
    return seen


if __name__ == "__main__":
    what = "Measure meshes made of fields and splats."
    sys.exit(run_parts({"fields": fields, "splats": splats}, what))
