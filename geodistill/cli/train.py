"""`geodistill train`: a detector from labelled scans, alone or taught by others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from geodistill.checks import InputError, UsageError
from geodistill.cli.arguments import Common, Option, Positional

if TYPE_CHECKING:
    from geodistill.fit.detector.recipe import Recipe
    from geodistill.nn.detector import Detector

SHIPPED = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Train a 3D detector by a recipe; with --teacher the recipe's losses teach it as well.

    Under torchrun all processes share each batch.
    """

    recipe: Annotated[
        Path,
        Positional("a YAML file, or one that is shipped: detector/pillars_4x", metavar="RECIPE"),
    ]
    data: Annotated[Path, Option("folder of the data set: KITTI, nuScenes, custom", metavar="DIR")]
    output: Annotated[Path, Option("the run's folder", short="-o", setting=False, metavar="DIR")]
    teacher: Annotated[
        tuple[str, ...],
        Option(
            "a detector's run or file, or a checkpoint of mmdetection3d or OpenPCDet; "
            "several by repeating it",
            metavar="RUN",
        ),
    ] = ()
    set: Annotated[
        tuple[str, ...], Option("a key of the recipe, such as epochs=10", metavar="KEY=VALUE")
    ] = ()
    loss: Annotated[
        tuple[str, ...],
        Option("a loss from the teacher, in the place of the recipe's; several by repeating it"),
    ] = ()
    seed: Annotated[int | None, Option("in the place of the recipe's")] = None
    device: Annotated[str, Option("cpu, cuda or cuda:N; auto takes a GPU if there is one")] = "auto"
    overwrite: Annotated[bool, Option("replace what is at -o", setting=False)] = False


def run(arguments: Arguments) -> dict[str, Any]:
    from geodistill import config
    from geodistill.detect.datasets import open_dataset
    from geodistill.distill.detectors import Teaching
    from geodistill.fit.detector.training import train_detector
    from geodistill.metrics.detectors import headline
    from geodistill.nn.detector_files import fingerprint, load_detector
    from geodistill.runs import Run

    recipe = read_recipe(arguments)
    dataset = open_dataset(arguments.data)
    settings = {"recipe": config.to_dict(recipe), "teacher": list(arguments.teacher)}
    settings["data"] = str(arguments.data.resolve())
    teachers = [load_detector(Path(name)) for name in arguments.teacher]
    device = device_of(arguments.device)

    def guide_of(student: Detector) -> Teaching:
        return Teaching(student, teachers, recipe.losses)

    inputs = {f"--teacher {k}": fingerprint(teacher) for k, teacher in enumerate(teachers)}
    with Run.open(
        arguments.output, "train", settings, arguments.overwrite, inputs=inputs
    ) as opened:
        taught = guide_of if teachers else None
        detector, values = train_detector(recipe, dataset, opened, device, taught)
        result = {
            "output": str(arguments.output),
            "parameters": sum(p.numel() for p in detector.parameters()),
            "score": headline(values, detector.classes),
            **values,
        }
        opened.finish(result)
    return result


def read_recipe(arguments: Arguments) -> Recipe:
    from geodistill import config
    from geodistill.fit.detector.recipe import Recipe

    recipe = config.load(Recipe, recipe_file(arguments.recipe), arguments.set)
    if arguments.loss:
        recipe = replace(recipe, losses=tuple({"loss": name} for name in arguments.loss))
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    if recipe.losses and not arguments.teacher:
        raise UsageError(f"{arguments.recipe} has losses from a teacher: name one by --teacher RUN")
    if arguments.teacher and not recipe.losses:
        raise UsageError(
            f"{arguments.recipe} has no losses from a teacher: leave --teacher out, or add some: "
            "--loss point_distiller"
        )
    return recipe


def recipe_file(path: Path) -> Path:
    """A file as it is given, or one that is shipped. Raises InputError where there is neither."""
    if path.is_file():
        return path
    parts = path.with_suffix(".yaml").parts
    inside = SHIPPED.joinpath(*(parts[1:] if parts[:1] == ("configs",) else parts))
    if ".." not in parts and inside.is_file():
        return inside
    known = sorted(str(one.relative_to(SHIPPED).with_suffix("")) for one in SHIPPED.rglob("*.yaml"))
    raise InputError(f"{path} does not exist; shipped recipes are {', '.join(known)}")


def device_of(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def report(result: dict[str, Any]) -> str:
    lines = [f"{result['output']}: {result['parameters']:,} parameters"]
    lines.append(f"mean of the classes' moderate 3D AP40: {result['score']:.2f}")
    return "\n".join(lines)
