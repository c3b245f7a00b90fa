"""`benchmarks/convert.py` as a module, and the tiny scene that its tests measure."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from scenes import AnalyticField, photograph, ring

from geodistill.io.images import write_png

ROOT = Path(__file__).parent.parent.parent
SIDE = 32


def load(name: str) -> ModuleType:
    """Import ``benchmarks/NAME.py`` by path; scripts there import one another by bare name."""
    file = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module


bench = load("convert")
measure, plan, tables, pages = bench.measure, bench.plan, bench.tables, sys.modules["pages"]
grid, sources, speed, store_module, wording = (
    sys.modules[f"converting.{name}"] for name in ("grid", "sources", "speed", "store", "wording")
)


def write_scene(folder: Path) -> None:
    """The analytic scene as a NeRF-synthetic data set: 12 train and 3 test views."""
    field = AnalyticField()
    opencv_from_opengl = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    for split, count, seed in (("train", 12, 0), ("test", 3, 1)):
        data = photograph(field, ring(count, SIDE, seed))
        (folder / split).mkdir(parents=True)
        frames = []
        for name, image, pose in zip(
            data.names, data.images, data.cameras.world_from_cam, strict=True
        ):
            write_png(folder / split / f"{name}.png", image)
            matrix = (pose.double() @ opencv_from_opengl).tolist()
            frames.append({"file_path": f"./{split}/{name}", "transform_matrix": matrix})
        table = {"camera_angle_x": math.radians(38.0), "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(table))


def store_of(root: Path, **options: Any) -> Any:
    return store_module.Store(root / "benchmarks" / "convert", root / "scenes", **options)


def smoke_cells() -> list[Any]:
    return bench.chosen(plan.smoke_scale(), "all")


def records_of(root: Path) -> dict[str, Any]:
    text = (root / "benchmarks" / "convert" / "records.jsonl").read_text()
    return {record["name"]: record for record in map(json.loads, text.splitlines())}


def conversion(target: str = "tensorf") -> Any:
    return plan.conversion(plan.smoke_scale(), "analytic", "ngp", target)
