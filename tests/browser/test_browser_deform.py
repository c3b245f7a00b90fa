"""Deforming in a real browser: what its GPU computes is what `deform` does."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from geodistill.deform.session import Anchor, Handle, Mirror, Session, apply
from geodistill.deform.session_file import session_to_dict
from geodistill.geometry.mesh import Mesh, diagonal
from tests.browser.browsing import serving_edit, show
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of, features_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


def away(page: Page, session: Session, mesh: Mesh) -> float:
    """How far the page is from the reference, in diagonals."""
    change(page, session)
    assert page.locator("#toast").is_hidden(), page.locator("#toast").text_content()
    features = features_of(mesh)
    given = features.directions() if session.method == "published" else features.whitened()
    wanted = apply(session, mesh, given).vertices
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    editor = editor_of(mesh)
    wanted = wanted[editor.surface.first] - (low + high) / 2
    editor.close()
    assert float((wanted + (low + high) / 2 - editor.surface.positions).abs().max()) > 0.01
    return float((positions(page).double() - wanted).norm(dim=1).max()) / diagonal(mesh)


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


@pytest.mark.parametrize("name", SESSIONS)
def test_the_shader_is_the_reference(page: Page, name: str) -> None:
    mesh = blob(2)
    with serving_edit(editor_of(mesh)) as address:
        show(page, address)
        found = away(page, SESSIONS[name], mesh)
        print(f"{name}: {found:.2g} diagonals")
        assert found < 1e-3


def test_a_polish_stays_until_the_edit_changes(page: Page) -> None:
    mesh = blob(2)
    editor = editor_of(mesh)
    with serving_edit(editor) as address:
        show(page, address)
        change(page, SESSIONS["polished"])
        before = positions(page)
        page.evaluate("window.before = geodistill.kind.controller.kernel")
        editor.told(editor.state()[0])
        while page.evaluate("window.before === geodistill.kind.controller.kernel"):
            pass
        page.evaluate("geodistill.settled()")
        assert torch.equal(positions(page), before)
        change(page, SESSIONS["one"])
        assert not torch.equal(positions(page), before)
