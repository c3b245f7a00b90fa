"""`geodistill lift`: features of a 2D teacher onto a geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Machine, expect_free, expect_seed, expect_views, prepare
from geodistill.cli.report import pairs

if TYPE_CHECKING:
    from torch import Tensor

    from geodistill.cameras import Camera
    from geodistill.lift.scenes import Scene

SHEET_VIEWS = 4


@dataclass(frozen=True, kw_only=True)
class Arguments(Machine):
    """Lift the features of an image teacher onto a mesh, a point cloud, splats or a field."""

    geometry: Annotated[
        Path, Positional("a mesh, a point cloud, a splat file or a field", metavar="GEOMETRY")
    ]
    teacher: Annotated[
        str, Option("lite0, dinov2-s, dinov2-s-focus, geometric, or a Hugging Face folder or name")
    ] = "lite0"
    views: Annotated[int, Option("number of views around the geometry")] = 24
    resolution: Annotated[int, Option("pixels along the side of a view")] = 448
    images: Annotated[
        Path | None, Option("posed photographs to lift from instead", metavar="DATASET")
    ] = None
    channels: Annotated[str, Option("principal components to keep, or full", metavar="N")] = "64"
    solver: Annotated[Literal["refined", "mean", "ridge"], Option("how pixels become features")] = (
        "refined"
    )
    seed: Annotated[int, Option("seed of the views")] = 0
    output: Annotated[
        Path | None,
        Option("NAME.safetensors", short="-o", metavar="OUT", setting=False),
    ] = None
    overwrite: Annotated[bool, Option("replace a finished output", setting=False)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_seed(self.seed)
        expect_views(self.views, self.resolution)
        if self.channels != "full" and not (self.channels.isdecimal() and int(self.channels) > 0):
            raise UsageError(f"--channels must be a positive number or full, got {self.channels}")
        if self.output is not None and self.output.suffix != ".safetensors":
            raise UsageError(f"-o {self.output}: features go into a file NAME.safetensors")


def run(arguments: Arguments) -> dict[str, Any]:
    import time

    prepare(arguments)
    from geodistill.lift.files import save_features
    from geodistill.lift.scenes import load_scene
    from geodistill.teachers import MESH_TEACHERS, load_mesh_teacher
    from geodistill.teachers.lifted import described

    started = time.perf_counter()
    output = arguments.output or Path(f"{arguments.geometry.stem}_{_tail(arguments.teacher)}")
    output = output.with_suffix(".safetensors")
    expect_free(arguments.overwrite, output, output.with_suffix(".png"))
    scene = load_scene(arguments.geometry)
    if arguments.teacher in MESH_TEACHERS:
        found = described(scene, load_mesh_teacher(arguments.teacher))
        result = {"found": found, "channels": found.features.shape[1], "coverage": 1.0}
    else:
        result = _seen(arguments, scene, output.with_suffix(".png"))
    save_features(output, replace(result.pop("found"), source=arguments.geometry))
    return {
        "output": str(output),
        "elements": len(scene.positions),
        **result,
        "seconds": round(time.perf_counter() - started, 2),
        "peak_rss_mb": _peak_rss_mb(),
    }


def report(result: dict[str, Any]) -> str:
    return pairs(result)


def _seen(arguments: Arguments, scene: Scene, picture: Path) -> dict[str, Any]:
    """What an image teacher says, lifted."""
    from geodistill.io.images import write_png
    from geodistill.lift.scenes import cameras_around
    from geodistill.lift.sheet import feature_paint, sheet
    from geodistill.lift.solve import refined, ridge, weighted_mean
    from geodistill.teachers import load_teacher
    from geodistill.teachers.lifted import lift_features

    solver = {
        "refined": lambda views, part: refined(views, channels=part),
        "mean": weighted_mean,
        "ridge": lambda views, part: ridge(views, 0.3, part),
    }[arguments.solver]
    teacher = load_teacher(arguments.teacher, device=arguments.device)
    channels = None if arguments.channels == "full" else int(arguments.channels)
    if arguments.images is None:
        cameras = cameras_around(scene, arguments.views, arguments.resolution, arguments.seed)
        photographs = None
    else:
        cameras, photographs = _photographs(arguments.images)
    lifted = lift_features(scene, teacher, cameras, channels, solver, photographs)
    shown = cameras[: min(SHEET_VIEWS, len(cameras))]
    write_png(picture, sheet(scene, shown, [feature_paint(lifted.found.features)]))
    return {
        "found": lifted.found,
        "channels": lifted.found.features.shape[1],
        "coverage": round(lifted.coverage, 4),
        "explained": round(lifted.explained, 4),
        "steps": lifted.steps,
        "sheet": str(picture),
    }


def _photographs(dataset: Path) -> tuple[Camera, Tensor]:
    """The training views of a data set: cameras, and images [N, H, W, 3] over white."""
    import torch

    from geodistill.io.posed import load_posed_images

    data = load_posed_images(dataset, "train")
    white = torch.ones(3)
    images = torch.stack([data.composite(image, white) for image in data.images])
    return data.cameras, images


def _tail(teacher: str) -> str:
    """The last part of a teacher's name, for a file's name."""
    return Path(teacher).name or "features"


def _peak_rss_mb() -> float | None:
    """Most memory that the process has held, where the system says so."""
    import sys

    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
