"""`geodistill train`: a detector from labelled scans, alone or taught by others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from geodistill.checks import GeodistillError, InputError, UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Machine, prepare

if TYPE_CHECKING:
    from geodistill.detect.datasets import Dataset
    from geodistill.distill.detectors import Teaching
    from geodistill.fit.detector.recipe import Recipe
    from geodistill.nn.detector import Detector
    from geodistill.runs import Run

SHIPPED = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True, kw_only=True)
class Taught(Machine):
    """What says how a detector is trained, and by whom."""

    recipe: Annotated[
        Path,
        Positional(
            "a YAML file, the folder of a run, or one that is shipped: detector/pillars_4x",
            metavar="RECIPE",
        ),
    ]
    data: Annotated[Path, Option("folder of the data set: KITTI, nuScenes, custom", metavar="DIR")]
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
        Option(
            "name of a loss from the teacher, as it is by default, in the place of the recipe's; "
            "several by repeating it"
        ),
    ] = ()
    seed: Annotated[int | None, Option("in the place of the recipe's")] = None


@dataclass(frozen=True, kw_only=True)
class Arguments(Taught):
    """Train a 3D detector by a recipe; with --teacher the recipe's losses teach it as well.

    Under torchrun all processes share each batch.
    """

    output: Annotated[Path, Option("the run's folder", short="-o", setting=False, metavar="DIR")]
    cache: Annotated[
        Path | None,
        Option(
            "batches that geodistill cache has made with the same data, seed, batch, augmentation, "
            "grid and anchors",
            metavar="DIR",
        ),
    ] = None
    tensorboard: Annotated[
        bool, Option("log for TensorBoard as well, to RUN/tensorboard", setting=False)
    ] = False
    overwrite: Annotated[bool, Option("replace what is at -o", setting=False)] = False


def run(arguments: Arguments) -> dict[str, Any]:
    from geodistill import config, dist
    from geodistill.cli.detector_files import open_detector
    from geodistill.detect.datasets import digest_of, open_dataset
    from geodistill.fit.detector.stored import KEY
    from geodistill.fit.detector.training import train_detector
    from geodistill.metrics.detectors import flat
    from geodistill.nn.detector_files import fingerprint
    from geodistill.runs import Run

    prepare(arguments)
    recipe = read_recipe(arguments)
    for name in arguments.teacher:
        if Path(name).resolve().is_relative_to(arguments.output.resolve()):
            raise UsageError(f"{arguments.output} is read from, by --teacher: choose another -o")
    dataset = open_dataset(arguments.data)
    whole = [os.path.abspath(name) for name in arguments.teacher]
    settings = {"recipe": config.to_dict(recipe), "teacher": whole}
    del settings["recipe"]["workers"]  # of the machine: a run may go on with others
    settings["cached"] = arguments.cache is not None  # a teacher's outputs in half precision
    settings["data"] = os.path.abspath(arguments.data)  # what links are named counts
    teachers = [open_detector(Path(name)) for name in arguments.teacher]
    inputs = {f"--teacher {k}": fingerprint(teacher) for k, teacher in enumerate(teachers)}
    frames = [*dataset.frames(recipe.train), *dataset.frames(recipe.val)]
    inputs["--data"] = dataset.digest(frames)
    if arguments.cache is not None:
        inputs["--cache"] = digest_of([arguments.cache / KEY], ())
    dist.start()
    with contextlib.ExitStack() as stack:
        stack.callback(dist.stop)
        opened = None
        if dist.rank() == 0:
            opened = Run.open(
                arguments.output, "train", settings, arguments.overwrite, inputs=inputs
            )
            stack.enter_context(opened)
            if arguments.tensorboard:
                _show(opened, stack)
        detector, found = train_detector(
            *(recipe, dataset, opened, dist.device(arguments.device)),
            guide_of=guide_of(teachers, recipe),
            cache=arguments.cache,
        )
        result: dict[str, Any] = {
            "output": str(arguments.output),
            "parameters": sum(p.numel() for p in detector.parameters()),
        }
        if opened is not None and found is not None:
            result |= flat(found)
            _draw(opened, detector, dataset, recipe, found)
            opened.finish(result)
    return result


def _show(opened: Run, stack: contextlib.ExitStack) -> None:
    """What is logged goes to TensorBoard as well."""
    from geodistill.train.board import Board

    saved = opened.latest()
    board = Board(opened.path("tensorboard"), after=saved[0] if saved else 0)
    stack.callback(board.close)
    opened.watch(board.add)


def _draw(opened: Run, detector: Detector, dataset: Dataset, recipe: Recipe, found: Any) -> None:
    """What was found in the first held-out scans, and precision over recall."""
    from geodistill.cli.scan_pictures import detected_sheet
    from geodistill.io.images import write_png
    from geodistill.metrics.curve_picture import curve_picture
    from geodistill.metrics.detectors import detect

    frames = dataset.frames(recipe.val)[:4]
    seen = detect(detector, dataset, frames)
    write_png(opened.path("scans.png"), detected_sheet(dataset, frames, seen, detector))
    write_png(opened.path("curves.png"), curve_picture(found, detector.classes))


def guide_of(teachers: Sequence[Detector], recipe: Recipe) -> Callable[[Detector], Teaching] | None:
    """Of a student, what it learns from teachers."""
    from geodistill.distill.detectors import Teaching

    if not teachers:
        return None
    return lambda student: Teaching(student, teachers, recipe.losses, recipe.precision)


def read_recipe(arguments: Taught) -> Recipe:
    from geodistill import config
    from geodistill.fit.detector.recipe import Recipe
    from geodistill.log import say

    file, base = recipe_file(arguments.recipe), None
    given = config.read_yaml(file)
    if "recipe" in given:  # config.yaml of a run
        try:
            base, file = config.from_dict(Recipe, given["recipe"]), None
        except GeodistillError as error:
            raise type(error)(f"{file}: {error}") from None
    recipe = config.load(Recipe, file, arguments.set, base)
    if arguments.loss:
        recipe = replace(recipe, losses=tuple({"loss": name} for name in arguments.loss))
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    if arguments.loss and not arguments.teacher:
        raise UsageError("--loss is from a teacher: name one by --teacher RUN")
    if recipe.losses and not arguments.teacher:
        say(f"{arguments.recipe} has losses from a teacher, and none is named: labels teach alone")
        recipe = replace(recipe, losses=())
    if arguments.teacher and not recipe.losses:
        raise UsageError(
            f"{arguments.recipe} has no losses from a teacher: leave --teacher out, or add some: "
            "--loss point_distiller"
        )
    return recipe


def recipe_file(path: Path) -> Path:
    """A file as it is given, that of a run's folder, or one that is shipped. Raises InputError
    where there is none of them."""
    from geodistill.runs.layout import CONFIG

    if path.is_file():
        return path
    if (path / CONFIG).is_file():
        return path / CONFIG
    if path.name and not path.is_absolute() and ".." not in path.parts:
        parts = path.with_suffix(".yaml").parts
        inside = SHIPPED.joinpath(*(parts[1:] if parts[:1] == ("configs",) else parts))
        if path.suffix in ("", ".yaml") and inside.is_file():
            return inside
    if path.is_dir():
        raise InputError(f"{path} is a folder, and none of a run: name a recipe's file, or a run")
    known = sorted(str(one.relative_to(SHIPPED).with_suffix("")) for one in SHIPPED.rglob("*.yaml"))
    raise InputError(f"{path} does not exist; shipped recipes are {', '.join(known)}")


def report(result: dict[str, Any]) -> str:
    from geodistill.cli.eval import tables

    lines = [f"{result['output']}: {result['parameters']:,} parameters"]
    if "score" in result:
        lines += ["", *tables(result)]
    return "\n".join(lines)
