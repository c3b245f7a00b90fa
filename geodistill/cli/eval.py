"""`geodistill eval`: how good a detector, or its detections, are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from geodistill.checks import InputError, UsageError, choose
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Machine, expect_takes_files, prepare

if TYPE_CHECKING:
    from geodistill.metrics.detectors import Report

_PREDICTIONS, _SCANS, _CURVES = "predictions", "scans.png", "curves.png"
_LEVELS = ("easy", "moderate", "hard")


@dataclass(frozen=True, kw_only=True)
class Arguments(Machine):
    """Measure a detector, or files of detections, by the KITTI benchmark's average precision (AP,
    percent), or on nuScenes by its own."""

    model: Annotated[
        Path | None,
        Positional("a detector's run, file or checkpoint; else --predictions", metavar="RUN"),
    ] = None
    data: Annotated[
        Path | None, Option("data set of RUN (default: that of its training)", metavar="DIR")
    ] = None
    predictions: Annotated[
        Path | None,
        Option("text files of detections, 16 columns, one file a frame", metavar="DIR"),
    ] = None
    labels: Annotated[
        Path | None, Option("text files of labels, such as label_2", metavar="DIR")
    ] = None
    split: Annotated[
        str | None,
        Option(
            "name of one of RUN's data set (default: what its training held out, or val); or, with "
            "--predictions, a file of names of frames, such as ImageSets/val.txt (default: those "
            "predicted)"
        ),
    ] = None
    classes: Annotated[
        str | None, Option("names, with commas between them (default: RUN's, or KITTI's)")
    ] = None
    loose: Annotated[
        bool, Option("overlap of 0.5 for Car and 0.25 for others, from above and in 3D")
    ] = False
    output: Annotated[
        Path | None,
        Option("folder for pictures and RUN's detections", short="-o", metavar="DIR"),
    ] = None
    overwrite: Annotated[bool, Option("replace what is at -o")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is None and (self.predictions is None or self.labels is None):
            raise UsageError("name a RUN, or --predictions DIR and --labels DIR")
        if self.model is not None and (self.predictions or self.labels):
            raise UsageError("a RUN detects by itself: leave --predictions and --labels out")
        if self.model is None and self.data is not None:
            raise UsageError("--data is of a RUN: name one, or leave it out")
        if self.classes is not None and not self.names(()):
            raise UsageError("--classes names no class: write Car,Pedestrian")

    def names(self, default: tuple[str, ...]) -> tuple[str, ...]:
        if self.classes is None:
            return default
        return tuple(name.strip() for name in self.classes.split(",") if name.strip())


def run(arguments: Arguments) -> dict[str, Any]:
    from geodistill.metrics.detectors import flat

    prepare(arguments)
    if arguments.output is not None:
        written = (_CURVES,) if arguments.model is None else (_PREDICTIONS, _SCANS, _CURVES)
        _expect_room(arguments.output, written, arguments.overwrite)
    frames, names, report = (_of_files if arguments.model is None else _of_model)(arguments)
    if arguments.output is not None:
        from geodistill.io.images import write_png
        from geodistill.metrics.curve_picture import curve_picture
        from geodistill.runs import make_folder

        make_folder(arguments.output)
        write_png(arguments.output / _CURVES, curve_picture(report, names))
    return {"frames": len(frames), **flat(report)}


def _expect_room(folder: Path, written: tuple[str, ...], overwrite: bool) -> None:
    """Raise UsageError where a report may not go: beside other files, or in another's place; and
    InputError where the system takes no files.

    Detections that no report wrote, without its picture, are in no case replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is no folder: choose another")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if other := sorted(there - {*written}):
        raise UsageError(f"-o {folder} has other files ({other[0]}): choose another folder")
    if _PREDICTIONS in there & {*written} and _SCANS not in there:
        raise UsageError(f"-o {folder} has {_PREDICTIONS} of no report: choose another folder")
    if there & {*written} and not overwrite:
        raise UsageError(f"-o {folder} has a report: choose another -o or pass --overwrite")
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    expect_takes_files(folder, nearest)


def _of_files(arguments: Arguments) -> tuple[list[str], tuple[str, ...], Report]:
    from geodistill.io.kitti_folders import read_frames
    from geodistill.log import say
    from geodistill.metrics.kitti import CLASSES, evaluate

    assert arguments.predictions is not None and arguments.labels is not None
    split = None if arguments.split is None else Path(arguments.split)
    frames, labels, predictions = read_frames(arguments.labels, arguments.predictions, split)
    there = {path.stem for path in arguments.labels.glob("*.txt")}
    if split is None and there - {*frames}:
        say(
            f"{arguments.labels} has {len(there - {*frames}):,} more frames, which do not count as "
            "they have no predictions: name by --split those that do"
        )
    names = arguments.names(CLASSES)
    if arguments.classes is not None:
        known = [*(name for one in (*labels, *predictions) for name in one.names), *CLASSES]
        names = _known(names, known)
    return frames, names, evaluate(labels, predictions, names, _overlaps(arguments, names))


