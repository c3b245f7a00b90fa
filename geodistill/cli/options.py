"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from geodistill.checks import InputError, UsageError
from geodistill.cli.arguments import Common, Option, parse_duration

if TYPE_CHECKING:
    from geodistill.train import Budget

Architecture = Literal["ngp", "tensorf", "tensorf-cp", "plenoxels", "mlp", "composite"]
Size = Literal["reference", "small"]
Background = Literal["auto", "white", "black", "scene"]
Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
BACKGROUND_HELP = (
    "what is behind the object; auto: the images' alpha says it; scene: the images show "
    "surroundings that belong to the picture"
)
MOST_THREADS = 1024
MOST_STEPS = 10**9
MOST = 100_000
"""Views, and pixels along a side."""


@dataclass(frozen=True, kw_only=True)
class Machine(Common):
    """Where a verb computes."""

    device: Annotated[Literal["cpu", "cuda"], Option("where to compute")] = "cpu"
    threads: Annotated[int | None, Option("CPU threads (default: all cores)", setting=False)] = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads must be at least 1, got {self.threads}")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UsageError(f"--threads must be at most {MOST_THREADS}, got {self.threads}")


@dataclass(frozen=True, kw_only=True)
class Pictured(Machine):
    """What a verb takes that shows its result on a geometry."""

    resolution: Annotated[int, Option("pixels along the side of a view")] = 448
    seed: Annotated[int, Option("seed of everything random")] = 0
    overwrite: Annotated[bool, Option("replace a finished output", setting=False)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_seed(self.seed)
        expect_views(1, self.resolution)


@dataclass(frozen=True, kw_only=True)
class Observer(Pictured):
    """Which teacher looks at a geometry, and from how many views around it."""

    teacher: Annotated[
        str, Option("lite0, dinov2-s, dinov2-s-focus, geometric, or a Hugging Face folder or name")
    ] = "lite0"
    views: Annotated[int, Option("number of views around the geometry")] = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_views(self.views, self.resolution)


@dataclass(frozen=True, kw_only=True)
class Student(Machine):
    """How a field is trained and where it goes."""

    size: Annotated[Size, Option("size of the trained field")] = "reference"
    set: Annotated[
        tuple[str, ...],
        Option(
            "change a setting of the trained architecture; can be repeated", metavar="KEY=VALUE"
        ),
    ] = ()
    budget: Annotated[
        float | None,
        Option(
            "train for this time, such as 90s or 10m; preparing and comparing come on top",
            metavar="TIME",
            read=parse_duration,
            instead_of="steps",
        ),
    ] = None
    steps: Annotated[
        int | None,
        Option("stop after N steps instead; the same steps, the same result", instead_of="budget"),
    ] = None
    seed: Annotated[int, Option("seed of everything random")] = 0
    output: Annotated[
        Path | None,
        Option(
            "a run folder, or a file: NAME.safetensors, NAME.th, ...",
            short="-o",
            metavar="OUT",
            setting=False,
        ),
    ] = None
    overwrite: Annotated[bool, Option("replace a finished output", setting=False)] = False
    config: Annotated[
        Path | None,
        Option("YAML file of options; the command line wins", metavar="FILE", setting=False),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device != "cpu" and not self.trains_on_gpu():
            raise UsageError(
                "--device cuda: only fit --as splats trains on a GPU so far; leave --device out"
            )
        expect_seed(self.seed)
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps must be at least 1, got {self.steps}")
        if self.steps is not None and self.steps > MOST_STEPS:
            raise UsageError(f"--steps must be at most {MOST_STEPS}, got {self.steps}")
        if self.steps is not None and self.budget is not None:
            raise UsageError("--steps and --budget both say when to stop: give one of them")

    def trains_on_gpu(self) -> bool:
        """Whether what was asked for can be trained on a GPU."""
        return False


def expect_data(data: Path | None, background: Background) -> None:
    """Raise UsageError for a background of images where there are none."""
    if data is None and background != "auto":
        raise UsageError("--background says what is behind the images of --data, which is missing")


def expect_seed(seed: int) -> None:
    """Raise UsageError unless it is a seed that every generator takes."""
    if not 0 <= seed < 1 << 31:
        raise UsageError(f"--seed must be from 0 to 2147483647, got {seed}")


def expect_views(views: int, resolution: int) -> None:
    """Raise UsageError unless there is a view, and it has a pixel."""
    expect_count("views", views)
    expect_count("resolution", resolution)


def expect_count(name: str, value: int | None) -> None:
    """Raise UsageError unless it is a number of views, or of pixels along a side."""
    if value is not None and value < 1:
        raise UsageError(f"--{name} must be at least 1, got {value}")
    if value is not None and value > MOST:
        raise UsageError(f"--{name} must be at most {MOST}, got {value}")


def is_film(output: Path) -> bool:
    return output.suffix.lower() == ".mp4"


def stem_of(source: Path) -> str:
    """What outputs made of a file or a run folder are named after: lego for lego.glb and its
    lego.glb.run, lego, lego/field.safetensors and lego/config.yml."""
    from geodistill.runs.layout import BESIDE, RESULTS

    source = Path(source).resolve()
    if source.name in (*RESULTS, "config.yml"):
        source = source.parent
    if source.name.endswith(BESIDE):
        source = source.with_name(source.name.removesuffix(BESIDE))
    ends = source.suffix == ".safetensors" or source.is_file()
    return source.stem if ends else source.name


def expect_free(
    overwrite: bool,
    *paths: Path | None,
    inputs: tuple[Path | None, ...] = (),
    **others: Path | None,
) -> None:
    """Raise UsageError if something stands where an output goes, or two outputs would go to one
    place, or one to where an input is read from; InputError for a folder that takes no files.

    `paths` are named by -o, `others` by the options of their names.
    """
    from geodistill.io.nerfstudio import CONFIG

    flags = {f"--{name.replace('_', '-')}": path for name, path in others.items()}
    asked = [*(("-o", path) for path in paths), *flags.items()]
    given = [(flag, path, path.resolve()) for flag, path in asked if path is not None]
    places = [place for _, _, place in given]
    read = {path.resolve() for path in inputs if path is not None}
    for flag, path, place in given:
        if place in read:
            raise UsageError(f"{path} is read from: choose another output")
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file in it")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists: choose another {flag} or pass --overwrite")
        folder = path.parent
        if path.name == CONFIG and not folder.exists():
            folder = folder.parent  # a run of nerfstudio is a folder of its own, which is made
        if not folder.is_dir():
            what = "is no folder" if folder.exists() else "does not exist"
            raise InputError(f"cannot write {path}: the folder {folder} {what}: make it first")
        expect_takes_files(path, folder)
        if places.count(place) > 1:
            raise UsageError(f"two outputs would go to {path}: name another file")


def expect_whole(mesh: Path, outputs: Iterable[Path | None]) -> None:
    """Raise UsageError if an output would replace a file that a mesh names, such as its texture.

    Only what exists can be replaced, so that the mesh is read for it then alone.
    """
    from geodistill.io.meshes import files_of_mesh

    there = [path for path in outputs if path is not None and path.exists()]
    if not there:
        return
    read = {path.resolve() for path in files_of_mesh(mesh)}
    for path in there:
        if path.resolve() in read:
            raise UsageError(f"{path} belongs to {mesh}: choose another output")


def expect_takes_files(path: Path, folder: Path) -> None:
    """Raise InputError, about the path, where the folder takes no files."""
    import tempfile

    from geodistill.runs.files import write_error

    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise write_error(path, error) from None


def student_config(arguments: Student, architecture: str) -> Any:
    """The architecture's config: the size's, as OUT's format wants it, with what --set changes.

    Raises UsageError, before any work, for a field that OUT's format does not hold.
    """
    from geodistill import config as configs
    from geodistill.geometry.fields.build import ARCHITECTURES, check_config, expect_trainable
    from geodistill.io.fields import FORMATS, expect_writable

    known = ARCHITECTURES[architecture]
    base = known.small if arguments.size == "small" else known.config()
    if arguments.output is not None and arguments.output.suffix.lower() in FORMATS:
        wanted = expect_writable(arguments.output, architecture)
        base = configs.from_dict(known.config, wanted, base)
    config = configs.load(known.config, None, arguments.set, base=base)
    check_config(config)
    expect_trainable(config)
    expect_format_holds(arguments, architecture, config)
    return config


def expect_format_holds(arguments: Student, architecture: str, config: Any, **scene: Any) -> None:
    """Raise UsageError for a field that OUT's format does not hold; see `foreign.expect_holds`."""
    from geodistill.geometry.fields.foreign import expect_holds
    from geodistill.io.fields import FORMATS

    if arguments.output is not None and arguments.output.suffix.lower() in FORMATS:
        expect_holds(arguments.output, architecture, config, **scene)


def field_endings() -> list[str]:
    """Endings of the files that a trained field can be written to."""
    from geodistill.io.fields import FORMATS

    return [".safetensors", *(ending for ending, one in FORMATS.items() if one.settings)]


def asked_budget(arguments: Student) -> Budget | None:
    """What --steps or --budget say; None where neither does."""
    from geodistill.train import Budget

    if arguments.steps is None and arguments.budget is None:
        return None
    return Budget(steps=arguments.steps, seconds=arguments.budget)


def prepare(arguments: Machine) -> None:
    """Set the threads and make sure that the device exists."""
    import torch

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
