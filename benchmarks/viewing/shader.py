"""Where the page's GPU brings the mesh, against what `geodistill deform --script` writes."""

from __future__ import annotations

import base64

import torch
from playwright.sync_api import Page
from rows import Row, at_most
from torch import Tensor

from geodistill.deform.session import Session, apply
from geodistill.deform.session_file import session_to_dict
from geodistill.geometry.mesh import bounds, diagonal
from geodistill.viewer.editor import Editor
from viewing import pages, shapes

LIMIT = 1e-3
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


def rows() -> list[Row]:
    found = []
    with pages.browser() as browser:
        for faces in (shapes.SMALL, shapes.LARGE):
            mesh = shapes.blob(faces)
            editor = shapes.editor_of(mesh)
            with pages.served(editor) as address, pages.tab(browser) as page:
                pages.show(page, address)
                for handles in (1, 16, 64):
                    what = f"shader, {len(mesh.faces):,} faces, K = {handles}: largest distance"
                    far, moved = _away(page, editor, shapes.session(mesh, handles))
                    said = f"from the reference, which moves positions by up to {moved:.2g}"
                    found.append(at_most(what, far, LIMIT, "diagonals", said))
    return found


def _away(page: Page, editor: Editor, session: Session) -> tuple[float, float]:
    """How far the page is from the reference, and that from rest, in diagonals."""
    mesh, first = editor.mesh, editor.surface.first
    pages.change(page, session_to_dict(session))
    posed = apply(session, mesh, shapes.features_of(mesh).whitened()).vertices[first]
    low, high = bounds(mesh)
    away = (_positions(page).double() + (low + high) / 2 - posed).norm(dim=1)
    moved = (posed - editor.surface.positions).norm(dim=1)
    return float(away.max()) / diagonal(mesh), float(moved.max()) / diagonal(mesh)


def _positions(page: Page) -> Tensor:
    """Where the GPU has the mesh's distinct positions, [P, 3] less the scene's origin."""
    data = bytearray(base64.b64decode(page.evaluate(READ)))
    return torch.frombuffer(data, dtype=torch.float32).reshape(-1, 4)[:, :3]
