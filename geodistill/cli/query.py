"""`geodistill query`: where lifted features are like a place, a text, or one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from geodistill.checks import InputError, UsageError
from geodistill.cli.arguments import Option, Positional
from geodistill.cli.options import Pictured, expect_free, expect_whole, prepare, stem_of
from geodistill.cli.report import pairs

if TYPE_CHECKING:
    from torch import Tensor

    from geodistill.lift.files import FeatureSet
    from geodistill.lift.query import Answer
    from geodistill.lift.scene import Scene, Spot

NEAR, FAR = 0.05, 1.0
"""Distances of a place from the geometry, in its diagonals: said beyond, refused beyond."""


@dataclass(frozen=True, kw_only=True)
class Arguments(Pictured):
    """Ask lifted features what is like a place (--click), what a text describes (--text), or what
    the parts are (--clusters): similarities, masks, labels and a picture of them."""

    features: Annotated[Path, Positional("features that lift has written", metavar="FEATURES")]
    geometry: Annotated[
        Path | None,
        Option("what they are of, if it does not lie where lift found it", metavar="FILE"),
    ] = None
    click: Annotated[
        tuple[str, ...],
        Option("a place: what is like the nearest point of the geometry?", metavar="X,Y,Z"),
    ] = ()
    text: Annotated[
        tuple[str, ...],
        Option("words: what do they describe? (CLIP and SigLIP features)", metavar="TEXT"),
    ] = ()
    clusters: Annotated[int | None, Option("how many parts to find")] = None
    teacher: Annotated[
        str | None,
        Option("where the teacher of --text is, if not to be had by its name", metavar="FOLDER"),
    ] = None
    centring: Annotated[
        float | None,
        Option("part of the features' mean to leave out, 0 to 1 (default: 0.7)", metavar="PART"),
    ] = None
    threshold: Annotated[
        float | None,
        Option("similarity from which masks hold (default: found for each)", metavar="COSINE"),
    ] = None
    export: Annotated[
        Path | None,
        Option("write the geometry with the answer as attributes and colours", metavar="FILE"),
    ] = None
    output: Annotated[
        Path | None,
        Option("NAME.safetensors", short="-o", metavar="OUT", setting=False),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = (bool(self.click), bool(self.text), self.clusters is not None)
        if sum(asked) != 1:
            raise UsageError("give one of --click, --text and --clusters; see --help")
        if self.teacher is not None and not self.text:
            raise UsageError("--teacher is for --text: nothing else asks the teacher again")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UsageError(f"--threshold must lie between -1 and 1, got {self.threshold}")
        if self.threshold is not None and self.clusters is not None:
            raise UsageError("--threshold is for masks: --clusters makes labels")
        if self.output is not None and self.output.suffix != ".safetensors":
            raise UsageError(f"-o {self.output}: answers go into a file NAME.safetensors")


def run(arguments: Arguments) -> dict[str, Any]:
    prepare(arguments)
    from geodistill.io.images import write_png
    from geodistill.lift.files import load_features
    from geodistill.lift.query import save_answer
    from geodistill.lift.scenes import MeshScene, cameras_around, load_scene
    from geodistill.lift.sheet import VIEWS, sheet

    output = arguments.output or Path(f"{stem_of(arguments.features)}_query.safetensors")
    picture = output.with_suffix(".png")
    points = [_point(text) for text in arguments.click]
    found = load_features(arguments.features)
    file = arguments.geometry or found.source
    expect_free(
        arguments.overwrite,
        *(output, picture),
        inputs=(arguments.features, file),
        export=arguments.export,
    )
    if file is None or not file.exists():
        where = f"it is not at {file} any more" if file else "the file does not say where it is"
        raise InputError(
            f"{arguments.features}: the geometry is missing, {where}; give --geometry FILE"
        )
    scene = load_scene(file)
    found.expect(scene.kind, scene.digest, len(scene.positions), arguments.features)
    if arguments.export is not None:
        scene.expect_ending(arguments.export)
    if isinstance(scene, MeshScene):
        expect_whole(file, (output, picture, arguments.export))
    answer, extra = _answer(arguments, found, scene, points)
    cameras = cameras_around(scene, VIEWS, arguments.resolution, arguments.seed)
    paints = _paints(answer)
    if arguments.export is not None:
        _export(arguments.export, scene, answer, paints[-1].over_grey())
    write_png(picture, sheet(scene, cameras, paints))
    save_answer(output, answer, scene.kind, scene.digest)
    exported = {} if arguments.export is None else {"export": str(arguments.export)}
    return {"output": str(output), "sheet": str(picture), **exported, **extra}


def report(result: dict[str, Any]) -> str:
    return pairs(result)


def _point(text: str) -> tuple[float, float, float]:
    """A place as it is written on the command line."""
    import math

    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--click takes a place as X,Y,Z, got '{text}'") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise UsageError(f"--click takes three finite numbers, got '{text}'")
    return x, y, z


def _answer(
    arguments: Arguments,
    found: FeatureSet,
    scene: Scene,
    points: Sequence[tuple[float, float, float]],
) -> tuple[Answer, dict[str, Any]]:
    """What the features say, and what to tell of it."""
    import torch
    from torch.nn import functional as F

    from geodistill.lift.query import CENTRING, Answer, centred, clusters, masked

    amount = CENTRING if arguments.centring is None else arguments.centring
    # Sentences are compared with the teacher's own features, places with what views agree on.
    directions = centred(found.directions() if arguments.text else found.whitened(), amount)
    if arguments.clusters is not None:
        labels = clusters(directions, arguments.clusters, arguments.seed)
        sizes = torch.bincount(labels, minlength=arguments.clusters)
        return Answer(label=labels), {"elements": len(labels), "sizes": sizes.tolist()}
    if points:
        spots = [scene.at(torch.tensor(point, dtype=torch.float64)) for point in points]
        _expect_near(arguments.click, spots, scene)
        wanted = torch.stack(
            [spot.weights.to(directions) @ directions[spot.index] for spot in spots]
        )
        if not bool(wanted.any(dim=1).all()):
            raise InputError("nothing is known of the place: its features are zero")
        extra: dict[str, Any] = {"distance": [round(spot.distance, 6) for spot in spots]}
    else:
        wanted, extra = found.directions_like(_sentences(arguments, found)), {}
    answer = masked(directions @ F.normalize(wanted, dim=1).T, arguments.threshold)
    assert answer.mask is not None
    share = answer.mask.float().mean(dim=0)
    return answer, {
        "elements": len(directions),
        "threshold": [round(value, 4) for value in answer.threshold],
        "share": [round(float(value), 4) for value in share],
        **extra,
    }


def _expect_near(clicks: Sequence[str], spots: Sequence[Spot], scene: Scene) -> None:
    """Say which places lie off the geometry, and raise InputError for one that is far from it."""
    from geodistill.log import say

    seen = scene.framed
    size = float((seen.amax(dim=0) - seen.amin(dim=0)).norm())
    for click, spot in zip(clicks, spots, strict=True):
        text = f"--click {click}: the geometry is {spot.distance / size:.3g} of its diagonal away"
        if spot.distance > FAR * size:
            raise InputError(f"{text}: is the place in its frame and unit?")
        if spot.distance > NEAR * size:
            say(f"{text}, the nearest place is taken")


def _sentences(arguments: Arguments, found: FeatureSet) -> Tensor:
    """The texts as the features' own teacher sees them. [Q, full]"""
    from geodistill.teachers import load_teacher, same_teacher
    from geodistill.teachers.base import mirrored

    name = arguments.teacher or found.teacher
    teacher = load_teacher(name, device=arguments.device)
    # Features of a teacher that saw mirror images too are compared with the same words.
    if not any(
        same_teacher(one.fingerprint, found.fingerprint) for one in (teacher, mirrored(teacher))
    ):
        raise InputError(
            f"{arguments.features} was lifted with another teacher than '{name}' is now: "
            "give its --teacher FOLDER, or lift again"
        )
    if not teacher.knows_text:
        raise UsageError(
            f"--text: the teacher '{name}' knows no words; lift with a CLIP or SigLIP "
            "model, or ask with --click"
        )
    return teacher.text_features(list(arguments.text)).float().cpu()


def _paints(answer: Answer) -> list[Any]:
    """A heat map for every question, and labels, of what is like any of the questions."""
    from geodistill.lift.sheet import heat_paint, label_paint

    paints = []
    if answer.similarity is not None:
        paints += [heat_paint(column) for column in answer.heat().T]
    if answer.label is not None:
        held = None if answer.mask is None else answer.mask.any(dim=1)
        paints.append(label_paint(answer.label, held))
    return paints


def _export(path: Path, scene: Scene, answer: Answer, colors: Tensor) -> None:
    """The geometry in the answer's colours; with its numbers where the format has room for them."""
    attributes = answer.columns() if path.suffix.lower() != ".obj" else {}
    scene.save(path, attributes, colors)
