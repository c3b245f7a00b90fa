"""The cells of every part of the benchmark, at full scale or at that of a smoke test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from converting.cells import FIT_STEPS, Cell, Limit, Model, Task
from geodistill.distill.meshes import MeshConfig
from geodistill.distill.pvd.transfer import SUITED
from geodistill.distill.splats import SplatConfig
from geodistill.geometry.fields import ARCHITECTURES
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig

TEACHER = "ngp"
OTHERS = ("splats", "mesh", "points")
"""Kinds that are no fields. They are made of the teacher, points of its mesh, before something else
is made of them; points are a source only."""
HALF = "ngp-half"
ROWS = ("plenoxels", "tensorf", "tensorf-cp", HALF, "mlp")
LEVELS = ("cameras", "rays", "points")
CACHE_RAYS = SUITED["tensorf"].cache_rays
"""Of both students of the ablation."""


@dataclass(frozen=True)
class Variant:
    """A row of the ablation."""

    label: str
    recipe: str = "default"
    active: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


VARIANTS = (
    Variant("default"),
    Variant("pvd", "pvd"),
    Variant("pvd, batches of 1024 rays", "pvd", overrides=("pvd.rays=1024",)),
    Variant("pvd + active cameras, rays, points", "pvd", LEVELS),
    Variant(
        "pvd + active, epochs and pools scaled to the budget",
        "pvd",
        LEVELS,
        ("pvd.poses=20", "pvd.active.camera_pool=10", "pvd.active.ray_pool=5"),
    ),
    Variant("default without the closed-form start", overrides=("start=head",)),
    Variant(
        "default with rays alone",
        overrides=("transfer.warm_alpha_weight=0", "transfer.color_weight=0"),
    ),
    Variant(
        "default with opacities weighted as colours", overrides=("transfer.warm_alpha_weight=1",)
    ),
    Variant("default with points alone", overrides=("transfer.rays_from=1",)),
    Variant("default with points first, rays from half", overrides=("transfer.rays_from=0.5",)),
    Variant("default without the free-space term", overrides=("transfer.free_weight=0",)),
    Variant("default without culling what is not seen", overrides=("visible_weight=0",)),
    Variant("default with a quarter of the cache", overrides=(f"cache_rays={CACHE_RAYS // 4}",)),
    Variant("default with twice the cache", overrides=(f"cache_rays={CACHE_RAYS * 2}",)),
)


@dataclass(frozen=True)
class PointsConfig:
    """Points spread evenly over a mesh, in its colours."""

    count: int = 200_000


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        scenes: the first is the one that the matrix and the ablation use.
        seeds: of the rows; everything else uses the first.
        architectures: of the matrix.
        rows: students of the main table.
        models: every model, by name: `ngp`, `ngp-half`, `ngp-small` and so on.
        teacher_steps: how long a teacher is fitted, by architecture. Counted in steps, so that the
            same teacher can be made again.
        convert: limit of a conversion; None is the default.
        fit_settings: overrides of `FitSettings`, of teachers and of runs from scratch.
        settings: overrides of `ConvertSettings`, of every conversion.
        curve_seconds: training times of the slow student's curve.
        longer: lengths of the fits that teachers are compared with, in teachers.
        schedules: lengths of the runs from scratch, in conversions.
        ablated: students of the ablation.
        variants: its rows; the first is the default.
    """

    scenes: tuple[str, ...]
    seeds: tuple[int, ...]
    architectures: tuple[str, ...]
    models: Mapping[str, Model]
    teacher_steps: Mapping[str, int]
    convert: Limit | None = None
    fit_settings: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    curve_seconds: tuple[float, ...] = ()
    schedules: tuple[float, ...] = (24.0,)
    longer: tuple[int, ...] = (2, 10)
    rows: tuple[str, ...] = ROWS
    ablated: tuple[str, ...] = ("tensorf", HALF)
    variants: tuple[Variant, ...] = VARIANTS


