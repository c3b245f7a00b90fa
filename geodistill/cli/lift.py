"""`geodistill lift`: features of a 2D teacher onto a geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import (
    MOST_STEPS,
    Observer,
    expect_free,
    expect_whole,
    prepare,
    stem_of,
)
from geodistill.cli.report import pairs

if TYPE_CHECKING:
    from torch import Tensor

    from geodistill.cameras import Camera
    from geodistill.lift.scene import Scene
    from geodistill.teachers.lifted import LiftReport


SEEN_LITTLE = 0.2
"""Part of the elements; what is inside of things is seen by no view."""


@dataclass(frozen=True, kw_only=True)
class Arguments(Observer):
    """Lift the features of an image teacher onto a mesh, a point cloud, splats or a field."""

    geometry: Annotated[
        Path, Positional("a mesh, a point cloud, a splat file or a field", metavar="GEOMETRY")
    ]
    images: Annotated[
        Path | None, Option("posed photographs to lift from instead", metavar="DATASET")
    ] = None
    split: Annotated[
        Literal["all", "train", "val", "test"], Option("which of --images to lift from")
    ] = "all"
    channels: Annotated[str, Option("principal components to keep, or full", metavar="N")] = "64"
    solver: Annotated[
        Literal["refined", "mean", "ridge", "network"], Option("how pixels become features")
    ] = "refined"
    proxy: Annotated[
        int | None, Option("lift onto a copy of the mesh with N faces, and carry over from it")
    ] = None
    export: Annotated[
        Path | None, Option("write the geometry with the features as attributes", metavar="FILE")
    ] = None
    steps: Annotated[
        int | None, Option("steps of training of --solver network (default: 1500)")
    ] = None
    field: Annotated[
        Path | None, Option("write the network of --solver network", metavar="FILE")
    ] = None
    output: Annotated[
        Path | None,
        Option("NAME.safetensors", short="-o", metavar="OUT", setting=False),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels != "full" and not (self.channels.isdecimal() and int(self.channels) > 0):
            raise UsageError(f"--channels must be a positive number or full, got {self.channels}")
        if self.images is None and self.split != "all":
            raise UsageError("--split says which of --images to lift from, which is missing")
        if self.images is not None and self.views != Observer.views:
            raise UsageError("--views: the cameras are those of --images, leave it out")
        if self.images is not None and self.resolution != Observer.resolution:
            raise UsageError("--resolution: it is that of --images, leave it out")
        if self.proxy is not None and self.proxy < 4:
            raise UsageError(f"--proxy must be at least 4 faces, got {self.proxy}")
        if self.field is not None and self.solver != "network":
            raise UsageError("--field is what --solver network makes: add it or leave --field out")
        if self.steps is not None and self.solver != "network":
            raise UsageError("--steps is for --solver network: add it or leave --steps out")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"--steps must be from 1 to {MOST_STEPS}, got {self.steps}")
        if self.field is not None and self.field.suffix != ".safetensors":
            raise UsageError(f"--field {self.field}: name it NAME.safetensors")
        if self.export is not None and self.export.suffix.lower() == ".obj":
            raise UsageError("--export: OBJ has no room for attributes; write GLB or PLY")
        if self.output is not None and self.output.suffix != ".safetensors":
            raise UsageError(f"-o {self.output}: features go into a file NAME.safetensors")


def run(arguments: Arguments) -> dict[str, Any]:
    import time

    prepare(arguments)
    from geodistill.geometry.mesh_files import files_beside
    from geodistill.io.images import write_png
    from geodistill.lift.files import save_features
    from geodistill.lift.scenes import MeshScene, load_scene
    from geodistill.lift.sheet import VIEWS, feature_paint, sheet
    from geodistill.log import say
    from geodistill.teachers import MESH_TEACHERS, load_mesh_teacher
    from geodistill.teachers.lifted import described

    started = time.perf_counter()
    named = f"{stem_of(arguments.geometry)}_{_tail(arguments.teacher)}.safetensors"
    output = arguments.output or Path(named)
    picture = output.with_suffix(".png")
    expect_free(
        arguments.overwrite,
        *(output, picture),
        inputs=(arguments.geometry,),
        export=arguments.export,
        field=arguments.field,
    )
    scene, cameras = load_scene(arguments.geometry, arguments.device), None
    beside: list[Path] = []
    if arguments.export is not None:
        scene.expect_ending(arguments.export)
    if isinstance(scene, MeshScene):
        if arguments.export is not None:
            beside = files_beside(arguments.export, scene.mesh)
            expect_free(arguments.overwrite, *beside, inputs=(arguments.geometry,))
        outputs = (output, picture, arguments.export, arguments.field, *beside)
        expect_whole(arguments.geometry, outputs)
    if arguments.teacher in MESH_TEACHERS:
        _expect_no_views(arguments)
        found = described(scene, load_mesh_teacher(arguments.teacher))
        told: dict[str, Any] = {"coverage": 1.0}
    else:
        cameras, photographs = _views(arguments, scene)
        lifted = _lifted(arguments, scene, cameras, photographs)
        found = lifted.found
        if lifted.coverage < SEEN_LITTLE:
            say(
                f"only {lifted.coverage:.1%} of the elements are seen, the others take features "
                "from them: are the cameras in the geometry's frame, is the resolution enough?"
            )
        told = {
            "views": len(cameras),
            "coverage": round(lifted.coverage, 4),
            "explained": round(lifted.explained, 4),
            "steps": lifted.steps,
            "sheet": str(picture),
        }
    if arguments.export is not None:
        scene.save(arguments.export, {"feature": found.features}, None)
        told["export"] = str(arguments.export)
        told |= {"beside": [str(path) for path in beside]} if beside else {}
    if cameras is not None:
        shown = cameras[: min(VIEWS, len(cameras))]
        write_png(picture, sheet(scene, shown, [feature_paint(found.features)]))
    save_features(output, replace(found, source=arguments.geometry))
    return {
        "output": str(output),
        "elements": len(scene.positions),
        "channels": found.features.shape[1],
        **told,
        "seconds": round(time.perf_counter() - started, 2),
        "peak_rss_mb": _peak_rss_mb(),
    }


def report(result: dict[str, Any]) -> str:
    return pairs(result)


def _expect_no_views(arguments: Arguments) -> None:
    """Raise UsageError for options that mean nothing to a teacher that looks at no images."""
    given = {
        "--images": arguments.images is not None,
        "--proxy": arguments.proxy is not None,
        "--solver": arguments.solver != Arguments.solver,
        "--channels": arguments.channels != Arguments.channels,
        "--views": arguments.views != Arguments.views,
        "--resolution": arguments.resolution != Arguments.resolution,
    }
    for option, present in given.items():
        if present:
            raise UsageError(f"{option}: '{arguments.teacher}' looks at no images, leave it out")


def _views(arguments: Arguments, scene: Scene) -> tuple[Camera, Tensor | None]:
    """The cameras to lift from, and the photographs they took, if they did."""
    from geodistill.lift.scenes import cameras_around

    if arguments.images is not None:
        return _photographs(arguments.images, arguments.split)
    cameras = cameras_around(scene, arguments.views, arguments.resolution, arguments.seed)
    return cameras, None


def _lifted(
    arguments: Arguments, scene: Scene, cameras: Camera, photographs: Tensor | None
) -> LiftReport:
    """What an image teacher says, lifted onto the scene or onto its proxy."""
    from geodistill.distill.barycentric import save_feature_field
    from geodistill.distill.surface import STEPS, distil_features, features_at
    from geodistill.lift.proxy import ProxyScene
    from geodistill.lift.scenes import MeshScene
    from geodistill.lift.solve import refined, ridge, weighted_mean
    from geodistill.teachers import load_teacher
    from geodistill.teachers.lifted import lift_features
    from geodistill.train import Budget

    teacher = load_teacher(arguments.teacher, device=arguments.device, mirrored=True)
    channels = None if arguments.channels == "full" else int(arguments.channels)
    coarse = None
    if arguments.proxy is not None:
        if not isinstance(scene, MeshScene):
            raise UsageError(f"--proxy is for meshes, this is a {scene.kind}")
        coarse = ProxyScene(scene, arguments.proxy)
    onto, features = coarse or scene, None
    if arguments.solver == "network":
        budget = Budget(steps=STEPS if arguments.steps is None else arguments.steps)
        lifted, field = distil_features(
            onto, teacher, cameras, channels, photographs, budget, arguments.seed
        )
        features = features_at(field, scene.positions, lifted.found.basis)
        if arguments.field is not None:
            save_feature_field(arguments.field, field)
    else:
        solver = {
            "refined": lambda views, part: refined(views, channels=part),
            "mean": weighted_mean,
            "ridge": lambda views, part: ridge(views, 0.3, part),
        }[arguments.solver]
        lifted = lift_features(onto, teacher, cameras, channels, solver, photographs)
    if coarse is None:
        return lifted
    return replace(lifted, found=coarse.carry(lifted.found, features))


def _photographs(dataset: Path, split: str) -> tuple[Camera, Tensor]:
    """The views of a data set: cameras, and images [N, H, W, 3] over white."""
    import torch

    from geodistill.io.posed import load_posed_images

    data = load_posed_images(dataset, split)
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
