"""Forms of one kernel, checked against one another and timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geodistill import kernels

Outputs = tuple[Tensor, ...]
Form = Callable[[], object]
FAR = 1.5
"""A form this many times slower than the best is timed twice and no more."""


@dataclass
class Case:
    """One kernel at one size: `ours` and torch `forms` compute the same outputs."""

    name: str
    ours: Form
    forms: Mapping[str, Form]
    learned: list[Tensor] = field(
        default_factory=list
    )  # what receives gradients; none: forward only


def cpu_ms(run: Form) -> float:
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start)


def medians(forms: dict[str, Form], repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of each form, the forms taking turns.

    A torch form that is far from the best after its first turns is not repeated any further.
    """
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(repeats + 1):
        best = min(
            (min(spent) for name, spent in times.items() if spent and name != "ours"), default=0
        )
        for name, run in forms.items():
            spent = times[name]
            if name != "ours" and len(spent) >= 2 and min(spent) > FAR * best:
                continue
            milliseconds = cpu_ms(run)
            if turn:
                spent.append(milliseconds)
    return {name: statistics.median(spent) for name, spent in times.items()}


def without_gradients(run: Form) -> Form:
    def forward() -> object:
        with torch.no_grad():
            return run()

    return forward


def with_gradients(run: Form, learned: list[Tensor]) -> Form:
    """The form and the gradients of a fixed random combination of what it returns."""

    def outputs() -> Outputs:
        result = run()
        return (result,) if isinstance(result, Tensor) else result  # pyright: ignore[reportReturnType]

    grads = [torch.randn_like(output) for output in outputs()]
    return lambda: torch.autograd.grad(outputs(), learned, grads)


def as_columns(result: object) -> Tensor | None:
    """What a form returns as one [N, columns] tensor, to compare forms; None: it works in place."""
    if isinstance(result, kernels.Samples):
        result = result.t
    if isinstance(result, Tensor):
        result = (result,)
    if not isinstance(result, tuple):
        return None
    return torch.cat([part.reshape(len(part), -1) for part in result], 1)


def check_forms(case: Case) -> None:
    """A comparison means something only where all forms compute the same."""
    with torch.no_grad():
        expected = as_columns(case.ours())
        for name, run in case.forms.items():
            found = as_columns(run())
            if expected is None or found is None:
                continue
            if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
                raise RuntimeError(f"{case.name}: {name} computes something else")


def measure(case: Case, repeats: int) -> dict[str, object]:
    check_forms(case)
    everything = {"ours": case.ours, **case.forms}
    result: dict[str, object] = {"kernel": case.name}
    modes = {"forward": {name: without_gradients(run) for name, run in everything.items()}}
    if case.learned:
        modes["forward+backward"] = {
            name: with_gradients(run, case.learned) for name, run in everything.items()
        }
    for mode, forms in modes.items():
        spent = medians(forms, repeats)
        ours = spent.pop("ours")
        best = min(spent, key=lambda name: spent[name])
        result[mode] = {
            "ours_ms": round(ours, 2),
            "torch_ms": {name: round(ms, 2) for name, ms in spent.items()},
            "best_torch": best,
            "ratio": round(spent[best] / ours, 2),
        }
    return result
