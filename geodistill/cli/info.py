"""`geodistill info`: what a file is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from geodistill.cli.arguments import Common, Positional
from geodistill.cli.report import pairs


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Say what a field, mesh, point cloud, splats, a detector, a run folder or features hold."""

    file: Annotated[
        Path,
        Positional(
            "a field, mesh, point cloud, splats, a detector, a checkpoint, a run folder, or what "
            "lift and query write",
            metavar="FILE",
        ),
    ]


def run(arguments: Arguments) -> dict[str, Any]:
    from geodistill.cli.detector_files import describe_detector, holds_detector
    from geodistill.geometry.describe import describe
    from geodistill.runs import result_file

    path = result_file(arguments.file)
    return describe_detector(path) if holds_detector(path) else describe(path)


def report(result: dict[str, Any]) -> str:
    return pairs(result)
