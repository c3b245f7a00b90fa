"""`geodistill.view` and pages with a mesh to deform inside of them, without a browser."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import geodistill
from geodistill import cli
from geodistill.checks import GeodistillError, InputError, ShapeError, UsageError
from geodistill.deform.session import Anchor, Handle, Session, apply
from geodistill.deform.session_file import save_session
from geodistill.geometry.mesh_files import load_mesh, save_mesh
from geodistill.lift.files import save_features
from geodistill.viewer import baked as baking
from geodistill.viewer.baked import baked
from geodistill.viewer.scene import describe_edit
from tests.deform.shapes import blob, joined, moved
from tests.viewer.editing import editor_of, features_of
from tests.viewer.viewing import some_splats

pytestmark = pytest.mark.usefixtures("plain_page")


def manifest_of(page: Path) -> dict:
    found = re.search(r'id="scene">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_the_edit_is_there_in_python_and_on_the_page() -> None:
    mesh = blob(2)
    with geodistill.view(mesh, features_of(mesh)) as viewer:
        assert viewer.session == Session()
        assert torch.equal(viewer.vertices, mesh.vertices)
        made = Session(handles=(Handle(vertex=300, translate=(0.1, 0.2, 0.0)),))
        viewer.session = made
        wanted = apply(made, mesh, features_of(mesh).whitened()).vertices
        assert torch.equal(viewer.vertices, wanted)
        with pytest.raises(InputError, match="is for the mesh"):
            viewer.session = replace(made, mesh="another")
        with pytest.raises(UsageError, match="not a dict"):
            viewer.session = {"handles": []}
        assert viewer.session == made
        assert f'src="{viewer.url}"' in viewer._repr_html_()
        with urllib.request.urlopen(viewer.url) as answer:
            assert b"start()" in answer.read()
    with pytest.raises(OSError):
        urllib.request.urlopen(viewer.url, timeout=5)


def test_files_and_tensors_are_features_too(tmp_path: Path) -> None:
    mesh = blob(2)
    save_mesh(tmp_path / "blob.glb", mesh)
    mesh = load_mesh(tmp_path / "blob.glb")
    save_features(tmp_path / "f.safetensors", features_of(mesh))
    made = Session(handles=(Handle(vertex=300, translate=(0.1, 0.2, 0.0)),))
    with geodistill.view(str(tmp_path / "blob.glb"), tmp_path / "f.safetensors") as viewer:
        viewer.session = made
        one = viewer.vertices
    with geodistill.view(mesh, features_of(mesh).features, session=made) as viewer:
        assert torch.equal(viewer.vertices, one)


def test_other_scenes_are_shown(tmp_path: Path) -> None:
    with geodistill.view(some_splats(50, 1)) as viewer:
        viewer.save(tmp_path / "splats.html")
        assert manifest_of(tmp_path / "splats.html")["kind"] == "splats"
        with pytest.raises(UsageError, match="nothing is edited"):
            _ = viewer.session


@pytest.mark.parametrize(
    "wrong, kind, reason",
    [
        (lambda m: geodistill.view(m, session=Session()), UsageError, "features"),
        (lambda m: geodistill.view(some_splats(9, 0), torch.ones(9, 3)), UsageError, "only meshes"),
        (lambda m: geodistill.view(m, torch.ones(9, 3)), ShapeError, "features"),
        (lambda m: geodistill.view(m, features_of(joined(m, m))), InputError, "elements"),
        (lambda m: geodistill.view(m, features_of(moved(m, 1)[0])), InputError, "another mesh"),
        (lambda m: geodistill.view(m, torch.ones(len(m.vertices), 3)), InputError, "the same"),
        (lambda m: geodistill.view(m, "missing.safetensors"), InputError, "missing.safetensors"),
        (lambda m: geodistill.view("missing.glb"), InputError, "missing.glb"),
        (lambda m: geodistill.view(5), UsageError, "a scene is a mesh, points, .* got 5"),  # pyright: ignore
        (lambda m: geodistill.view(None), UsageError, "path of a file of one, got None"),  # pyright: ignore
        (lambda m: geodistill.view(m, m), UsageError, "features are .* got a Mesh"),
        (lambda m: geodistill.view(m, port=1 << 16), UsageError, "port must be from 0"),
        (lambda m: geodistill.view(m, up="up"), UsageError, "'up' must be one of x, y"),
        (lambda m: geodistill.view(m, height_px=0), UsageError, "height_px must be at least 1"),
    ],
)
def test_what_cannot_be_shown(
    wrong: Callable[..., object], kind: type[GeodistillError], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        wrong(blob(2))


def test_what_a_session_s_file_lacks_is_said_with_its_name(tmp_path: Path) -> None:
    mesh = blob(2)
    save_session(tmp_path / "far.json", Session(anchors=(Anchor(vertex=99999),)))
    reason = r"far.json: anchors\[0\]: vertex 99999 is not of the mesh"
    with pytest.raises(InputError, match=reason):
        geodistill.view(mesh, features_of(mesh), session=tmp_path / "far.json")
    with geodistill.view(mesh, features_of(mesh)) as viewer:
        with pytest.raises(InputError, match=reason):
            viewer.session = tmp_path / "far.json"
        with pytest.raises(InputError, match=r"listen .* in use, choose another port"):
            geodistill.view(mesh, port=viewer.port)


def test_nothing_is_replaced_unless_it_may_be(tmp_path: Path) -> None:
    page = tmp_path / "scene.html"
    page.write_bytes(b"mine")
    (tmp_path / "mesh.glb").write_bytes(b"mine")
    with geodistill.view(some_splats(50, 1)) as viewer:
        with pytest.raises(UsageError, match=r"scene.html exists: .* overwrite=True"):
            viewer.save(page)
        with pytest.raises(UsageError, match=r"mesh\.glb: name a file"):
            viewer.save(tmp_path / "mesh.glb", overwrite=True)
        assert page.read_bytes() == (tmp_path / "mesh.glb").read_bytes() == b"mine"
        viewer.save(page, overwrite=True)
    assert manifest_of(page)["kind"] == "splats"


def test_a_page_holds_what_the_server_would_say() -> None:
    mesh = blob(2)
    session = Session(anchors=(Anchor(position=(0.0, 0.0, -1.0)),), method="published")
    editor = editor_of(mesh, session)
    found = baked(describe_edit(mesh, editor.surface, Path("a.glb")), editor)
    assert found.edit is not None and found.digest == editor.digest
    (anchor,) = found.edit["session"]["anchors"]
    assert set(anchor) == {"face", "barycentric"}
    corners = editor.surface.positions[editor.surface.faces[anchor["face"]]]
    at = torch.tensor(anchor["barycentric"]).double() @ corners
    assert float(at[2]) < -0.5
    table = editor.subject(session).table
    halves = np.frombuffer(found.arrays["features"].data, "<f2").reshape(len(table.T), -1)
    assert np.abs(halves - table.T.numpy()).max() < 5e-4
    ends = np.frombuffer(found.arrays["graph_ends"].data, "<u4").reshape(-1, 2)
    assert (ends[:, 0] < ends[:, 1]).all()
    graph = editor.subject(session).graph.tocoo()
    assert 2 * len(ends) == int((graph.row != graph.col).sum())
    editor.close()


def test_more_features_than_a_page_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = blob(2)
    editor = editor_of(mesh)
    monkeypatch.setattr(baking, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="fewer channels"):
        baked(describe_edit(mesh, editor.surface, Path("a.glb")), editor)
    editor.close()


def test_the_command_saves_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = blob(2)
    save_mesh(tmp_path / "blob.glb", mesh)
    save_features(tmp_path / "f.safetensors", features_of(load_mesh(tmp_path / "blob.glb")))
    session = {"handles": [{"vertex": 300, "translate": [0.1, 0, 0]}]}
    (tmp_path / "edit.json").write_text(json.dumps(session), "utf-8")
    page = tmp_path / "scene.html"
    given = [str(tmp_path / name) for name in ("blob.glb", "f.safetensors", "edit.json")]
    line = ["deform", given[0], "--features", given[1], "--session", given[2], "--save", str(page)]
    assert cli.main(line) == 0
    assert manifest_of(page)["edit"]["session"]["handles"] == session["handles"]
    assert cli.main(line) == 2
    assert "exists: choose another --save or pass --overwrite" in capsys.readouterr().err
    assert cli.main([*line[:-1], str(tmp_path / "scene.glb")]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert cli.main([*line[:2], *line[-2:], "--script", given[2]]) == 2
    assert "--save is for the page" in capsys.readouterr().err
