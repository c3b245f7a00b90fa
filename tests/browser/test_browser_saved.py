"""A mesh to deform as one file without a server, and in the middle of a notebook's page."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from geodistill.deform.session import Anchor, Handle, Session, apply
from geodistill.geometry.mesh import Mesh, mesh_digest
from geodistill.viewer.notebook import view
from tests.browser.browsing import LOSE, show, until
from tests.browser.deforming import (
    SESSIONS,
    centred,
    change,
    drag,
    expect_shown,
    positions,
    saved,
    session,
    wait_ready,
)
from tests.deform.shapes import blob, sphere
from tests.deform.test_deform_command import textured
from tests.viewer.editing import features_of

if TYPE_CHECKING:
    from playwright.sync_api import Page


def open_saved(page: Page, mesh: Mesh, begun: Session, folder: Path) -> list[str]:
    """Save it, end the server, open the file; what the page asks for from then on."""
    with view(mesh, features_of(mesh), session=begun, up="z") as viewer:
        viewer.save(folder / "scene.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    show(page, (folder / "scene.html").as_uri())
    wait_ready(page)
    return asked


@pytest.mark.parametrize(
    "name", ["two and an anchor", "locality", "twins", "regions", "mirrors", "published"]
)
def test_a_saved_page_opens_with_its_edit(page: Page, tmp_path: Path, name: str) -> None:
    mesh = blob(2)
    asked = open_saved(page, mesh, SESSIONS[name], tmp_path)
    rest = float((positions(page) - centred(mesh.vertices, mesh)).norm(dim=1).max())
    assert rest > 0.01
    expect_shown(page, SESSIONS[name], mesh)
    assert all(url.startswith(("file:", "blob:")) for url in asked), asked


def test_a_saved_page_deforms(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1100, "height": 700})
    mesh = textured(blob(2))
    begun = Session(anchors=(Anchor(position=(0.0, 0.0, -1.0)),), locality=2.0)
    open_saved(page, mesh, begun, tmp_path)
    page.mouse.click(500, 350)
    page.evaluate("geodistill.settled()")
    drag(page, ".marker.handle", (70, -50))
    found = session(page)
    assert len(found.handles) == 1 and any(found.handles[0].translate)
    assert found.anchors[0].face is not None and found.locality == 2.0
    expect_shown(page, found, mesh)
    assert page.locator("[aria-label^='Export (']").count() == 0
    saved(page, "Control+s", tmp_path / "edit.json")
    page.keyboard.press("Control+Delete")
    assert not session(page).handles
    reopen(page, tmp_path / "edit.json")
    assert session(page) == replace(found, mesh=mesh_digest(mesh))
    expect_shown(page, found, mesh)


def test_the_session_outlives_the_graphics(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1100, "height": 700})
    mesh = blob(2)
    open_saved(page, mesh, SESSIONS["one"], tmp_path)
    found = page.evaluate("geodistill.kind.controller.session")
    page.evaluate(LOSE)
    page.wait_for_selector("#toast:has-text('Ctrl S')")
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    download.value.save_as(tmp_path / "edit.json")
    kept = json.loads((tmp_path / "edit.json").read_text("utf-8"))
    assert kept == {**found, "mesh": mesh_digest(mesh)}


def reopen(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("[aria-label^='Open a session (']").click()
    chooser.value.set_files(path)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    page.evaluate("geodistill.settled()")


REFUSED = [
    ("bad.json", "[]", "bad.json is no session"),
    ("bad.json", "{", "bad.json is no session"),
    ("bad.json", '{"handles": [{"vertex": 1, "scale": -1}]}', "bad.json is no session"),
    ("bad.json", '{"mesh": "another"}', "bad.json is a session of another mesh"),
    ("edit.yaml", "handles: []", "without a server reads .json; geodistill deform reads YAML"),
    ("a.json", '{"handles": [{"position": [0, 0, 1]}]}', "show a.json: handle 1: places by"),
    (
        "b.json",
        '{"anchors": [{"vertex": 1}, {"vertex": 999999}]}',
        "anchor 2: the mesh has no",
    ),
    ("c.json", '{"method": "published"}', "one method and centring only"),
    ("d.json", '{"centring": 0.2}', "one method and centring only"),
    ("e.json", json.dumps({"handles": [{"vertex": k} for k in range(65)]}), "up to 64 handles"),
    (
        "f.json",
        '{"mirrors": [{"normal": [1, 0, 0]}, {"normal": [1, 1, 0]}]}',
        "at right angles",
    ),
]


def test_a_saved_page_refuses_what_it_cannot_show(page: Page, tmp_path: Path) -> None:
    mesh = blob(2)
    page.set_viewport_size({"width": 1100, "height": 700})
    open_saved(page, mesh, SESSIONS["one"], tmp_path)
    for name, text, words in REFUSED:
        (tmp_path / name).write_text(text, "utf-8")
        reopen(page, tmp_path / name)
        page.wait_for_selector(f"#toast:has-text('{words}')")
    assert session(page) == SESSIONS["one"]
    expect_shown(page, SESSIONS["one"], mesh)


def test_a_saved_page_knows_mirrors_and_features(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1100, "height": 700})
    mesh = sphere(24)
    mesh = Mesh(mesh.vertices * torch.tensor([1.0, 0.7, 1.3]).double(), mesh.faces)
    x, y, z = mesh.vertices.unbind(1)
    features = torch.stack([x.abs(), y + 0.3 * z, z, x.square() * z, torch.cos(2 * z)], 1).float()
    with view(mesh, features, up="z") as viewer:
        colors = viewer._editor.feature_colors()
        viewer.save(tmp_path / "scene.html")
    show(page, (tmp_path / "scene.html").as_uri())
    wait_ready(page)
    page.keyboard.press("m")
    until(page, "geodistill.kind.controller.session.mirrors.length", 1)
    (mirror,) = session(page).mirrors
    assert abs(mirror.normal[0]) > 0.999
    assert bytes(page.evaluate("geodistill.kind.backend.colors().then(Array.from)")) == colors
    change(page, Session(rigidity=3, handles=(Handle(vertex=300, translate=(0.1, 0.0, 0.2)),)))
    page.wait_for_selector("#toast:has-text('geodistill deform')")


def test_a_notebook_shows_the_page(page: Page, tmp_path: Path) -> None:
    mesh = blob(2)
    with view(mesh, features_of(mesh), session=SESSIONS["one"]) as viewer:
        text = f"<!doctype html><h1>A notebook</h1>{viewer._repr_html_()}"
        (tmp_path / "notebook.html").write_text(text, "utf-8")
        serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page.goto(f"http://localhost:{server.server_port}/notebook.html")
            frame = page.frame_locator("iframe")
            frame.locator("#cover.done").wait_for(state="attached")
            assert frame.locator("#name").inner_text() == "mesh"
            inside = page.frames[1]
            wait_ready(inside)
            viewer.session = SESSIONS["two and an anchor"]
            until(inside, "geodistill.kind.controller.session.handles.length", 2)
            inside.evaluate("geodistill.kind.controller.undo()")
            until(inside, lambda: len(viewer.session.handles), 1)
            server.shutdown()
        expected = apply(SESSIONS["one"], mesh, features_of(mesh).whitened()).vertices
        assert torch.allclose(viewer.vertices, expected)


def test_no_other_site_shows_the_page_inside_its_own(page: Page) -> None:
    mesh = blob(2)
    with view(mesh, features_of(mesh)) as viewer:
        answer = page.request.get(viewer.url)
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors http://localhost:*" in policy and "default-src 'none'" in policy
        assert json.loads(page.request.get(viewer.url.replace("/?", "/scene.json?")).text())