def full_scale() -> Scale:
    models = [Model(name, name, a.config()) for name, a in ARCHITECTURES.items()]
    models += [Model(f"{name}-small", name, a.small) for name, a in ARCHITECTURES.items()]
    # Half the table leaves the dense levels as they are, 53 % in all; a coarser grid makes it 49 %
    # with the same number of features, so that the teacher's networks still fit.
    half = NgpConfig(log2_size=18, base_resolution=12, max_resolution=1536)
    models.append(Model(HALF, "ngp", half))
    models += [
        Model("splats", "splats", SplatConfig()),
        Model("mesh", "mesh", MeshConfig()),
        Model("points", "points", PointsConfig()),
    ]
    return Scale(
        scenes=("dragon", "controller", "robot"),
        seeds=(0, 1, 2),
        architectures=tuple(ARCHITECTURES),
        models={model.name: model for model in models},
        teacher_steps=FIT_STEPS,
        curve_seconds=(300.0, 1200.0, 2400.0),
    )


def smoke_scale() -> Scale:
    """A few steps of tiny models on one scene named `analytic`."""
    models = [
        Model("ngp", "ngp", NgpConfig(4, log2_size=10, base_resolution=4, max_resolution=16)),
        Model(HALF, "ngp", NgpConfig(4, log2_size=9, base_resolution=4, max_resolution=16)),
        Model("tensorf", "tensorf", TensorfConfig(16, 4, 8, floor=0.0)),
        Model("tensorf-small", "tensorf", TensorfConfig(12, 2, 4, floor=0.0)),
        Model("plenoxels", "plenoxels", PlenoxelsConfig(16)),
        Model("mlp", "mlp", MlpConfig(3, 16, 4)),
        Model("splats", "splats", SplatConfig(0.1, 500, 1, 4000, 4, 48)),
        Model("mesh", "mesh", MeshConfig(24, 6, 48, 300, False)),
        Model("points", "points", PointsConfig(500)),
    ]
    return Scale(
        scenes=("analytic",),
        seeds=(0,),
        architectures=("ngp", "tensorf"),
        models={model.name: model for model in models},
        # Long enough for a surface that a mesh can be made of.
        teacher_steps=dict.fromkeys(ARCHITECTURES, 240),
        convert=Limit("steps", 4),
        fit_settings=("samples=8192",),
        settings=("cache_rays=6000",),
        curve_seconds=(0.2,),
        schedules=(1.0,),
        longer=(2,),
        rows=("tensorf", "mlp"),
        ablated=("tensorf",),
        variants=(
            Variant("default"),
            Variant("pvd", "pvd", overrides=("pvd.rays=256", "pvd.resolution=32")),
            Variant("default with points alone", overrides=("transfer.rays_from=1",)),
        ),
    )


def teacher(scale: Scale, scene: str, name: str = TEACHER) -> Cell:
    model, overrides = scale.models[name], scale.fit_settings
    limit = Limit("steps", scale.teacher_steps[name])
    return Cell("fit", scene, model, overrides=overrides, limit=limit)


def conversion(scale: Scale, scene: str, source: str, target: str, seed: int = 0) -> Cell:
    """A conversion at the defaults."""
    return Cell(
        "convert",
        scene,
        scale.models[target],
        teacher(scale, scene, source),
        seed,
        overrides=scale.settings,
        limit=scale.convert,
    )


def variant_cell(scale: Scale, target: str, variant: Variant) -> Cell:
    """A row of the ablation; the pvd recipe gets the seconds that the default took."""
    default = conversion(scale, scale.scenes[0], TEACHER, target)
    changed = {text.partition("=")[0] for text in variant.overrides}
    kept = tuple(text for text in scale.settings if text.partition("=")[0] not in changed)
    cell = replace(default, active=variant.active, overrides=kept + variant.overrides)
    if variant.recipe == "default":
        return cell
    same_time = Limit("conversions", 1.0)
    return replace(cell, recipe=variant.recipe, limit=same_time, reference=default)


def curve_cells(scale: Scale) -> list[Cell]:
    """The slow student after other training times than the default."""
    base = conversion(scale, scale.scenes[0], TEACHER, "mlp")
    return [replace(base, limit=Limit("seconds", seconds)) for seconds in scale.curve_seconds]


def scratch_cell(scale: Scale, scene: str, target: str, schedule: float) -> Cell:
    reference = conversion(scale, scene, TEACHER, target)
    limit = Limit("conversions", schedule)
    return Cell(
        "scratch",
        scene,
        reference.target,
        overrides=scale.fit_settings,
        limit=limit,
        reference=reference,
    )


