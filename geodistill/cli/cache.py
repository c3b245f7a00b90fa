"""`geodistill cache`: a recipe's batches, and what teachers say of them, for many students."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from geodistill.cli.arguments import Option
from geodistill.cli.options import prepare
from geodistill.cli.train import Taught, guide_of, read_recipe


@dataclass(frozen=True, kw_only=True)
class Arguments(Taught):
    """Store a recipe's batches, and its teachers' outputs where its losses tap them: students with
    the same data, seed, batch, augmentation, grid and anchors read them by train --cache."""

    output: Annotated[Path, Option("the cache's folder", short="-o", metavar="DIR")]


def run(arguments: Arguments) -> dict[str, Any]:
    from geodistill.cli.detector_files import open_detector
    from geodistill.detect.datasets import open_dataset
    from geodistill.fit.detector.training import cache_batches

    prepare(arguments)
    recipe = read_recipe(arguments)
    dataset = open_dataset(arguments.data)
    teachers = [open_detector(Path(name)) for name in arguments.teacher]
    steps, written = cache_batches(
        recipe, dataset, arguments.output, arguments.device, guide_of(teachers, recipe)
    )
    size = sum(path.stat().st_size for path in arguments.output.rglob("*.safetensors"))
    return {"output": str(arguments.output), "steps": steps, "written": written, "bytes": size}


def report(result: dict[str, Any]) -> str:
    return (
        f"{result['output']}: {result['steps']:,} batches, {result['written']:,} made now, "
        f"{result['bytes'] / 1e9:.2f} GB"
    )
