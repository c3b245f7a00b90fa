"""`geodistill render`: pictures and videos of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from geodistill.checks import UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Axis, Machine, expect_count, is_film, prepare
from geodistill.cli.report import pairs

Channel = Literal["color", "depth", "opacity", "normal"]
NOT_A_FOLDER = (".png", ".jpg", ".jpeg", ".gif", ".exr", ".avi", ".mov", ".mkv", ".webm")


@dataclass(frozen=True, kw_only=True)
class Arguments(Machine):
    """Make pictures or a video of a scene: the views of a data set, an orbit, or cameras of your
    own.
    """

    source: Annotated[Path, Positional("a field, splats, a mesh or points", metavar="X")]
    data: Annotated[Path | None, Option("render the views of this data set", metavar="DATASET")] = (
        None
    )
    split: Annotated[str, Option("which of its views")] = "test"
    orbit: Annotated[int | None, Option("render N views around the scene")] = None
    up: Annotated[
        Axis | None,
        Option(
            "axis that an orbit goes around, as --up y or --up=-y (default: what glTF or the "
            "scene's cameras say, else z)"
        ),
    ] = None
    cameras: Annotated[
        Path | None, Option("render the cameras of a transforms.json", metavar="FILE")
    ] = None
    output: Annotated[
        Path | None, Option("a folder, or NAME.mp4", short="-o", metavar="OUT", setting=False)
    ] = None
    format: Annotated[
        Literal["png", "exr", "mp4"] | None,
        Option("file format (default: what OUT says, else png)"),
    ] = None
    channels: Annotated[
        tuple[Channel, ...], Option("what to render", metavar="color,depth,opacity,normal")
    ] = ("color",)
    resolution: Annotated[int | None, Option("pixels along the longer side")] = None
    overwrite: Annotated[bool, Option("replace what was rendered before", setting=False)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = [self.data is not None, self.orbit is not None, self.cameras is not None]
        if sum(asked) != 1:
            raise UsageError("say what to render with one of --data, --orbit and --cameras")
        if self.up is not None and self.orbit is None:
            raise UsageError("--up is of an --orbit, which is missing")
        expect_count("orbit", self.orbit)
        expect_count("resolution", self.resolution)
        if self.data is None and self.split != "test":
            raise UsageError("--split says which views of --data to render, which is missing")
        if not self.channels:
            raise UsageError("--channels names nothing to render")
        if self.output is not None and self.output.suffix.lower() in NOT_A_FOLDER:
            raise UsageError(
                f"-o {self.output}: name a folder for pictures (--format png or exr) or NAME.mp4"
            )
        if self.output is not None and is_film(self.output) and self.format in ("png", "exr"):
            raise UsageError(f"-o {self.output} names a film, and --format {self.format} pictures")


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    from geodistill.cli.pictures import write_views

    return write_views(arguments)


def report(result: dict[str, Any]) -> str:
    return pairs(result)
