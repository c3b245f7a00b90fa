"""What the targets of `geodistill convert` have in common: source, run folder, verdict, sheet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.checks import UsageError
from geodistill.cli.options import stem_of

if TYPE_CHECKING:
    from geodistill.cli.convert import Arguments
    from geodistill.geometry.fields import Field
    from geodistill.geometry.mesh import Mesh
    from geodistill.geometry.points import Points
    from geodistill.geometry.splats import Splats
    from geodistill.metrics.fidelity import Comparison
    from geodistill.runs import Run

BUNDLED = Path(__file__).parent.parent / "assets" / "bundled_ngp.safetensors"
SHEET = "contact_sheet.png"
WHAT = {"mesh": "a mesh", "points": "points", "splats": "splats"}


@dataclass(frozen=True)
class Made:
    """What a conversion has made.

    Attributes:
        save: writes it to a path.
        judge: compares it with the source.
        facts: more of it for the result.
    """

    save: Callable[[Path], None]
    judge: Callable[[], Comparison]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a conversion reads and writes: the output as it was named, its run folder, the result's
    file, what is written beside that file, and the source's file."""

    out: Path
    folder: Path
    file: Path
    beside: Sequence[Path]
    source: Path


def place_of(
    arguments: Arguments,
    source: Path,
    inside: str,
    endings: Sequence[str],
    beside: Callable[[Path], Sequence[Path]] = lambda file: (),
) -> Place:
    """Where the arguments want the result, whose name in a run folder is `inside`.

    Raises UsageError for an ending that is not among `endings`, or if the source would be replaced.
    """
    from geodistill.runs import output_paths

    out = arguments.output or default_output(arguments.source, arguments.to)
    folder, file = output_paths(out, inside, endings)
    place = Place(out, folder, file, beside(file), source)
    for written in (file, *place.beside):
        if written.resolve() == source.resolve():
            raise UsageError(f"{written} is what is to be converted: choose another -o")
    if source.resolve().parent == folder.resolve():  # the new run would take the old one's place
        raise UsageError(f"{folder} holds what is to be converted: choose another -o")
    return place


def converted(arguments: Arguments, place: Place, make: Callable[[Run], Made]) -> dict[str, Any]:
    """Make the result in its run folder and judge it; the result of the verb."""
    from geodistill.runs import Run, file_digest

    with Run.open(
        place.folder,
        "convert",
        arguments.settings(),
        arguments.overwrite,
        outputs=[place.file, *place.beside],
        inputs={"SRC": file_digest(place.source)},
    ) as opened:
        start = time.perf_counter()
        made = make(opened)
        seconds = time.perf_counter() - start
        made.save(opened.staged(place.file))
        judged = made.judge()
        written = [opened.staged(path) for path in (place.file, *place.beside)]
        result = {
            "output": str(place.out),
            **judged.report,
            "seconds": seconds,
            **made.facts,
            "bytes": sum(path.stat().st_size for path in written),
        }
        if arguments.sheet:
            judged.save_sheet(opened.path(SHEET))
            result["sheet"] = str(place.folder / SHEET)
        opened.finish(result)
    return result


def load_source(arguments: Arguments) -> tuple[Field | Splats | Mesh | Points, Path]:
    """What is to be converted, and the file that it is in. Raises UsageError where --from names
    something else."""
    from geodistill.geometry.fields import Field, field_path
    from geodistill.geometry.kinds import kind_of
    from geodistill.runs import result_file
    from geodistill.shade.viewable import load_scene

    path = result_file(arguments.source or BUNDLED)
    kind = kind_of(path)
    if kind != "field" and arguments.teacher is not None:
        raise UsageError(f"--from names an architecture of fields, {path} holds {WHAT[kind]}")
    scene = load_scene(path, arguments.device)
    if not isinstance(scene, Field):
        return scene, field_path(path)
    if arguments.teacher not in (None, scene.architecture):
        raise UsageError(
            f"{arguments.source or 'the bundled field'} is {scene.architecture}, not "
            f"{arguments.teacher}: leave --from out or name the architecture it has"
        )
    return scene, field_path(path)


def default_output(source: Path | None, to: str) -> Path:
    """`lego_ngp_tensorf` in the current folder for lego_ngp, lego_ngp.safetensors or lego_ngp/x."""
    return Path(f"{'bundled' if source is None else stem_of(source)}_{to}")


def expect_no_field_options(arguments: Arguments, trained: bool) -> None:
    """Raise UsageError for options that only conversions between fields take, and for --steps and
    --budget where nothing is `trained`."""
    target = {"splats": "splats", "mesh": "a mesh"}[arguments.to]
    given = {
        "--recipe": arguments.recipe != "default",
        "--active": bool(arguments.active),
        "--data": arguments.data is not None,
    }
    for option, present in given.items():
        if present:
            raise UsageError(f"{option} is for fields, {target} is made without: leave it out")
    for option, value in {"--steps": arguments.steps, "--budget": arguments.budget}.items():
        if value is not None and not trained:
            raise UsageError(f"{option} is for training, {target} is made without: leave it out")
