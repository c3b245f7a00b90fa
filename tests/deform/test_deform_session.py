"""Sessions: what an edit does, and files of it, good and bad."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from geodistill.checks import InputError
from geodistill.deform import session as sessions
from geodistill.deform.session import Anchor, Handle, Mirror, Session
from geodistill.deform.session_file import (
    load_session,
    save_session,
    session_from_dict,
    session_to_dict,
)
from geodistill.deform.surface import surface_of
from geodistill.geometry.mesh import Mesh, mesh_digest
from tests.deform.shapes import blob, grid, joined, moved, sphere, waves

FULL = Session(
    mesh="0123",
    radius=0.8,
    locality=1.5,
    rigidity=2,
    handles=(
        Handle(vertex=3, translate=(0.0, 1.0, 0.5), scale=(1.0, 2.0, 1.0)),
        Handle(face=7, barycentric=(0.2, 0.3, 0.5), rotate=(0.0, 0.0, 90.0), locality=2.0),
        Handle(region=(1, 2, 3), quaternion=(0.0, 1.0, 0.0, 0.0), pivot=(0.0, 0.0, 1.0)),
    ),
    anchors=(Anchor(vertex=9), Anchor(position=(0.0, 1.0, 2.0))),
    mirrors=(Mirror((1.0, 0.0, 0.0), 0.25),),
)


def diagonal(mesh: Mesh) -> float:
    return surface_of(mesh).diagonal


# What an edit does


def apply(session: Session, mesh: Mesh, features: torch.Tensor) -> torch.Tensor:
    return sessions.apply(session, mesh, features).vertices


def test_no_handles_or_none_that_move_leave_every_bit() -> None:
    mesh = blob(1)
    still = Session(handles=(Handle(vertex=5), Handle(vertex=900)), anchors=(Anchor(vertex=700),))
    for session in (Session(), still):
        assert torch.equal(apply(session, mesh, waves(mesh.vertices)), mesh.vertices)


@pytest.mark.parametrize("blend", ["rotations", "linear"])
@pytest.mark.parametrize("radius", [None, 0.6])
def test_handles_are_hit_and_anchors_hold(blend: Any, radius: float | None) -> None:
    mesh = blob(2)
    a, b, pin = 300, 1500, 900
    session = Session(
        blend=blend,
        radius=radius,
        handles=(
            Handle(vertex=a, translate=(0.3, -0.1, 0.2), rotate=(0.0, 40.0, 10.0), scale=1.3),
            Handle(face=2500, translate=(0.0, 0.4, 0.0), scale=(1.0, 0.5, 2.0)),
        ),
        anchors=(Anchor(vertex=pin), Anchor(vertex=b)),
    )
    x, moved_x = mesh.vertices, apply(session, mesh, waves(mesh.vertices))
    limit = 1e-6 * diagonal(mesh)
    hit = x[a] + torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    assert (moved_x[a] - hit).norm() < limit
    corners = mesh.faces[2500]
    middle = x[corners].mean(0)
    size = torch.tensor([1, 0.5, 2], dtype=torch.float64)
    expected = middle + size * (x[corners] - middle) + torch.tensor([0, 0.4, 0]).double()
    assert (moved_x[corners] - expected).norm(dim=1).max() < 2 * limit
    assert torch.equal(moved_x[[pin, b]], x[[pin, b]])
    assert ((moved_x - x).norm(dim=1) > 10 * limit).sum() > 50


def test_a_rigid_motion_of_the_mesh_moves_the_edit_with_it() -> None:
    mesh, features = blob(3), waves(blob(3).vertices)
    other, R, t = moved(mesh, 7, 5.0)

    def edit(turn: torch.Tensor, move: torch.Tensor, axis: torch.Tensor) -> Session:
        return Session(
            locality=1.0,
            handles=(
                Handle(vertex=400, translate=tuple((turn @ move).tolist())),
                Handle(vertex=1400, rotate=tuple((turn @ axis).tolist())),
            ),
        )

    move, axis = torch.tensor([[0.2, 0.1, 0.3], [30.0, 40.0, -20.0]]).double()
    one = apply(edit(torch.eye(3).double(), move, axis), mesh, features)
    two = apply(edit(R, move, axis), other, features)
    torch.testing.assert_close(two, one @ R.T + t, atol=2e-4, rtol=0)


def test_twins_at_a_seam_stay_together_whatever_their_features() -> None:
    mesh = sphere(24)
    features = waves(mesh.vertices) + 0.3 * torch.randn(
        len(mesh.vertices), 16, generator=torch.Generator().manual_seed(0)
    )
    session = Session(handles=(Handle(vertex=12 * 49, translate=(0.5, 0, 0)),), rigidity=2)
    result = apply(session, mesh, features).view(24, 49, 3)
    assert torch.equal(result[:, 0], result[:, 48])
    assert not torch.equal(result.view(-1, 3), mesh.vertices)


def test_locality_keeps_a_lookalike_still() -> None:
    mesh = grid(61, 5, (6.0, 0.4))
    looks = torch.cat([(mesh.vertices[:, :1] - 3).abs(), mesh.vertices[:, 1:]], 1)
    handle = Handle(vertex=2, translate=(0.0, 0.0, 1.0))
    free = apply(Session(handles=(handle,)), mesh, waves(looks))
    local = apply(Session(handles=(replace(handle, locality=4.0),)), mesh, waves(looks))
    assert free[302, 2] > 0.99 and local[302, 2] < 1e-6
    assert local[2, 2] == pytest.approx(1, abs=1e-6)


def test_a_mirrored_edit_is_symmetric_with_locality_and_polish() -> None:
    mesh = grid(41, 21, (2.0, 1.0))
    looks = torch.cat([(mesh.vertices[:, :1] - 1).abs(), mesh.vertices[:, 1:]], 1)
    session = Session(
        locality=1.0,
        handles=(Handle(vertex=5 * 21 + 10, translate=(0.1, 0.1, 0.4), rotate=(0.0, 50.0, 20.0)),),
        mirrors=(Mirror((2.0, 0.0, 0.0), 2.0),),
    )
    for rigidity, limit in ((0, 5e-3), (3, 2e-2)):
        result = apply(replace(session, rigidity=rigidity), mesh, waves(looks)).view(41, 21, 3)
        image = result.flip(0) * torch.tensor([-1.0, 1, 1]) + torch.tensor([2.0, 0, 0])
        assert (result - image).norm(dim=2).max() < limit
        assert (result[5, 10] - mesh.vertices.view(41, 21, 3)[5, 10]).norm() > 0.4
        assert (result[35, 10] - mesh.vertices.view(41, 21, 3)[35, 10]).norm() > 0.35


def test_an_anchor_at_a_handles_mirror_image_holds_it() -> None:
    mesh = grid(41, 21, (2.0, 1.0))
    session = Session(
        handles=(Handle(vertex=5 * 21 + 10, translate=(0.0, 0.0, 0.4)),),
        anchors=(Anchor(vertex=35 * 21 + 10),),
        mirrors=(Mirror((2.0, 0.0, 0.0), 2.0),),
    )
    with pytest.raises(InputError, match=r"anchors\[0\] holds all of handles\[0\]"):
        apply(session, mesh, waves(mesh.vertices))


def test_the_polish_keeps_handles_and_anchors() -> None:
    mesh = grid(31, 31)
    session = Session(
        radius=1.2,
        rigidity=5,
        handles=(Handle(vertex=480, translate=(0.0, 0.0, 0.5)),),
        anchors=(Anchor(vertex=100),),
    )
    plain = apply(replace(session, rigidity=0), mesh, waves(mesh.vertices, scale=3.0))
    relaxed = apply(session, mesh, waves(mesh.vertices, scale=3.0))
    assert torch.equal(relaxed[[480, 100]], plain[[480, 100]])
    assert (relaxed - plain).norm(dim=1).max() > 0.01


def test_the_published_method_is_its_formulas() -> None:
    mesh = grid(9, 9)
    z = torch.nn.functional.normalize(waves(mesh.vertices).double(), dim=1)
    cone = (1 - torch.cdist(z, z)).clamp_min(0)
    session = Session(
        method="published",
        handles=(Handle(vertex=10, translate=(0.0, 0.0, 1.0)),),
        anchors=(Anchor(vertex=70),),
    )
    expected = mesh.vertices.clone()
    expected[:, 2] += (cone[10] - cone[70]).clamp_min(0)
    result = apply(session, mesh, waves(mesh.vertices))
    torch.testing.assert_close(result, expected, atol=2e-3, rtol=0)


def test_a_position_means_the_nearest_surface_point() -> None:
    mesh = joined(grid(9, 9), sphere(9))
    target = mesh.vertices[mesh.faces[40]].mean(0) + torch.tensor([0.0, 0.0, -0.01]).double()
    by_position = Handle(position=tuple(target.tolist()), translate=(0.0, 0.0, -1.0))
    by_face = Handle(face=40, translate=(0.0, 0.0, -1.0))
    one, two = (
        apply(Session(handles=(h,)), mesh, waves(mesh.vertices)) for h in (by_position, by_face)
    )
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_overlaps_are_named(capsys: pytest.CaptureFixture) -> None:
    mesh = grid(4, 4)
    looks = waves(mesh.vertices)
    move = (0.0, 0.0, 1.0)
    pair = (Handle(vertex=3, translate=move), Handle(region=(3, 7), translate=move))
    apply(Session(handles=pair), mesh, looks)
    assert "handles[0] and handles[1] have 1 vertices in common" in capsys.readouterr().err
    pinned = Session(handles=pair[1:], anchors=(Anchor(vertex=9), Anchor(vertex=7)))
    assert apply(pinned, mesh, looks)[7, 2] == 0
    assert "handles[0] and anchors[1] have 1 vertices" in capsys.readouterr().err
    for method in ("cardinal", "published"):
        held = Session(method=method, handles=pair[:1], anchors=(Anchor(region=(3, 4)),))
        with pytest.raises(InputError, match=r"anchors\[0\] holds all of handles\[0\]"):
            apply(held, mesh, looks)


def test_positions_off_the_surface_are_said_and_far_ones_refused(
    capsys: pytest.CaptureFixture,
) -> None:
    mesh = grid(4, 4)
    session = Session(handles=(Handle(position=(0.5, 0.5, 0.5), translate=(0.0, 0.0, 1.0)),))
    apply(session, mesh, waves(mesh.vertices))
    assert "handles[0]: the surface is 0.354 of its diagonal away" in capsys.readouterr().err


def test_a_session_of_another_mesh_is_refused() -> None:
    mesh = grid(4, 4)
    session = Session(mesh=mesh_digest(mesh), handles=(Handle(vertex=3),))
    apply(session, mesh, waves(mesh.vertices))
    bumped, flipped = mesh.vertices.clone(), mesh.faces.clone()
    bumped[5, 2] += 1e-9
    flipped[0] = flipped[0].flip(0)
    for other in (Mesh(bumped, mesh.faces), Mesh(mesh.vertices, flipped)):
        with pytest.raises(InputError, match="session is for the mesh"):
            apply(session, other, waves(mesh.vertices))


@pytest.mark.parametrize(
    "session, message",
    [
        (
            Session(handles=(Handle(vertex=0), Handle(vertex=16))),
            r"handles\[1\]: vertex 16 is not of the mesh, whose",
        ),
        (Session(handles=(Handle(face=99),)), r"handles\[0\]: face 99"),
        (
            Session(handles=(Handle(vertex=0),), anchors=(Anchor(region=(3, 40)),)),
            r"anchors\[0\]: vertex 40",
        ),
        (Session(handles=(Handle(region=(40, 3, 41)),)), r"vertices \[40, 41\] are .* 0 to 15"),
        (Session(handles=(Handle(),)), r"handles\[0\]: one of vertex"),
        (Session(handles=(Handle(position=(0, 0, 2.0)),)), r"handles\[0\]: the surface is 1.41"),
        (Session(handles=(Handle(vertex=0, translate=(0, 1e300, 0)),)), r"handles\[0\].translate"),
        (Session(handles=(Handle(vertex=0, pivot=(1e9, 0, 0)),)), r"handles\[0\].pivot is 7.07e"),
    ],
)
def test_places_that_the_mesh_lacks(session: Session, message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply(session, grid(4, 4), waves(grid(4, 4).vertices))


# Files


@pytest.mark.parametrize("name", ["edit.json", "edit.yaml"])
def test_files_read_back_what_was_written(tmp_path: Path, name: str) -> None:
    for session in (FULL, Session()):
        save_session(tmp_path / name, session)
        assert load_session(tmp_path / name) == session
    assert session_from_dict(session_to_dict(FULL)) == FULL
    assert session_to_dict(FULL)["anchors"] == [{"vertex": 9}, {"position": [0.0, 1.0, 2.0]}]


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_large_regions_are_a_line_of_the_file(tmp_path: Path, ending: str) -> None:
    large = tuple(range(0, 300_000, 75))
    session = Session(
        handles=(Handle(region=large, translate=(1e-9, 0.0, 1e20)), Handle(region=large[::-1])),
        anchors=(Anchor(region=(4, 0, 9)), Anchor(region=large[5:])),
    )
    path = tmp_path / f"edit.{ending}"
    save_session(path, session)
    assert load_session(path) == session
    text = path.read_text()
    assert len(text.splitlines()) < 40
    # as any reader of the format has it
    plain = json.loads(text) if ending == "json" else yaml.safe_load(text)
    assert plain["anchors"] == session_to_dict(session)["anchors"]
    assert plain["handles"][0]["region"] == list(large)


def test_long_regions_that_others_write_are_read_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / "edit.yaml"
    numbers = ", ".join(map(str, range(500)))
    for region, wanted in ((f"[{numbers}, 010]", 8), (f"[{numbers},  7,]", 7)):
        path.write_text(f"handles:\n- region: {region}\n  scale: 2\n")
        assert load_session(path).handles == (Handle(region=(*range(500), wanted), scale=2.0),)
    path.write_text(f"handles:\n- region: [{numbers}]\n  region: [1]\n")
    with pytest.raises(InputError, match=r"key 'region' is repeated \(line 3\)"):
        load_session(path)
    path.write_text(f"anchors:\n- region: [{numbers}, , 2]\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load_session(path)


def test_a_file_as_a_person_writes_it(tmp_path: Path) -> None:
    (tmp_path / "edits.yaml").write_text(
        "handles:\n- vertex: 12\n  translate: [0, 0, 1e-1]\n- position: [1, 2, 3]\n  scale: 2\n"
    )
    assert load_session(tmp_path / "edits.yaml") == Session(
        handles=(
            Handle(vertex=12, translate=(0.0, 0.0, 0.1)),
            Handle(position=(1.0, 2.0, 3.0), scale=2.0),
        )
    )


BAD = [
    ({"handles": [{"vertex": 1}, {"vertex": 2}, {"vertex": 3, "rotate": [1, 2]}]},
     "'handles[2].rotate' must have 3 values, got 2"),
    ({"handles": [{"vertex": 1, "rotat": [1, 2, 3]}]}, "did you mean 'rotate'"),
    ({"handles": [{"vertex": 1, "translate": [0, math.nan, 0]}]},
     "'handles[0].translate' must be finite"),
    ({"handles": [{"vertex": 1, "translate": [0, "x", 0]}]},
     "'handles[0].translate' must be a number"),
    ({"handles": [{"vertex": 1, "face": 2}]}, "position, got vertex and face"),
    ({"handles": [{"translate": [0, 0, 1]}]},
     "exactly one of vertex, face, region, position, got none"),
    ({"handles": [{"vertex": -1}]}, "'handles[0]' names the vertex -1"),
    ({"handles": [{"vertex": 1.5}]}, "'handles[0].vertex' must be an integer"),
    ({"handles": [{"region": []}]}, "'handles[0].region' must name at least one"),
    ({"handles": [{"vertex": 1, "barycentric": [1, 0, 0]}]},
     "'handles[0].barycentric' needs a face"),
    ({"handles": [{"face": 1, "barycentric": [1, 1, 0]}]},
     "'handles[0].barycentric' must be at least 0"),
    ({"handles": [{"vertex": 1, "rotate": [0, 0, 1], "quaternion": [1, 0, 0, 0]}]},
     "both rotate and quaternion"),
    ({"handles": [{"vertex": 1, "quaternion": [0, 0, 0, 0]}]},
     "'handles[0].quaternion' must not be zero"),
    ({"handles": [{"vertex": 1, "scale": 0}]}, "'handles[0].scale' must be positive"),
    ({"handles": [{"vertex": 1, "scale": [1, 1, 1e30]}]}, "'handles[0].scale' must lie between"),
    ({"handles": [{"vertex": 1, "rotate": [0, 1e30, 0]}]}, "'handles[0].rotate' must lie between"),
    ({"handles": [{"vertex": 1, "scale": "big"}]}, "'handles[0].scale' must be a number or"),
    ({"handles": [{"vertex": 1, "locality": -1}]}, "'handles[0].locality' must lie between"),
    ({"handles": [3]}, "'handles[0]' must be a mapping of keys, got 3"),
    ({"handles": {"vertex": 1}}, "'handles' must be a list"),
    ({"anchors": [{"vertex": 1, "translate": [0, 0, 1]}]}, "unknown key 'anchors[0].translate'"),
    ({"mirrors": [{}]}, "'mirrors[0].normal' is required"),
    ({"mirrors": [{"normal": [0, 0, 0]}]}, "'mirrors[0].normal' must not be zero"),
    ({"method": "publishd"}, "did you mean 'published'"),
    ({"radius": 0}, "'radius' must lie between"),
    ({"centring": 2}, "'centring' must lie between"),
    ({"rigidity": -1}, "'rigidity' must lie between"),
    ({"version": 2}, "'version' is 2, this geodistill reads 1"),
    ({"version": "one"}, "'version' must be an integer"),
    ({"handle": []}, "did you mean 'handles'"),
]  # fmt: skip


@pytest.mark.parametrize("data, message", BAD, ids=[message[:40] for _, message in BAD])
def test_bad_entries_are_named_in_one_line(tmp_path: Path, data: dict, message: str) -> None:
    path = tmp_path / "edit.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        load_session(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.json", b'{"handles": [}', "not valid JSON"),
        ("a.json", b"[1]", "must hold a JSON object"),
        ("a.json", b'{"radius": 1, "radius": 2}', "'radius' is repeated"),
        ("a.json", b"\xff\xfe\x00", "not UTF-8"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.yaml", b"handles: [", "not valid YAML"),
        ("a.yaml", b"- 1", "must hold a YAML mapping"),
        ("a.yaml", b"radius: .nan", "'radius' must be finite"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_session(tmp_path / name)


def test_a_missing_file_and_an_unwritable_one(tmp_path: Path) -> None:
    for name in ("none.json", "none.yaml"):
        with pytest.raises(InputError, match="cannot read"):
            load_session(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        save_session(tmp_path / "no" / "a.json", FULL)