def _of_model(arguments: Arguments) -> tuple[list[str], tuple[str, ...], Report]:
    from geodistill.cli.detector_files import open_detector
    from geodistill.cli.scan_pictures import detected_sheet
    from geodistill.detect.datasets import open_dataset
    from geodistill.io.images import write_png
    from geodistill.metrics.detectors import detect, expect_overlaps, measure
    from geodistill.runs import make_folder

    assert arguments.model is not None
    detector = open_detector(arguments.model).to(arguments.device)
    data, val = _trained_on(arguments.model)
    data = arguments.data or data
    if data is None:
        raise InputError(
            f"{arguments.model} does not say what it was trained on: name a data set by --data"
        )
    dataset = open_dataset(data)
    names = _known(arguments.names(detector.classes), detector.classes)
    overlaps = _overlaps(arguments, names)
    expect_overlaps(dataset, overlaps)
    frames = dataset.frames(arguments.split or val)
    found = detect(detector, dataset, frames)
    report = measure(dataset, frames, found, detector.classes, names, overlaps)
    if arguments.output is not None:
        # The picture first: by it a report is known, wherever this ends.
        make_folder(arguments.output)
        write_png(arguments.output / _SCANS, detected_sheet(dataset, frames, found, detector))
        _clear(arguments.output / _PREDICTIONS)
        dataset.write(arguments.output / _PREDICTIONS, frames, found, detector.classes)
    return frames, names, report


def _clear(folder: Path) -> None:
    """Remove the detections that an earlier report wrote, of whichever metric."""
    from geodistill.runs.files import write_error

    for path in [*folder.glob("*.txt"), *folder.glob("*.json")]:
        try:
            path.unlink()
        except OSError as error:
            raise write_error(path, error) from None


def _known(names: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Names of classes as they are there. Raises UsageError for one that is not."""
    known = {name.lower(): name for name in there}
    for name in names:
        if name.lower() not in known:
            choose("class", name, {one: one for one in known.values()})  # says which there are
    return tuple(known[name.lower()] for name in names)


def _trained_on(model: Path) -> tuple[Path | None, str]:
    """The data set of the run that a detector is of, or is a file of, None where that is unknown,
    and the split that it held out."""
    from geodistill.config import read_yaml
    from geodistill.runs.layout import CONFIG

    path = (model if model.is_dir() else model.parent) / CONFIG
    own = model.is_dir() or model.suffix == ".safetensors"
    settings = read_yaml(path) if own and path.is_file() else {}
    data, recipe = settings.get("data"), settings.get("recipe")
    val = recipe.get("val") if isinstance(recipe, dict) else None
    return Path(data) if isinstance(data, str) else None, val if isinstance(val, str) else "val"


def _overlaps(arguments: Arguments, names: tuple[str, ...]) -> dict[str, float] | None:
    from geodistill.metrics.kitti import OVERLAPS

    if not arguments.loose:
        return None
    least = {name.lower(): OVERLAPS.get(name.lower(), 0.5) for name in names}
    return {name: 0.5 if limit > 0.5 else 0.25 for name, limit in least.items()}


def report(result: dict[str, Any]) -> str:
    kind = "of centres within distances" if "mAP" in result else "at 40 positions (11 in brackets)"
    return "\n".join([f"{result['frames']:,} frames; AP {kind}, percent", "", *tables(result)])


def tables(result: dict[str, Any]) -> list[str]:
    """A table for each class of flat values, and what few objects allow; or that of nuScenes."""
    if "mAP" in result:
        return _distances(result)
    end = "/count/easy"
    names = [key.removesuffix(end) for key in result if key.endswith(end)]
    lines: list[str] = []
    for name in names:
        counts = [result[f"{name}/count/{level}"] for level in _LEVELS]
        heads = "".join(
            f"{f'{level} ({count:,})':>20}" for level, count in zip(_LEVELS, counts, strict=True)
        )
        lines.append(f"{name:<12}{heads}")
        for view in ("2d", "bev", "3d", "aos"):
            if f"{name}/{view}/AP40/easy" not in result:
                continue
            values = [
                f"{result[f'{name}/{view}/AP40/{level}']:.2f} "
                f"({result[f'{name}/{view}/AP11/{level}']:.2f})"
                for level in _LEVELS
            ]
            lines.append(f"  {view:<10}" + "".join(f"{value:>20}" for value in values))
        lines.append("")
    lines.append(f"mean of moderate 3D AP40: {result['score']:.2f}")
    few = _caps(result, names)
    return [*lines, "", *few] if few else lines


def _distances(result: dict[str, Any]) -> list[str]:
    """A line for each class: average precisions, and errors where it has them."""
    from geodistill.metrics.nuscenes import DISTANCES_M, ERRORS

    aps = ["AP", *(f"AP/{limit:g}" for limit in DISTANCES_M)]
    heads = ["AP", *(f"{limit:g} m" for limit in DISTANCES_M), *ERRORS]
    lines = [f"{'':<22}{'objects':>8}" + "".join(f"{head:>8}" for head in heads)]
    for name in [key.removesuffix("/count") for key in result if key.endswith("/count")]:
        values = [result[f"{name}/{ap}"] for ap in aps]
        cells = [f"{value:8.2f}" for value in values]
        errors = [result.get(f"{name}/{error}") for error in ERRORS]
        cells += [f"{'-' if value is None else f'{value:.3f}':>8}" for value in errors]
        lines.append(f"{name:<22}{result[f'{name}/count']:>8,}" + "".join(cells))
    means = [f"{key} {result[key]:.3f}" for key in (f"m{e}" for e in ERRORS) if key in result]
    score = [f"NDS {result['NDS']:.2f}"] if "NDS" in result else []
    return [*lines, "", ", ".join([f"mAP {result['mAP']:.2f}", *score, *means])]


def _caps(result: dict[str, Any], names: list[str]) -> list[str]:
    """What the benchmark allows where there are few objects."""
    from geodistill.metrics.kitti import POSITIONS, caps

    few = []
    for name in names:
        for level in _LEVELS:
            count = result[f"{name}/count/{level}"]
            if count < POSITIONS:
                most = "{:.2f} ({:.2f})".format(*caps(count))
                few.append(f"{name} {level}: {count} objects, at most {most}")
    if not few:
        return []
    head = f"With fewer than {POSITIONS} objects AP40 (AP11) stays below 100 where all is found:"
    return [head, *(f"  {line}" for line in few)]