def matrix_pair(scale: Scale, source: str, target: str) -> Cell:
    """An ordered pair of architectures: into its row's student, or into a smaller self."""
    name = HALF if target == TEACHER else target
    if source == target != TEACHER:
        name = f"{target}-small"
    return conversion(scale, scale.scenes[0], source, name)


def teachers(scale: Scale) -> list[Task]:
    first = scale.scenes[0]
    cells = [teacher(scale, scene) for scene in scale.scenes]
    cells += [teacher(scale, first, name) for name in scale.architectures if name != TEACHER]
    return [Task(0 if cell.target.name == TEACHER else 4, cell) for cell in cells]


def longer_fits(scale: Scale, name: str) -> list[Cell]:
    """The teacher of an architecture on the first scene, and fits of more steps."""
    base = teacher(scale, scale.scenes[0], name)
    steps = scale.teacher_steps[name]
    return [base, *(replace(base, limit=Limit("steps", n * steps)) for n in scale.longer)]


def fits(scale: Scale) -> list[Task]:
    return [Task(8, cell) for name in scale.architectures for cell in longer_fits(scale, name)]


def rows(scale: Scale) -> list[Task]:
    tasks = []
    for target in scale.rows:
        for scene in scale.scenes:
            for seed in scale.seeds:
                again = seed != scale.seeds[0]
                rank = (6 if again else 3) if target == "mlp" else int(again)
                tasks.append(Task(rank, conversion(scale, scene, TEACHER, target, seed)))
    return tasks + [Task(7, cell) for cell in curve_cells(scale)]


def matrix(scale: Scale) -> list[Task]:
    pairs = [(a, b) for a in scale.architectures for b in scale.architectures]
    return [
        Task(6 if target == "mlp" else 4, matrix_pair(scale, source, target))
        for source, target in pairs
    ]


def made_of(scale: Scale, source: str) -> Cell:
    """What stands for a kind when something is made of it."""
    scene = scale.scenes[0]
    if source not in OTHERS:
        return teacher(scale, scene, source)
    return remake(scale, "mesh" if source == "points" else TEACHER, source)


def remake(scale: Scale, source: str, target: str) -> Cell:
    """A conversion from or to a kind that is no field, at the defaults."""
    scene, model, of = scale.scenes[0], scale.models[target], made_of(scale, source)
    limit = scale.convert if target not in ("mesh", "points") else None
    overrides = scale.settings if target in scale.architectures else ()
    return Cell("remake", scene, model, of, overrides=overrides, limit=limit)


def kinds(scale: Scale) -> list[Task]:
    pairs = [(a, b) for a in scale.architectures for b in ("splats", "mesh")]
    pairs += [(a, b) for a in OTHERS for b in (*scale.architectures, "splats")]
    pairs += [("splats", "mesh"), ("mesh", "points")]
    return [Task(4, remake(scale, a, b)) for a, b in pairs if a != b]


def scratch_targets(scale: Scale) -> list[tuple[str, str]]:
    """(target, scene) pairs: every row on every scene, what is slow or in no row on the first."""
    first = scale.scenes[0]
    pairs = [(target, scene) for target in scale.rows if target != "mlp" for scene in scale.scenes]
    extra = [name for name in scale.architectures if name not in (*scale.rows, TEACHER)]
    return pairs + [(name, first) for name in [*extra, "mlp"]]


def scratch(scale: Scale) -> list[Task]:
    tasks = []
    for target, scene in scratch_targets(scale):
        rank = 5 if target in scale.rows and target != "mlp" else 7
        tasks += [Task(rank, scratch_cell(scale, scene, target, s)) for s in scale.schedules]
    return tasks


def ablation(scale: Scale) -> list[Task]:
    return [Task(2, variant_cell(scale, t, v)) for t in scale.ablated for v in scale.variants]


PARTS: Mapping[str, Callable[[Scale], list[Task]]] = {
    "teachers": teachers,
    "rows": rows,
    "matrix": matrix,
    "kinds": kinds,
    "scratch": scratch,
    "ablation": ablation,
    "fits": fits,
}
