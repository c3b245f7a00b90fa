"""`geodistill detect`: the boxes that a detector finds in a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Machine, expect_free, prepare

MOST_VALUES = 64  # of a point
NUSCENES_ENDING, NUSCENES_VALUES = ".pcd.bin", 5  # of its own sweeps


@dataclass(frozen=True, kw_only=True)
class Arguments(Machine):
    """Find boxes in a scan: x, y and z of their middle, length, width and height in metres, yaw in
    radians from x towards y, in the scan's frame."""

    scan: Annotated[Path, Positional("NAME.bin, NAME.npy or NAME.pcd", metavar="SCAN")]
    model: Annotated[
        Path,
        Option(
            "a detector's run or file, or a checkpoint of mmdetection3d or OpenPCDet", metavar="RUN"
        ),
    ]
    output: Annotated[
        Path | None, Option("boxes (NAME.json), and beside it a picture, NAME.png", short="-o")
    ] = None
    least_score: Annotated[float | None, Option("from 0 to 1 (default: the model's)")] = None
    values: Annotated[
        int | None,
        Option(
            "that a point in SCAN has (default: the model's; of NAME.pcd.bin, a sweep of nuScenes, "
            "5): with 3 intensities are 0, as in training on such scans; further ones of the model "
            "are 0 too"
        ),
    ] = None
    intensity_scale: Annotated[
        float, Option("what intensities are divided by: 255 where they go up to that")
    ] = 1.0
    overwrite: Annotated[bool, Option("replace what is at -o")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least_score is not None and not 0 <= self.least_score <= 1:
            raise UsageError(f"--least-score must be from 0 to 1, got {self.least_score}")
        if self.output is not None and self.output.suffix.lower() != ".json":
            raise UsageError(f"-o {self.output}: boxes are written as NAME.json")
        if self.values is not None and not 3 <= self.values <= MOST_VALUES:
            raise UsageError(f"--values must be from 3 to {MOST_VALUES}, got {self.values}")
        if not 0 < self.intensity_scale < math.inf:
            raise UsageError(
                f"--intensity-scale must be above 0 and finite, got {self.intensity_scale}"
            )


def run(arguments: Arguments) -> dict[str, Any]:
    import time

    import torch

    from geodistill.cli.detector_files import open_detector
    from geodistill.detect.picture import bird_view, outlines_of
    from geodistill.io.box_files import json_boxes, write_json_boxes
    from geodistill.io.images import write_png
    from geodistill.io.scans import read_points

    prepare(arguments)
    of_nuscenes = arguments.scan.name.lower().endswith(NUSCENES_ENDING)
    if of_nuscenes and arguments.values not in (None, NUSCENES_VALUES):
        raise UsageError(
            f"{arguments.scan} is a sweep of nuScenes, whose points have {NUSCENES_VALUES} values: "
            "leave --values out, or rename the file"
        )
    files = _outputs(arguments)
    expect_free(arguments.overwrite, *files, inputs=(arguments.scan, arguments.model))
    detector = open_detector(arguments.model).to(arguments.device)
    if arguments.least_score is not None:
        choice = replace(detector.settings.choice, least_score=arguments.least_score)
        detector.settings = replace(detector.settings, choice=choice)
    own = detector.settings.values
    values = NUSCENES_VALUES if of_nuscenes else arguments.values or own
    points = torch.from_numpy(read_points(arguments.scan, values, arguments.intensity_scale))
    if of_nuscenes:
        points = points[:, :4]  # the fifth is the number of the beam
    points = torch.nn.functional.pad(points, (0, own - points.shape[1]))  # or cut
    started = time.perf_counter()
    with torch.no_grad():
        found = detector.detections(detector(detector.prepare([points])))[0]
    seconds = time.perf_counter() - started
    boxes = json_boxes(found.names(detector.classes), found.boxes.numpy(), found.scores.numpy())
    if files:
        write_json_boxes(files[0], boxes)
        outlines = outlines_of(found, detector.classes)
        write_png(files[1], bird_view(points, outlines, detector.area))
    return {"points": len(points), "seconds": seconds, "boxes": boxes}


def _outputs(arguments: Arguments) -> list[Path]:
    if arguments.output is None:
        return []
    return [arguments.output, arguments.output.with_suffix(".png")]


def report(result: dict[str, Any]) -> str:
    boxes = result["boxes"]
    head = f"{len(boxes)} boxes in {result['points']:,} points, {1000 * result['seconds']:.0f} ms"
    lines = [
        f"{box['class']:<12}{box['score']:>6.2f}"
        + "".join(f"{value:>9.2f}" for value in [*box["center"], *box["size"], box["yaw"]])
        for box in boxes
    ]
    names = ("x", "y", "z", "length", "width", "height", "yaw")
    columns = f"{'class':<12}{'score':>6}" + "".join(f"{name:>9}" for name in names)
    return "\n".join([head, columns, *lines] if boxes else [head])
