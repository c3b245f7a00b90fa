"""`geodistill eval`: how good detections are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from geodistill.checks import UsageError
from geodistill.cli.arguments import Common, Option

if TYPE_CHECKING:
    from geodistill.metrics.kitti import KittiReport

_LEVELS = ("easy", "moderate", "hard")


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Measure detections by the KITTI benchmark's average precision (AP, percent)."""

    predictions: Annotated[
        Path, Option("text files of detections, 16 columns, one file a frame", metavar="DIR")
    ]
    labels: Annotated[Path, Option("text files of labels, such as label_2", metavar="DIR")]
    split: Annotated[
        Path | None,
        Option("names of frames, such as ImageSets/val.txt (default: those predicted)"),
    ] = None
    classes: Annotated[str, Option("names, with commas between them")] = "Car,Pedestrian,Cyclist"
    loose: Annotated[
        bool, Option("overlap of 0.5 for Car and 0.25 for others, from above and in 3D")
    ] = False

    def __post_init__(self) -> None:
        if not self.names():
            raise UsageError("--classes names no class: write Car,Pedestrian")

    def names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.classes.split(",") if name.strip())


def run(arguments: Arguments) -> dict[str, Any]:
    from geodistill.metrics.kitti import OVERLAPS, evaluate
    from geodistill.metrics.kitti_folders import read_frames

    frames, labels, predictions = read_frames(
        arguments.labels, arguments.predictions, arguments.split
    )
    names = arguments.names()
    least = {name.lower(): OVERLAPS.get(name.lower(), 0.5) for name in names}
    loose = {name: 0.5 if limit > 0.5 else 0.25 for name, limit in least.items()}
    found = evaluate(labels, predictions, names, loose if arguments.loose else None)
    return {"frames": len(frames), **_counts(found), **found.values()}


def report(result: dict[str, Any]) -> str:
    names = [key.split("/")[0] for key in result if key.endswith("/count/easy")]
    lines = [f"{result['frames']:,} frames; AP at 40 positions (11 in brackets), percent", ""]
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
    return "\n".join([*lines, *_caps(result, names)]).rstrip()


def _counts(found: KittiReport) -> dict[str, int]:
    return {f"{name}/count/{level}": count for (name, level), count in found.counts.items()}


def _caps(result: dict[str, Any], names: list[str]) -> list[str]:
    """What the benchmark allows where there are few objects."""
    from geodistill.metrics.kitti import POSITIONS, cap40

    few = []
    for name in names:
        for level in _LEVELS:
            count = result[f"{name}/count/{level}"]
            if count < POSITIONS:
                few.append(f"{name} {level}: {count} objects, at most {cap40(count):.1f}")
    if not few:
        return []
    head = f"With fewer than {POSITIONS} objects AP40 stays below 100 even where all is found:"
    return [head, *(f"  {line}" for line in few)]
