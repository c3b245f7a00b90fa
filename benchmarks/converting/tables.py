"""Records as Markdown tables, with the targets beside the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from converting import grid, plan
from converting.cells import Cell
from converting.speed import SpeedUp, conversion_seconds, least, psnr_at, speed_up
from converting.store import Store
from converting.wording import (
    EMPTY,
    Record,
    at_least,
    at_most,
    counted,
    decibel,
    marked,
    section,
    speed_verdict,
)

BUSY_CORES = 0.25
PAIR_SLACK_DB = 1.5
LONGER_DB = 1.0
MARKS = (2.0, 5.0, 10.0, 24.0)


@dataclass(frozen=True)
class Target:
    """What a conversion from ngp is to reach."""

    lost_db: float
    lost_aim_db: float
    psnr_aim_db: float
    seconds: float


TARGETS = {
    "plenoxels": Target(2.5, 1.0, 31.0, 20.0),
    "tensorf": Target(1.5, 0.5, 33.0, 60.0),
    "tensorf-cp": Target(2.5, 1.5, 31.0, 60.0),
    plan.HALF: Target(2.0, 0.7, 32.0, 90.0),
    "mlp": Target(5.0, 3.0, 25.0, 600.0),
}
OVER_PVD_DB = {"tensorf": 2.0, plan.HALF: 0.5}


def report(scale: plan.Scale, store: Store) -> str:
    """Everything that is known, as one Markdown text."""
    sections = [
        _conditions(scale, store),
        _rows(scale, store),
        _by_scene(scale, store),
        grid.table(scale, store),
        _matrix(scale, store),
        _scratch(scale, store),
        _ablation(scale, store),
        _curve(scale, store),
        _teachers(scale, store),
        _fits(scale, store),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def measured(scale: plan.Scale, store: Store) -> list[Record]:
    """Every record that the tables can draw on."""
    return [record for cell in _cells(scale) if (record := store.record(cell)) is not None]


def _cells(scale: plan.Scale) -> set[Cell]:
    return {task.cell for part in plan.PARTS.values() for task in part(scale)}


def _conditions(scale: plan.Scale, store: Store) -> str:
    records = measured(scale, store)
    if not records:
        return "Nothing has been measured yet."
    dates = sorted(record["date"][:10] for record in records)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    machines = sorted({_machine(record["machine"]) for record in records})
    text = (
        f"Measured {when} on {'; '.join(machines)}. {len(records)} of {len(_cells(scale))} cells."
    )
    others = [r["others_cores"] for r in records if r.get("others_cores") is not None]
    if others:
        busy = sum(used > BUSY_CORES for used in others)
        text += (
            f" Meanwhile other processes used {median(others):.2f} cores in the median, at most "
            f"{max(others):.2f}; during {busy} cells it was more than {BUSY_CORES:g}."
        )
    if any(record["stale"] for record in records):
        text += " Figures of older code are marked with its fingerprint."
    return text


def _machine(m: Record) -> str:
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads, torch {m['torch']}, "
        f"{m['kernels']} kernels"
    )


def _rows(scale: plan.Scale, store: Store) -> str:
    lines = []
    for name in scale.rows:
        target = TARGETS[name]
        records = [
            record
            for scene in scale.scenes
            for seed in scale.seeds
            if (record := _row(scale, store, scene, name, seed)) is not None
        ]
        count = len(scale.scenes) * len(scale.seeds)
        label = marked(name + f" ({len(records)} of {count})" * (len(records) < count), records)
        if not records:
            continue
        psnr, lost = _median(records, "psnr_db"), median(_lost(r) for r in records)
        seconds = _median(records, "seconds")
        share = records[0]["parameters"] / records[0]["teacher_parameters"]
        speeds = [_row_speed(scale, store, scene, name) for scene in scale.scenes]
        lines.append(
            [
                label,
                f"{psnr:.2f} (aim {target.psnr_aim_db:g}: {at_least(psnr, target.psnr_aim_db)})",
                f"{lost:.2f} (≤ {target.lost_db:g}: {at_most(lost, target.lost_db)}, "
                f"aim {target.lost_aim_db:g}: {at_most(lost, target.lost_aim_db)})",
                f"{seconds:.1f} (≤ {target.seconds:g}: {at_most(seconds, target.seconds)})",
                speed_verdict(SpeedUp.median(speeds)),
                f"{records[0]['parameters']:,} ({share:.0%})",
            ]
        )
    head = ["from ngp to", "PSNR to teacher, dB", "lost against truth, dB", "seconds"]
    return section(
        f"Conversions from {plan.TEACHER}",
        f"Medians over {counted(scale.scenes, 'scene')} and {counted(scale.seeds, 'seed')}.",
        [*head, "speed-up over scratch", "parameters"],
        lines,
    )


def _by_scene(scale: plan.Scale, store: Store) -> str:
    lines = []
    for name in scale.rows:
        for scene in scale.scenes:
            records = [_row(scale, store, scene, name, seed) for seed in scale.seeds]
            known = [record for record in records if record is not None]
            if not known:
                continue
            depth = [r["depth_error"] for r in known if r["depth_error"] is not None]
            lines.append(
                [
                    marked(name, known),
                    scene,
                    f"{_median(known, 'psnr_db'):.2f}",
                    f"{_median(known, 'truth_psnr_db'):.2f}",
                    f"{median(_lost(r) for r in known):.2f}",
                    f"{_median(known, 'ssim'):.4f}",
                    f"{_median(known, 'opacity_iou'):.4f}",
                    f"{median(depth):.2%}" if depth else EMPTY,
                    f"{_median(known, 'seconds'):.1f}",
                    f"{_median(known, 'cpu_seconds'):.1f}",
                    f"{_median(known, 'bytes') / 1e6:.1f}",
                ]
            )
    head = ["to", "scene", "PSNR to teacher", "PSNR to truth", "lost", "SSIM", "opacity IoU"]
    return section(
        "By scene",
        "Medians over the seeds that were measured. The depth error is relative to the diagonal of "
        "the scene's cube.",
        [*head, "depth error", "seconds", "CPU s", "MB"],
        lines,
    )


def _matrix(scale: plan.Scale, store: Store) -> str:
    lines, within, judged = [], 0, 0
    for source in scale.architectures:
        for target in scale.architectures:
            cell = plan.matrix_pair(scale, source, target)
            record = store.record(cell)
            if record is None:
                continue
            verdict, slack = "its row", _slack(scale, store, cell, record)
            if source != plan.TEACHER:
                verdict = EMPTY
            if source != plan.TEACHER and slack is not None:
                verdict, judged = at_most(slack, PAIR_SLACK_DB), judged + 1
                within += slack <= PAIR_SLACK_DB
                verdict = f"{slack:+.2f}: {verdict}"
            lines.append(
                [
                    source,
                    marked(cell.target.name, [record]),
                    decibel(record["psnr_db"]),
                    f"{record['truth_psnr_db']:.2f}",
                    f"{_lost(record):.2f}",
                    f"{record['seconds']:.1f}",
                    str(_pair_speed(scale, store, cell, record) or EMPTY),
                    verdict,
                ]
            )
    return section(
        "Every pair",
        f"Scene {scale.scenes[0]}, seed {scale.seeds[0]}. The last column is what the pair loses "
        f"more than the conversion from {plan.TEACHER} to the same architecture on this scene; it "
        f"may be {PAIR_SLACK_DB:g} dB. {within} of {judged} pairs are within it.",
        ["from", "to", "PSNR to teacher", "PSNR to truth", "lost", "seconds", "speed-up", "excess"],
        lines,
    )


def _scratch(scale: plan.Scale, store: Store) -> str:
    lines = []
    for target, scene in plan.scratch_targets(scale):
        converted = _row(scale, store, scene, target, scale.seeds[0])
        curves = _curves(scale, store, scene, target)
        if converted is None or not curves:
            continue
        seconds, goal = conversion_seconds(curves[0], converted), converted["truth_psnr_db"]
        speed = _row_speed(scale, store, scene, target)
        assert speed is not None
        along = [max(psnr_at(c, mark * seconds) or 0.0 for c in curves) for mark in MARKS]
        lines.append(
            [
                marked(target, [converted, *curves]),
                scene,
                f"{goal:.2f}",
                f"{seconds:.1f}",
                *[f"{psnr:.2f}" if psnr else EMPTY for psnr in along],
                f"{'' if speed.exact else '> '}{speed.ratio * seconds:.0f}",
                speed_verdict(speed),
            ]
        )
    return section(
        "Against training from scratch",
        "The ground-truth PSNR of the converted student, and of `fit` with the same student after "
        "multiples of the conversion's time. Rendering the test views does not count. "
        f"Schedules of {', '.join(f'{s:g}' for s in scale.schedules)} times the conversion.",
        [
            *["student", "scene", "goal, dB", "convert, s"],
            *[f"fit at {mark:g}x, dB" for mark in MARKS],
            *["fit to the goal, s", "speed-up"],
        ],
        lines,
    )


def _ablation(scale: plan.Scale, store: Store) -> str:
    lines = []
    for target in scale.ablated:
        default = store.record(plan.variant_cell(scale, target, scale.variants[0]))
        for variant in scale.variants:
            record = store.record(plan.variant_cell(scale, target, variant))
            if record is None:
                continue
            gap = EMPTY
            if default is not None and variant.label != "default":
                gap = f"{record['psnr_db'] - default['psnr_db']:+.2f}"
            if default is not None and variant.label == "pvd":
                ahead = default["psnr_db"] - record["psnr_db"]
                least_db = OVER_PVD_DB[target]
                gap += f" (default ≥ {least_db:g} ahead: {at_least(ahead, least_db)})"
            lines.append(
                [
                    target,
                    marked(variant.label, [record]),
                    decibel(record["psnr_db"]),
                    gap,
                    f"{record['truth_psnr_db']:.2f}",
                    f"{record['seconds']:.1f}",
                    f"{record['cpu_seconds']:.1f}",
                ]
            )
    return section(
        "What each part is worth",
        f"From {plan.TEACHER} on {scale.scenes[0]}, seed 0. The pvd recipe trains as long as the "
        "default takes in all; the other variants take the default's steps.",
        ["to", "recipe", "PSNR to teacher", "against default", "PSNR to truth", "seconds", "CPU s"],
        lines,
    )


def _curve(scale: plan.Scale, store: Store) -> str:
    row = plan.conversion(scale, scale.scenes[0], plan.TEACHER, "mlp", scale.seeds[0])
    records = [r for c in [row, *plan.curve_cells(scale)] if (r := store.record(c)) is not None]
    lines = [
        [
            marked("default" if r["budget_seconds"] is None else f"{r['budget_seconds']:g} s", [r]),
            f"{r['seconds']:.1f}",
            decibel(r["psnr_db"]),
            f"{r['truth_psnr_db']:.2f}",
            f"{_lost(r):.2f}",
        ]
        for r in sorted(records, key=lambda r: r["seconds"])
    ]
    return section(
        "The mlp with more or less time",
        f"From {plan.TEACHER} on {scale.scenes[0]}; each line is one conversion with that budget.",
        ["budget", "seconds", "PSNR to teacher", "PSNR to truth", "lost"],
        lines,
    )


def _teachers(scale: plan.Scale, store: Store) -> str:
    lines = []
    for task in plan.teachers(scale):
        record = store.record(task.cell)
        if record is None:
            continue
        lines.append(
            [
                marked(task.cell.target.name, [record]),
                task.cell.scene,
                f"{scale.teacher_steps[task.cell.target.name]}",
                f"{record['truth_psnr_db']:.2f}",
                f"{record['seconds']:.0f}",
                f"{record['parameters']:,}",
                f"{record['bytes'] / 1e6:.1f}",
            ]
        )
    return section(
        "The teachers",
        "`geodistill fit` at the defaults.",
        ["architecture", "scene", "steps", "PSNR to truth", "seconds", "parameters", "MB"],
        lines,
    )


def _fits(scale: plan.Scale, store: Store) -> str:
    lines = []
    for name in scale.architectures:
        records = [store.record(cell) for cell in plan.longer_fits(scale, name)]
        if not any(records[1:]):
            continue
        label = marked(name, [r for r in records if r is not None])
        figures = [f"{r['truth_psnr_db']:.2f}" if r else EMPTY for r in records]
        *_, before, last = records
        gain = EMPTY
        if before and last:
            db = last["truth_psnr_db"] - before["truth_psnr_db"]
            gain = f"{db:.2f} (≤ {LONGER_DB:g}: {at_most(db, LONGER_DB)})"
        lines.append([label, f"{scale.teacher_steps[name]}", *figures, gain])
    return section(
        "Longer fits",
        f"PSNR to truth on {scale.scenes[0]} of fits with the teacher's steps, about five minutes "
        "on two idle cores, and with multiples of them. The gain is that of the last over the one "
        "before.",
        ["architecture", "steps", "1x, dB", *[f"{n}x, dB" for n in scale.longer], "gain, dB"],
        lines,
    )


# ---------------------------------------------------------------------------------- figures


def _row(scale: plan.Scale, store: Store, scene: str, target: str, seed: int) -> Record | None:
    return store.record(plan.conversion(scale, scene, plan.TEACHER, target, seed))


def _lost(record: Record) -> float:
    """What the student loses against the photographs, in dB."""
    return record["teacher_truth_psnr_db"] - record["truth_psnr_db"]


def _slack(scale: plan.Scale, store: Store, cell: Cell, record: Record) -> float | None:
    """How much more a pair loses than the conversion from ngp to its architecture."""
    row = store.record(plan.matrix_pair(scale, plan.TEACHER, cell.target.architecture))
    return None if row is None else _lost(record) - _lost(row)


def _curves(scale: plan.Scale, store: Store, scene: str, target: str) -> list[Record]:
    cells = [plan.scratch_cell(scale, scene, target, s) for s in scale.schedules]
    return [record for cell in cells if (record := store.record(cell)) is not None]


def _row_speed(scale: plan.Scale, store: Store, scene: str, target: str) -> SpeedUp | None:
    converted = _row(scale, store, scene, target, scale.seeds[0])
    if converted is None:
        return None
    curves = _curves(scale, store, scene, target)
    return least(
        speed_up(c, converted["truth_psnr_db"], conversion_seconds(c, converted)) for c in curves
    )


def _pair_speed(scale: plan.Scale, store: Store, cell: Cell, record: Record) -> SpeedUp | None:
    """Against the run from scratch of the same student on the same scene, where there is one."""
    if (cell.target.name, cell.scene) not in plan.scratch_targets(scale):
        return None
    curves = _curves(scale, store, cell.scene, cell.target.name)
    return least(speed_up(c, record["truth_psnr_db"], record["seconds"]) for c in curves)


def _median(records: Sequence[Record], key: str) -> float:
    return median(record[key] for record in records)
