"""What the page is told of scenes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.cameras import Camera, look_at, orbit_cameras
from geodistill.geometry.mesh import Material
from geodistill.geometry.orientation import up_of
from geodistill.geometry.splats import covariances, rotation_matrices
from geodistill.render.viewable import FieldView
from geodistill.shade.viewable import MeshView, SplatView
from geodistill.viewer.scene import SceneDescription, describe
from tests.scenes import AnalyticField
from tests.viewer.viewing import mesh_view, point_view, some_splats, splat_view, textured_square

TYPES = {"float32": "<f4", "float16": "<f2", "uint32": "<u4", "uint8": "u1"}


def array(description: SceneDescription, name: str) -> np.ndarray:
    found = description.arrays[name]
    return np.frombuffer(found.data, TYPES[found.dtype]).reshape(found.shape)


@pytest.mark.parametrize(
    "scene, name",
    [
        (mesh_view, "a.glb"),
        (point_view, "a.ply"),
        (splat_view, "a.ply"),
        (lambda: FieldView(AnalyticField()), "a.safetensors"),
    ],
)
def test_manifests_are_plain_json_and_name_their_arrays(scene, name: str) -> None:
    description = describe(scene(), Path("folder") / name)
    manifest = json.loads(json.dumps(description.manifest(), allow_nan=False))
    assert manifest["name"] == name and manifest["version"] == 2
    assert all(low < high or low == high == 0 for low, high in zip(*box(manifest), strict=True))
    for blob in manifest["blobs"].values():
        found = description.by_digest()[blob["sha"]]
        assert len(found.data) == np.prod(blob["shape"]) * np.dtype(TYPES[blob["dtype"]]).itemsize


def box(manifest) -> tuple[list[float], list[float]]:
    return manifest["low"], manifest["high"]


def test_positions_far_from_the_origin_keep_their_digits() -> None:
    view = point_view()
    description = describe(view, Path("a.ply"))
    positions = array(description, "positions") + np.array(description.origin)
    assert np.abs(positions - view.points.positions.numpy()).max() < 1e-6
    assert (array(description, "colors") == view.points.colors.numpy()).all()
    assert description.radius == view.radius


def test_faces_are_in_runs_of_one_material() -> None:
    square = textured_square()
    mesh = dataclasses.replace(
        square,
        faces=torch.cat([square.faces, square.faces]),
        materials=(*square.materials, Material("plain", (0.1, 0.2, 0.3, 1.0))),
        face_material=torch.tensor([1, 0, -1, 1]),
    )
    description = describe(MeshView(mesh), Path("a.obj"))
    assert description.groups == ((0, 1, -1), (1, 1, 0), (2, 2, 1))
    assert array(description, "faces").tolist() == mesh.faces[[2, 1, 0, 3]].tolist()
    assert description.materials[0]["texture"] == "texture_0"
    assert description.materials[1] == {"color": [0.1, 0.2, 0.3, 1.0], "texture": None}
    assert (array(description, "texture_0") == mesh.materials[0].texture.numpy()).all()


def test_splats_are_what_they_were() -> None:
    splats = some_splats(degree=2)
    description = describe(SplatView(splats), Path("a.ply"))
    rotations = torch.from_numpy(array(description, "rotations").copy())
    axes = (
        rotation_matrices(rotations)
        * torch.from_numpy(array(description, "scales").copy())[:, None]
    )
    assert torch.allclose(axes @ axes.mT, covariances(splats), atol=1e-6)
    means = array(description, "means") + np.array(description.origin)
    assert np.abs(means - splats.means.numpy()).max() < 1e-6
    opacities = torch.sigmoid(splats.opacity_logits).numpy()
    assert np.abs(array(description, "opacities") - opacities).max() < 1e-6
    sh = array(description, "harmonics").reshape(len(splats), 9, 3)
    assert np.abs(sh - splats.sh.numpy()).max() < 2e-3


def test_a_splat_far_away_does_not_make_the_rest_small() -> None:
    splats = some_splats()
    splats.means[7] = torch.tensor([1e4, 0, 0])
    description = describe(SplatView(splats), Path("a.ply"))
    assert description.high[0] < 2 and len(array(description, "means")) == len(splats)


def test_the_box_of_a_field_is_that_of_what_it_holds() -> None:
    field = AnalyticField()
    field.world_from_field = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    description = describe(FieldView(field), Path("a.safetensors"))
    # The slab is 0.7 units of the cube to either side, the rod 0.6 upward.
    assert description.low[0] == pytest.approx(-1.4, abs=0.1)
    assert description.high[2] == pytest.approx(1.2, abs=0.1)


@pytest.mark.parametrize("name", ["field.safetensors", "other.safetensors"])
def test_what_a_run_made_has_the_name_of_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).touch()
    field = AnalyticField()
    assert describe(FieldView(field), tmp_path / "x" / name).name == name
    (tmp_path / "x" / "DONE").write_text("{}")
    own = name == "field.safetensors"
    assert describe(FieldView(field), tmp_path / "x" / name).name == ("x" if own else name)


def test_a_field_of_surroundings_is_first_seen_as_it_was_made() -> None:
    field = AnalyticField()
    field.contraction = "sphere"
    field.views = orbit_cameras(4, torch.zeros(3), 0.8, 0.2, 1.0, (30, 40))
    home = describe(FieldView(field), Path("a.safetensors")).home
    assert home is not None and home.eye == pytest.approx(field.views[0].centers.tolist())
    assert home.target == pytest.approx([0, 0, 0], abs=1e-6)
    assert home.fov_y == pytest.approx(2 * np.arctan(30 / 40 * np.tan(0.5)), abs=1e-6)


def upright(up: tuple[float, float, float]) -> Camera:
    eyes = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)).double() * 3
    K = torch.eye(3).double().expand(300, 3, 3)
    return Camera(K, look_at(eyes, torch.zeros(3), up), (8, 8))


@pytest.mark.parametrize(
    "kind, name, views, expected",
    [
        ("mesh", "a.glb", None, ((0, 1, 0), "file")),
        ("mesh", "a.stl", None, ((0, 0, 1), "guess")),
        ("mesh", "a.obj", None, ((0, 1, 0), "guess")),
        ("points", "a.ply", None, ((0, 0, 1), "guess")),
        ("splats", "a.ply", None, ((0, -1, 0), "guess")),
        ("field", "a.safetensors", None, ((0, 0, 1), "guess")),
        ("field", "a.safetensors", (0, 0, 1), ((0, 0, 1), "cameras")),
        ("field", "a.safetensors", (0, -1, 0), ((0, -1, 0), "cameras")),
    ],
)
def test_up(kind, name: str, views, expected) -> None:
    up = up_of(kind, Path(name), None if views is None else upright(views))
    assert (up.axis, up.source) == expected


def test_cameras_that_stand_askew_say_so() -> None:
    axis, source = up_of("field", Path("a"), upright((0.0, 1.0, 1.0)))
    assert source == "cameras" and axis[1] == pytest.approx(axis[2], abs=0.2) and axis[1] > 0.5


def test_a_chosen_axis_wins() -> None:
    description = describe(mesh_view(), Path("a.glb"), "-x")
    assert description.up == ((-1, 0, 0), "user")
