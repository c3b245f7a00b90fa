"""What is measured: a `Cell` is one fit, one conversion or one run from scratch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from geodistill import config as configs

Kind = Literal["fit", "convert", "remake", "scratch"]

SECONDS = {
    "plenoxels": 20.0,
    "tensorf": 30.0,
    "tensorf-cp": 60.0,
    "ngp": 25.0,
    "mlp": 120.0,
    "composite": 40.0,
    "splats": 60.0,
    "mesh": 40.0,
    "points": 2.0,
}
"""How long a conversion is assumed to take before one was measured, by student."""
FIT_STEPS = {
    "ngp": 6000,
    "tensorf": 7000,
    "tensorf-cp": 6500,
    "plenoxels": 11000,
    "mlp": 1000,
    "composite": 3300,
}
"""Steps of a fit that take about five minutes on two idle cores."""
FIT_SECONDS = 300.0
LOOK_SECONDS = {"mlp": 60.0}
"""How long the test views of a field are assumed to take; of most, `LOOK_DEFAULT`."""
LOOK_DEFAULT = 6.0
SLOW_SURVEY_SECONDS = 60.0
SCRATCH_LOOKS = 14


@dataclass(frozen=True)
class Model:
    """An architecture at one size, under a short name."""

    name: str
    architecture: str
    config: Any

    def identity(self) -> dict[str, Any]:
        """Settings at their defaults are left out, so that a new one changes no identity."""
        config, usual = configs.to_dict(self.config), configs.to_dict(type(self.config)())
        changed = {name: value for name, value in config.items() if value != usual[name]}
        return {"architecture": self.architecture, "config": changed}

    @property
    def look_seconds(self) -> float:
        return LOOK_SECONDS.get(self.architecture, LOOK_DEFAULT)


@dataclass(frozen=True)
class Limit:
    """When to stop: after steps, seconds, or multiples of what the reference conversion took."""

    unit: Literal["steps", "seconds", "conversions"]
    amount: float

    def __str__(self) -> str:
        unit = {"steps": "steps", "seconds": "s", "conversions": "x its conversion"}[self.unit]
        return f"{self.amount:g} {unit}"


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        kind: "fit" makes a teacher, "convert" a student, "remake" a scene of or from another kind
            than fields, "scratch" fits until a student is reached.
        scene: name of the data set.
        target: what is made.
        teacher: the fit whose field is converted; of a remake also a remake.
        overrides: `key=value` settings of `ConvertSettings`, of a fit those of `FitSettings`.
        limit: None is the architecture's default.
        reference: the conversion that a limit in conversions and a run from scratch refer to.
    """

    kind: Kind
    scene: str
    target: Model
    teacher: Cell | None = None
    seed: int = 0
    recipe: str = "default"
    active: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    limit: Limit | None = None
    reference: Cell | None = None

    @property
    def source(self) -> Cell | None:
        """The fit whose field it converts; a run from scratch times its conversion once more."""
        if self.kind == "scratch" and self.reference is not None:
            return self.reference.teacher
        return self.teacher

    @property
    def needs(self) -> tuple[Cell, ...]:
        """What must have been measured before."""
        return tuple(cell for cell in (self.teacher, self.reference) if cell is not None)

    @property
    def title(self) -> str:
        """What it is, for people."""
        if self.kind == "fit":
            return f"{self.scene}: fit {self.target.name}, {self.limit}"
        if self.kind == "scratch":
            return f"{self.scene}: scratch {self.target.name}, {self.limit}"
        assert self.teacher is not None
        parts = [f"{self.teacher.target.name} to {self.target.name}", f"seed {self.seed}"]
        parts += [self.recipe] if self.recipe != "default" else []
        parts += [f"active {'+'.join(self.active)}"] if self.active else []
        parts += self.overrides
        parts += [str(self.limit)] if self.limit is not None else []
        return f"{self.scene}: {', '.join(parts)}"

    def identity(self) -> dict[str, Any]:
        """Everything that decides what is measured, as JSON values."""
        return {
            "kind": self.kind,
            "scene": self.scene,
            "target": self.target.identity(),
            "teacher": self.teacher.identity() if self.teacher else None,
            "seed": self.seed,
            "recipe": self.recipe,
            "active": list(self.active),
            "overrides": sorted(self.overrides),
            "limit": None if self.limit is None else [self.limit.unit, self.limit.amount],
            "reference": self.reference.identity() if self.reference else None,
        }

    @property
    def name(self) -> str:
        """A file name without dots: readable, and unique by a hash of the identity."""
        text = json.dumps(self.identity(), sort_keys=True)
        slug = re.sub(r"[^a-z0-9]+", "-", self.title.lower())[:60].strip("-")
        return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def assumed_seconds(self) -> float:
        """A guess for a cell that was never measured."""
        seconds = SECONDS[self.target.architecture]
        if self.limit is not None and self.limit.unit == "seconds":
            seconds = self.limit.amount
        elif self.limit is not None and self.limit.unit == "conversions":
            seconds *= self.limit.amount
        elif self.limit is not None and self.kind == "fit":
            seconds = FIT_SECONDS * self.limit.amount / FIT_STEPS[self.target.architecture]
        looks = self.target.look_seconds * (SCRATCH_LOOKS if self.kind == "scratch" else 1)
        if self.teacher is not None and self.kind in ("convert", "remake"):
            looks += self.teacher.target.look_seconds
            looks += SLOW_SURVEY_SECONDS if self.teacher.target.architecture == "mlp" else 0.0
        return seconds + looks


@dataclass(frozen=True)
class Task:
    """A cell and how important it is: smaller ranks come first."""

    rank: int
    cell: Cell


def in_order(tasks: Iterable[Task]) -> list[Cell]:
    """Cells by rank, the cheap before the dear, each once and after what it needs."""
    ordered: dict[Cell, None] = {}

    def add(cell: Cell) -> None:
        if cell not in ordered:
            for needed in cell.needs:
                add(needed)
            ordered[cell] = None

    for task in sorted(tasks, key=lambda task: (task.rank, task.cell.assumed_seconds())):
        add(task.cell)
    return list(ordered)
