"""The deformation page: what its tests do to it, read of it, and expect of it."""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geodistill.deform.session import Anchor, Handle, Mirror, Session, apply
from geodistill.deform.session_file import session_from_dict, session_to_dict
from geodistill.deform.surface import surface_of
from geodistill.geometry.mesh import Mesh, diagonal
from geodistill.viewer.editor import Editor
from geodistill.viewer.edits import RowMessage
from tests.browser.browsing import PATIENCE_SECONDS, until
from tests.viewer.editing import features_of

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

SIZE = {"width": 1374, "height": 700}
CANVAS_WIDTH = 1100  # beside the panel
VISIBLE = ".marker.handle:not([hidden])"

MOVES: dict[str, Any] = {
    "translate": (0.3, -0.2, 0.25),
    "rotate": (10.0, 70.0, -20.0),
    "scale": (1.4, 0.7, 1.1),
}
SESSIONS: dict[str, Session] = {
    "one": Session(handles=(Handle(vertex=300, **MOVES),)),
    "two and an anchor": Session(
        handles=(
            Handle(face=40, barycentric=(0.2, 0.3, 0.5), **MOVES),
            Handle(
                vertex=2000, translate=(0.0, 0.4, 0.0), pivot=(0.2, 0.1, 0.5), rotate=(200.0, 0, 0)
            ),
        ),
        anchors=(Anchor(vertex=900),),
        falloff=2.5,
    ),
    "locality": Session(
        handles=(
            Handle(vertex=300, locality=4.0, **MOVES),
            Handle(vertex=1200, translate=(0.2, 0, 0)),
        ),
        locality=1.5,
        radius=1.2,
    ),
    "twins": Session(
        handles=(
            Handle(vertex=300, translate=(0.3, 0, 0)),
            Handle(vertex=301, translate=(0, 0.3, 0)),
        ),
        anchors=(Anchor(vertex=302), Anchor(position=(0.0, 0.0, 1.0))),
    ),
    "regions": Session(
        handles=(
            Handle(region=tuple(range(200, 400)), **MOVES),
            Handle(region=tuple(range(390, 500)), translate=(0.1, 0.1, 0.0)),
        ),
        anchors=(Anchor(region=(900, 901, 395)),),
    ),
    "mirrors": Session(
        handles=(
            Handle(vertex=310, locality=2.0, **MOVES),
            Handle(vertex=1500, quaternion=(0.8, 0.1, 0.5, -0.2)),
        ),
        mirrors=(Mirror((1.0, 0.1, 0.0), 0.05), Mirror((0.0, 0.0, 2.0), 0.1)),
    ),
    "linear": Session(blend="linear", handles=(Handle(vertex=300, **MOVES),)),
    "published": Session(
        method="published",
        handles=(
            Handle(vertex=300, **MOVES),
            Handle(vertex=700, locality=1.0, translate=(0.2, 0, 0)),
        ),
        anchors=(Anchor(vertex=1500),),
    ),
    "polished": Session(rigidity=2, handles=(Handle(vertex=300, translate=(0.2, 0.1, 0.0)),)),
    "seventeen": Session(
        handles=tuple(
            Handle(vertex=90 * k + 7, translate=(0.02 * k - 0.15, 0.1, 0.0), rotate=(0, 9.0 * k, 0))
            for k in range(17)
        ),
    ),
}

READ = """() => {
  const { blend, topology } = geodistill.kind;
  const rows = blend.readPositions();
  geodistill.stage.renderer.resetState();
  const bytes = new Uint8Array(rows.buffer, 0, 16 * topology.positions);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192)
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}"""


def positions(page: Page) -> Tensor:
    """Where the page's GPU has the mesh's distinct positions, [P, 3] less the origin."""
    data = bytearray(base64.b64decode(page.evaluate(READ)))
    return torch.frombuffer(data, dtype=torch.float32).reshape(-1, 4)[:, :3]


def change(page: Page, session: Session) -> None:
    """Make it the page's edit, and wait until it is shown."""
    give = """async session => {
      await geodistill.settled();
      geodistill.kind.controller.change(session);
      await geodistill.settled();
    }"""
    page.evaluate(give, session_to_dict(session))


