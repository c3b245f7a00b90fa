"""A million faces in the page: a frame, a handle, its weights, a drag, and a pick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from geodistill.geometry.mesh import diagonal
from tests.browser.browsing import picture, serving_edit, show
from tests.browser.deforming import (
    VISIBLE,
    away,
    drag,
    first_hit,
    kept,
    middle_of,
    positions,
    rest,
    session,
)
from tests.deform.shapes import blob
from tests.viewer.editing import editor_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICK = """([x, y]) => {
  const { picker, topology } = geodistill.kind;
  const { camera } = geodistill.stage;
  const hit = picker.at(camera, x, y);
  const far = camera.position.clone().set(x, y, 0.5).unproject(camera);
  return {
    face: hit && topology.fileFace(hit.face),
    barycentric: hit && hit.barycentric,
    eye: camera.position.toArray(),
    direction: far.sub(camera.position).toArray(),
  };
}"""


@pytest.mark.slow
def test_a_million_faces(page: Page) -> None:
    mesh = blob(2, rings=502)
    assert len(mesh.faces) > 1_000_000 and len(mesh.vertices) > 500_000
    page.set_viewport_size({"width": 400, "height": 300})
    editor = editor_of(mesh)
    with serving_edit(editor) as address:
        show(page, address)
        bare = picture(page)
        covered = float((bare[..., 3] > 0.5).float().mean())
        assert 0.1 < covered < 0.9
        page.mouse.click(200, 150)
        page.wait_for_selector(VISIBLE)
        made = session(page)
        assert len(made.handles) == 1
        # Its weights are seen: most where it is, and nothing of the shape has changed.
        heated = picture(page)
        assert float((heated[..., 3] - bare[..., 3]).abs().mean()) < 1e-3
        change = (heated - bare)[..., :3].norm(dim=-1)
        assert float(change[145:155, 195:205].mean()) > 0.1
        assert torch.equal(positions(page), rest(editor))
        drag(page, VISIBLE, (30, -24))
        moved = kept(page, editor)
        assert torch.tensor(moved.handles[0].translate).norm() > 0.03 * diagonal(mesh)
        shown = positions(page).double()
        off = away(page, moved, mesh)
        print(f"a million faces: {off:.2g} diagonals")
        assert off < 1e-3
        x, y = middle_of(page, VISIBLE)
        corners = shown[editor.surface.faces]
        for dx, dy in ((0.0, 0.0), (-31.3, 24.7)):
            at = [2 * (x + dx) / 400 - 1, 1 - 2 * (y + dy) / 300]
            found: dict[str, Any] = page.evaluate(PICK, at)
            eye, direction = (torch.tensor(found[k]).double() for k in ("eye", "direction"))
            face, barycentric = first_hit(corners, eye, direction)
            assert found["face"] == face
            assert face != first_hit(rest(editor)[editor.surface.faces].double(), eye, direction)[0]
            assert float((torch.tensor(found["barycentric"]) - barycentric).abs().max()) < 1e-2
