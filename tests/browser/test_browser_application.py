"""The deformation page as a person uses it: real clicks and drags, files in and out, two tabs, and
a server that goes away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from geodistill.deform.session import Session, apply
from geodistill.deform.session_file import load_session, session_from_dict
from geodistill.geometry.mesh import Mesh, diagonal
from geodistill.geometry.mesh_files import load_mesh
from geodistill.viewer.editor import Editor
from tests.browser.browsing import distance, port_of, pose, serving_edit, show, until
from tests.browser.deforming import (
    CANVAS_WIDTH,
    SIZE,
    drag,
    expect_shown,
    first_hit,
    kept,
    positions,
    reference,
    rest,
    saved,
    session,
)
from tests.deform.shapes import blob, sphere
from tests.deform.test_deform_command import textured
from tests.viewer.editing import editor_of, features_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def shape() -> Mesh:
    return textured(blob(2))


def test_an_edit_from_the_first_click_to_the_exported_file(
    page: Page, shape: Mesh, tmp_path: Path
) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    editor, sent = editor_of(shape), []
    editor.keep = sent.append
    with serving_edit(editor) as address:
        show(page, address)
        assert "Click the surface" in page.locator("#welcome").inner_text()
        page.mouse.click(500, 350)
        first = session(page)
        assert len(first.handles) == 1 and first.handles[0].face is not None
        assert not page.locator("#welcome").is_visible()
        drag(page, ".marker.handle", (60, -50))
        moved = session(page)
        assert torch.tensor(moved.handles[0].translate).norm() > 0.05 * diagonal(shape)
        expect_shown(page, moved, shape)
        page.mouse.click(560, 500)
        page.keyboard.press("2")
        page.mouse.click(440, 250)
        both = kept(page, editor)
        assert len(both.handles) == 2 and len(both.anchors) == 1
        expect_shown(page, both, shape)
        assert len(sent) == 4
        # Undo goes all the way back, and redo to where it was.
        for _ in range(4):
            page.keyboard.press("Control+z")
        assert session(page) == Session()
        assert torch.equal(positions(page), rest(editor))
        for _ in range(4):
            page.keyboard.press("Control+Shift+z")
        assert session(page) == both
        # By numbers, as they are written.
        page.locator("#edit .list button.handle").first.click()
        page.get_by_label("Turn ° z").fill("90")
        page.get_by_label("Turn ° z").press("Enter")
        turned = session(page)
        assert turned.handles[0].rotate == (0.0, 0.0, 90.0)
        expect_shown(page, turned, shape)
        written = load_session(saved(page, "Control+s", tmp_path / "a.json"))
        assert written == replace(turned, mesh=editor.digest)
        page.keyboard.press("Control+Delete")
        assert not session(page).handles
        with page.expect_file_chooser() as chooser:
            page.get_by_label("Open a session (Ctrl O)").click()
        chooser.value.set_files(tmp_path / "a.json")
        page.wait_for_selector(".marker.anchor", state="attached")
        assert session(page) == written
        page.keyboard.press("x")
        with page.expect_download() as download:
            page.locator("#export button.primary").click()
        assert download.value.suggested_filename == "shape_deformed.glb"
        download.value.save_as(tmp_path / "out.glb")
    found = load_mesh(tmp_path / "out.glb")
    assert float((found.vertices - reference(written, shape)).abs().max()) < 1e-5
    assert found.materials[0].texture is not None


def test_a_picked_place_is_the_face_under_the_pointer(page: Page, shape: Mesh) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    editor = editor_of(shape)
    with serving_edit(editor) as address:
        show(page, address)
        page.mouse.click(520, 330)
        drag(page, ".marker.handle", (-40, 60))
        page.evaluate("geodistill.settled()")
        pick = """([x, y]) => {
          const { picker, topology } = geodistill.kind;
          const hit = picker.at(geodistill.stage.camera, x, y);
          return hit && { face: topology.fileFace(hit.face), at: hit.barycentric };
        }"""
        line = """([x, y]) => {
          const { camera } = geodistill.stage;
          const at = camera.position.clone().set(x, y, 0.5).unproject(camera);
          return [camera.position.toArray(), at.sub(camera.position).toArray()];
        }"""
        corners = positions(page)[editor.surface.faces].double()
        for k in range(24):
            at = [0.04 * (k % 6 - 2.5), 0.06 * (k // 6 - 1.5)]
            found = page.evaluate(pick, at)
            eye, direction = (torch.tensor(v, dtype=torch.float64) for v in page.evaluate(line, at))
            face, barycentric = first_hit(corners, eye, direction)
            assert found["face"] == face
            assert float((torch.tensor(found["at"]).double() - barycentric).abs().max()) < 1e-3


WATCH = """() => {
  const what = { subtree: true, childList: true, attributes: true };
  window.touched = 0;
  const watch = new MutationObserver((records) => (window.touched += records.length));
  for (const id of ["modes", "edit"])
    watch.observe(document.getElementById(id), what);
}"""
"""Counts what happens to the tools and to the panel of the edit."""


def test_regions_by_brush_and_lasso_are_what_is_seen_there(page: Page, shape: Mesh) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    editor = editor_of(shape)
    with serving_edit(editor) as address:
        show(page, address)
        page.keyboard.press("4")
        for k, (x, y) in enumerate([(440, 290), (580, 290), (580, 410), (440, 410), (440, 300)]):
            page.mouse.move(x, y)
            if k == 0:
                page.mouse.down()
        page.mouse.up()
        page.locator("#selection button.primary").click()
        region = session(page).handles[0].region
        assert region is not None and len(region) > 20
        project = """() => {
          const { camera, canvas } = geodistill.stage;
          return [camera.projectionMatrix, camera.matrixWorldInverse].map(m => m.elements)
            .concat([camera.position.toArray()]);
        }"""
        P, V, eye = page.evaluate(project)
        full = torch.tensor(P).reshape(4, 4).T.double() @ torch.tensor(V).reshape(4, 4).T.double()
        places = editor.surface.welded[torch.tensor(region)]
        spots = rest(editor)[places].double()
        clip = torch.cat([spots, torch.ones(len(spots), 1)], 1) @ full.T
        x = (0.5 + 0.5 * clip[:, 0] / clip[:, 3]) * CANVAS_WIDTH
        y = (0.5 - 0.5 * clip[:, 1] / clip[:, 3]) * SIZE["height"]
        assert bool(((x > 439) & (x < 581) & (y > 289) & (y < 411)).all())
        # All of them face the camera: what is behind is not selected.
        outward = rest(editor)[places].double()
        assert bool(((torch.tensor(eye) - spots) * outward).sum(1).gt(-0.15).all())
        page.keyboard.press("3")
        page.mouse.move(620, 250)
        page.mouse.down()
        # During a stroke what is selected is shown, and nothing else is touched.
        page.evaluate(WATCH)
        page.mouse.move(640, 260, steps=6)
        until(page, "document.getElementById('selection').hidden", False)
        assert page.evaluate("window.touched") == 0
        page.mouse.up()
        until(page, "window.touched > 0")
        # What is no stroke is the camera's, and other tools leave the selection as it is.
        words, near = page.locator("#selection span").inner_text(), distance(pose(page))
        page.mouse.wheel(0, -300)
        assert distance(closer := pose(page)) < 0.9 * near
        for button, turned in (("right", False), ("middle", None)):
            page.mouse.down(button=button)
            page.mouse.move(560, 320, steps=3)
            page.mouse.up(button=button)
            assert pose(page) != closer
            assert turned is not False or distance(pose(page)) == pytest.approx(distance(closer))
            closer = pose(page)
        for key in "4123":
            page.keyboard.press(key)
            assert page.locator("#selection span").inner_text() == words
        page.locator("#selection button").nth(1).click()
        assert page.locator("#selection").is_hidden()
        anchors = session(page).anchors
        assert len(anchors) == 1 and anchors[0].region is not None


def test_a_symmetric_edit(page: Page) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    whole = sphere(24)
    stretched = Mesh(whole.vertices * torch.tensor([1.0, 0.6, 1.7]).double(), whole.faces)
    x, y, z = stretched.vertices.unbind(1)
    features = torch.stack([x.abs(), y + 0.3 * z, z, x.square() * z, torch.cos(2 * z)], 1).float()
    found = replace(features_of(stretched), features=features)
    editor = Editor(stretched, Session())
    editor.bring(found)
    with serving_edit(editor) as address:
        show(page, address)
        page.keyboard.press("m")
        page.wait_for_selector("#edit .list input[type=checkbox]", state="attached")
        mirrors = session(page).mirrors
        assert len(mirrors) == 1 and abs(mirrors[0].normal[0]) > 0.99
        page.mouse.click(620, 350)
        drag(page, ".marker.handle", (50, -30))
        edited = session(page)
        at = positions(page).double()
        middle = (stretched.vertices.amax(0) + stretched.vertices.amin(0)) / 2
        wanted = apply(edited, stretched, found.whitened()).vertices[editor.surface.first]
        assert float((at + middle - wanted).norm(dim=1).max()) < 1e-3 * diagonal(stretched)
        assert float((at - rest(editor)).norm(dim=1).max()) > 0.1
        image = at * torch.tensor([-1.0, 1.0, 1.0]).double()
        assert float(torch.cdist(image, at).amin(1).max()) < 1e-3 * diagonal(stretched)
        page.keyboard.press("m")
        assert session(page).mirrors == ()


def test_two_tabs_share_one_edit(browser: Browser, shape: Mesh) -> None:
    editor = editor_of(shape)
    with serving_edit(editor) as address:
        tabs = [browser.new_page(viewport=SIZE) for _ in range(2)]  # pyright: ignore
        for tab in tabs:
            show(tab, address)
        tabs[0].mouse.click(500, 350)
        made = session(tabs[0])
        tabs[1].wait_for_selector(".marker.handle", state="attached")
        assert session(tabs[1]) == made
        drag(tabs[1], ".marker.handle", (40, 40))
        moved = session(tabs[1])
        assert moved != made
        until(tabs[0], lambda: session(tabs[0]), moved)
        assert kept(tabs[0], editor) == moved
        tabs[0].keyboard.press("Control+z")
        assert session(tabs[0]) == made
        for tab in tabs:
            tab.close()


def test_an_edit_outlives_the_server(page: Page, shape: Mesh) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    with serving_edit(editor_of(shape)) as address:
        show(page, address)
        page.mouse.click(500, 350)
        session(page)
    page.wait_for_selector("#toast:has-text('Connection lost')")
    # What is there goes on without it; a new handle waits.
    drag(page, ".marker.handle", (50, 20))
    moved = page.evaluate("geodistill.kind.controller.session")
    page.keyboard.press("Escape")
    page.mouse.click(560, 480)
    assert page.evaluate("geodistill.kind.controller.missing") == "places"
    fresh = editor_of(shape)
    with serving_edit(fresh, port=port_of(address)):
        page.wait_for_selector("#toast", state="hidden")
        both = session(page)
        assert len(both.handles) == 2
        assert both.handles[0] == session_from_dict(json.loads(json.dumps(moved))).handles[0]
        expect_shown(page, both, shape)
        until(page, lambda: fresh.session, both)


def test_a_mesh_can_be_looked_at_while_its_features_are_found(page: Page, shape: Mesh) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    editor = Editor(shape, Session())
    with serving_edit(editor) as address:
        show(page, address)
        editor.advance("lite0, views", 3, 24)
        page.wait_for_selector("#welcome:has-text('lite0, views 3 / 24')")
        bar = "document.querySelector('#welcome-bar').className + ' ' + "
        bar += "document.querySelector('#welcome-bar i').style.width"
        assert page.evaluate(bar) == "bar 12.5%"
        page.keyboard.press("x")  # which has to wait
        page.wait_for_selector("#toast:has-text('Export: once the features are there')")
        export = page.get_by_label("Export (X)")
        assert export.is_disabled() and not page.locator("#export").is_visible()
        assert export.get_attribute("data-note") == ": once the features are there"
        page.mouse.click(500, 350)  # waits with the person
        page.wait_for_selector("#welcome:has-text('as soon as the features are there')")
        assert page.locator("#welcome-title").is_hidden()
        assert page.get_by_label("Pivot x").is_hidden() and page.get_by_label("Move x").is_visible()
        editor.advance("refinement, steps tried", 7, None)
        page.wait_for_selector("#welcome:has-text('steps tried 7.')")
        assert page.evaluate(bar) == "bar busy "
        before: dict[str, Any] = page.evaluate("geodistill.stage.pose")
        page.mouse.move(300, 300)
        page.mouse.down()
        page.mouse.move(360, 320, steps=3)
        page.mouse.up()
        assert page.evaluate("geodistill.stage.pose") != before
        editor.bring(features_of(shape))
        page.wait_for_selector(".marker.handle:not([hidden])")
        found = session(page)
        assert len(found.handles) == 1 and page.get_by_label("Pivot x").is_visible()
        assert export.is_enabled() and not export.get_attribute("data-note")
        editor.give_up("the teacher is gone")
        page.wait_for_selector("#toast:has-text('the teacher is gone')")


def test_a_page_without_features_says_why(page: Page, shape: Mesh) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    editor = Editor(shape, Session())
    with serving_edit(editor) as address:
        show(page, address)
        editor.advance("lite0, views", 3, 24)
        page.wait_for_selector("#welcome:has-text('3 / 24')")
        editor.give_up("the teacher is gone")
        page.wait_for_selector("#welcome:has-text('the teacher is gone')")
        assert page.locator("#toast").is_hidden() and page.locator("#welcome-bar").is_hidden()
        page.reload()
        page.wait_for_selector("#welcome:has-text('There are no features')")
        editor.bring(features_of(shape))  # as a server does that was started again
        page.wait_for_selector("#welcome:has-text('Click the surface')")