def wait_ready(page: Page | Frame) -> None:
    """Until the page can deform, and what it shows is final."""
    until(page, "geodistill.kind.controller.ready")
    page.evaluate("geodistill.settled()")


def now(page: Page | Frame) -> Session:
    """The edit, whatever of it is shown."""
    return session_from_dict(page.evaluate("geodistill.kind.controller.session"))


def session(page: Page) -> Session:
    """The edit once it is shown."""
    page.evaluate("geodistill.settled()")
    return now(page)


def kept(page: Page, editor: Editor) -> Session:
    """The page's edit, once the server has it."""
    until(page, lambda: editor.session == now(page))
    return session(page)


def reference(found: Session, mesh: Mesh) -> Tensor:
    """What the edit makes of the mesh."""
    features = features_of(mesh)
    given = features.directions() if found.method == "published" else features.whitened()
    return apply(found, mesh, given).vertices


def centred(vertices: Tensor, mesh: Mesh) -> Tensor:
    """Distinct positions [P, 3] as the page has them, relative to the scene's origin."""
    middle = (mesh.vertices.amax(0) + mesh.vertices.amin(0)) / 2
    return vertices[surface_of(mesh).first] - middle


def away(page: Page, found: Session, mesh: Mesh) -> float:
    """How far the page's mesh is from where the edit brings it, in diagonals."""
    wanted = centred(reference(found, mesh), mesh)
    return float((positions(page).double() - wanted).norm(dim=1).max()) / diagonal(mesh)


def expect_shown(page: Page, found: Session, mesh: Mesh) -> None:
    """The page's GPU has the mesh where the edit brings it."""
    assert away(page, found, mesh) < 1e-3


def rest(editor: Editor) -> Tensor:
    """Distinct positions [P, 3] before any edit, as the page has them."""
    return centred(editor.mesh.vertices, editor.mesh).float()


def middle_of(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, selector: str, by: tuple[float, float]) -> None:
    """Drag what is there by some pixels."""
    x, y = middle_of(page, selector)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0], y + by[1], steps=3)
    page.mouse.up()


def saved(page: Page, keys: str, target: Path) -> Path:
    with page.expect_download() as download:
        page.keyboard.press(keys)
    download.value.save_as(target)
    return target


def first_hit(corners: Tensor, eye: Tensor, direction: Tensor) -> tuple[int, Tensor]:
    """The nearest of all triangles [F, 3, 3] that a ray meets (Moeller and Trumbore, 1997)."""
    a, b, c = corners.unbind(1)
    e1, e2, s = b - a, c - a, eye - a
    p = torch.linalg.cross(direction.expand_as(e2), e2)
    volume = (e1 * p).sum(1)
    v = (s * p).sum(1) / volume
    q = torch.linalg.cross(s, e1)
    w = (direction * q).sum(1) / volume
    depth = (e2 * q).sum(1) / volume
    inside = (v >= 0) & (w >= 0) & (v + w <= 1) & (depth > 0)
    face = int(torch.where(inside, depth, torch.inf).argmin())
    return face, torch.stack([1 - v[face] - w[face], v[face], w[face]])


class SlowEditor(Editor):
    """Answers no question before it may."""

    def __init__(self, mesh: Mesh, session: Session | None = None) -> None:
        super().__init__(mesh, session or Session())
        self.may_answer, self.asked = threading.Event(), threading.Semaphore(0)
        self.questions = 0
        self.bring(features_of(mesh))

    def _row(self, message: RowMessage) -> bytes:
        self._wait()
        return super()._row(message)

    def _polished(self, id: int, session: Session) -> bytes:
        self._wait()
        return super()._polished(id, session)

    def _wait(self) -> None:
        self.questions += 1
        self.asked.release()
        assert self.may_answer.wait(PATIENCE_SECONDS)

    def expect_asked(self) -> None:
        assert self.asked.acquire(timeout=PATIENCE_SECONDS)
