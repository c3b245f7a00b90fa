"""What must be exact: identity, common translations, handles and anchors, on real meshes."""

from __future__ import annotations

import torch
from rows import Row, at_most

from deforming.meshes import FILES, directions_of, mesh_of
from geodistill.deform.session import Anchor, Handle, Session, apply

LIMIT = 1e-6


def rows() -> list[Row]:
    worst = {"identity": 0.0, "translation": 0.0, "handles": 0.0, "anchors": 0.0}
    for name in FILES:
        for key, error in _errors(name).items():
            worst[key] = max(worst[key], error)
    where = ", ".join(FILES)
    return [
        at_most(f"{key} error of the diagonal, worst of {where}", error, LIMIT, "")
        for key, error in worst.items()
    ]


def _errors(name: str) -> dict[str, float]:
    mesh, features = mesh_of(name), directions_of(name)
    x = mesh.vertices
    diagonal = float((x.amax(0) - x.amin(0)).norm())
    a, b, pin = (int(v) for v in torch.linspace(0, len(x) - 1, 5).long()[1:4])
    move = (0.1 * diagonal, -0.05 * diagonal, 0.02 * diagonal)
    pushed = Handle(vertex=a, translate=move, rotate=(0.0, 40.0, 10.0), scale=1.3)
    still = Handle(vertex=b)
    everything = tuple(range(len(x)))

    def edit(*handles: Handle, anchors: tuple[Anchor, ...] = ()) -> torch.Tensor:
        return apply(Session(handles=handles, anchors=anchors), mesh, features).vertices

    def off(moved: torch.Tensor, wanted: torch.Tensor) -> float:
        return float((moved - wanted).norm(dim=-1).max()) / diagonal

    shift = torch.tensor(move, dtype=torch.float64)
    posed = edit(pushed, still, anchors=(Anchor(vertex=pin),))
    return {
        "identity": off(edit(Handle(vertex=a), still), x),
        "translation": off(edit(Handle(region=everything, translate=move)), x + shift),
        "handles": max(off(posed[a], x[a] + shift), off(posed[b], x[b])),
        "anchors": off(posed[pin], x[pin]),
    }
