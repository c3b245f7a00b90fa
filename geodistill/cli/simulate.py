"""`geodistill simulate`: data sets made here, in the field's own formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from geodistill.checks import UsageError
from geodistill.cli.arguments import Common, Option, Positional

if TYPE_CHECKING:
    from geodistill.io.kitti import Labels

_SAMPLE = 50  # scans whose numbers are reported


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Make labelled scans of generated streets: a folder as that of KITTI's object benchmark."""

    kind: Annotated[Literal["lidar"], Positional("what is made: lidar", metavar="lidar")]
    output: Annotated[Path, Option("the data set's folder", short="-o", metavar="DIR")]
    frames: Annotated[int, Option("how many scans")] = 1000
    val_share: Annotated[float, Option("share of the scans that is held out, the last")] = 0.2
    sensor: Annotated[Literal["hdl-64e", "hdl-32e", "vlp-16"], Option("whose beams are cast")] = (
        "hdl-64e"
    )
    around: Annotated[bool, Option("whole turns, not the sector that the camera sees")] = False
    seed: Annotated[int, Option("another one gives other streets")] = 0
    workers: Annotated[int | None, Option("processes (default: one for each core)")] = None
    picture: Annotated[
        Path | None, Option("first scans from above, with their labels", metavar="FILE.png")
    ] = None
    overwrite: Annotated[
        bool, Option("replace a data set that is whole, or another, and a picture")
    ] = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")
        if self.picture is not None and self.picture.suffix.lower() != ".png":
            raise UsageError(f"--picture {self.picture}: pictures are PNG files, NAME.png")


def run(arguments: Arguments) -> dict[str, Any]:
    import time

    from geodistill.cli.options import expect_free
    from geodistill.detect.datasets.kitti import Kitti
    from geodistill.runs.environment import cores
    from geodistill.simulate.lidar.statistics import statistics
    from geodistill.simulate.lidar.write import Simulation, write_dataset

    expect_free(arguments.overwrite, picture=arguments.picture)
    wanted = Simulation(
        *(arguments.frames, arguments.val_share, arguments.sensor),
        *(arguments.around, arguments.seed),
    )
    workers = arguments.workers or cores()
    started = time.perf_counter()
    written = write_dataset(arguments.output, wanted, workers, arguments.overwrite)
    seconds = time.perf_counter() - started
    dataset = Kitti(arguments.output)
    names = dataset.frames("trainval")
    held_out = dataset.frames("val") if (arguments.output / "ImageSets/val.txt").is_file() else []
    if arguments.picture is not None:
        from geodistill.cli.scan_pictures import labelled_sheet
        from geodistill.io.images import write_png

        write_png(arguments.picture, labelled_sheet(dataset, names[:4]))
    return {
        "output": str(arguments.output),
        "frames": wanted.frames,
        "written": written,
        "seconds": seconds,
        "scans_per_second": written / seconds if written else None,
        "statistics": statistics(dataset, names[:_SAMPLE]),
        "val_objects": _counts([dataset.labels(name) for name in held_out]),
    }


def _counts(frames: Sequence[Labels]) -> dict[str, dict[str, int]]:
    """Objects that the benchmark counts, by class and level."""
    from geodistill.metrics.kitti import CLASSES, LEVELS, count_valid

    return {name: dict(zip(LEVELS, count_valid(frames, name), strict=True)) for name in CLASSES}


def report(result: dict[str, Any]) -> str:
    from geodistill.metrics.kitti import LEVELS
    from geodistill.simulate.lidar.statistics import REAL

    found = result["statistics"]
    lines = [f"{result['output']}: {result['frames']:,} scans, {result['written']:,} made now"]
    lines += ["", f"{'mean of a scan':<24}{'here':>10}{'KITTI 000008':>15}"]
    for name, real in REAL.items():
        lines.append(f"{name:<24}{_number(found[name]):>10}{_number(real):>15}")
    objects = ", ".join(f"{name} {count:.1f}" for name, count in found["objects"].items())
    lines += ["", f"objects in a scan: {objects}"]
    counts = result["val_objects"]
    lines += ["", f"{'objects that count, val':<24}" + "".join(f"{one:>10}" for one in LEVELS)]
    for name, own in counts.items():
        lines.append(f"{name:<24}" + "".join(f"{own[level]:>10,}" for level in LEVELS))
    if result["scans_per_second"] is not None:
        lines += ["", f"{result['scans_per_second']:.1f} scans a second"]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
