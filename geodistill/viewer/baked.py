"""A mesh to deform as one file: what the page asks a server for, computed before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from geodistill.checks import InputError
from geodistill.deform.session import Anchor, Session, located
from geodistill.deform.session_file import session_to_dict
from geodistill.deform.surface import Surface
from geodistill.viewer.editor import Editor
from geodistill.viewer.scene import Array, SceneDescription

MOST_BYTES = 1 << 28
"""Of features: a browser reads no element of a page that is much longer."""


@dataclass(frozen=True, eq=False)
class BakedEdit:
    """What the page is told beside the arrays; viewer/src/protocol.ts has the same name for it."""

    session: dict[str, Any]
    teacher: str
    radius: float
    power: float
    mirrors: tuple[dict[str, Any], ...]
    without_mirrors: str


def baked(description: SceneDescription, editor: Editor) -> SceneDescription:
    """The description of a mesh that a page deforms by itself, from the edit that it has now.

    Features are those of the session's method and centring, in half floats; its positions become
    points of faces. The rigid polish and the export of meshes stay with the server.

    Raises InputError before the features are there, or where they are too many.
    """
    session = _on_faces(editor.session, editor.surface)
    subject = editor.subject(session)
    size = 2 * subject.table.numel()
    if size > MOST_BYTES:
        raise InputError(
            f"the features take {size >> 20} MB, a page holds {MOST_BYTES >> 20} MB: lift fewer "
            "channels, or deform a mesh of fewer vertices"
        )
    mirrors, reason = (), ""
    try:
        mirrors = tuple(asdict(mirror) for mirror in editor.mirrors())
    except InputError as error:
        reason = str(error)
    kernel = subject.automatic
    edit = BakedEdit(
        session_to_dict(session),
        editor.found.teacher,
        kernel.radius,
        kernel.power,
        mirrors,
        reason,
    )
    ends, lengths = _edges(subject.graph)
    halves = subject.table.T.numpy().astype("<f2")
    colors = editor.feature_colors()
    arrays = {
        "features": Array(halves.tobytes(), "float16", halves.shape),
        "graph_ends": Array(ends.tobytes(), "uint32", ends.shape),
        "graph_lengths": Array(lengths.tobytes(), "float32", lengths.shape),
        "feature_colors": Array(colors, "uint8", (len(halves), 4)),
    }
    return replace(description, arrays={**description.arrays, **arrays}, edit=asdict(edit))


def _edges(graph: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both ends [E, 2] and the lengths [E] of the edges of a symmetric graph, each of them once."""
    count = graph.shape[0]
    start = np.repeat(np.arange(count, dtype="<u4"), np.diff(graph.indptr))
    once = start < graph.indices
    ends = np.stack([start[once], graph.indices[once].astype("<u4")], 1)
    return ends, graph.data[once].astype("<f4")


def _on_faces(session: Session, surface: Surface) -> Session:
    """The same edit, without places that the nearest point of the surface has to be found for."""

    def placed(kind: str, index: int, entry: Anchor) -> Anchor:
        if entry.position is None:
            return entry
        found = located(entry.position, surface, f"{kind}[{index}]")
        return replace(entry, position=None, face=found.face, barycentric=found.barycentric)

    kinds = {"handles": session.handles, "anchors": session.anchors}
    moved = {
        kind: tuple(placed(kind, index, entry) for index, entry in enumerate(entries))
        for kind, entries in kinds.items()
    }
    return replace(session, **moved)
