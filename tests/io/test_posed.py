"""The layouts of posed images: one scene, written four ways, is read alike."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geodistill.cameras import Similarity, orbit_cameras
from geodistill.checks import InputError, UsageError
from geodistill.io.camera_file import save_cameras
from geodistill.io.posed import load_camera_file, load_cameras, load_posed_images
from geodistill.rays import pixel_rays, project
from tests.io.layouts import (
    NAMES,
    SIZE,
    VIEWS,
    Scene,
    colour,
    expected_rays,
    photograph,
    scene,
    transforms_table,
    write_blender,
    write_colmap_binary,
    write_colmap_text,
    write_images,
    write_nerfstudio,
)

Writer = Callable[[Path, Scene], None]
WRITERS: dict[str, Writer] = {
    "blender": write_blender,
    "nerfstudio": write_nerfstudio,
    "colmap_text": write_colmap_text,
    "colmap_binary": write_colmap_binary,
}
TEST_VIEWS = [0, 8]
TRAIN_VIEWS = [view for view in range(VIEWS) if view % 8]


def view_of(name: str) -> int:
    return int(name[-6:-4]) if name.endswith(".png") else int(name[-2:])


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("layout", "lens"),
    [(layout, "shared") for layout in WRITERS]
    + [(layout, lens) for layout in [*WRITERS][1:] for lens in ("own", "distorted")],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
def test_every_layout_gives_the_same_rays(
    tmp_path: Path, layout: str, lens: str, dtype: torch.dtype, tolerance: float
) -> None:
    made = scene(lens)
    WRITERS[layout](tmp_path, made)
    loaded = load_cameras(tmp_path, "all", dtype)
    assert sorted(view_of(name) for name in loaded.names) == [*range(VIEWS)]
    assert loaded.cameras.size == SIZE and loaded.cameras.dtype == dtype
    assert (loaded.cameras.distortion is not None) == (lens == "distorted")
    for camera, name in zip(loaded.cameras, loaded.names, strict=True):
        pixels, origin, directions = expected_rays(made, view_of(name))
        rays = pixel_rays(camera.to(dtype=torch.float64), torch.from_numpy(pixels))
        torch.testing.assert_close(
            rays.directions, torch.from_numpy(directions), atol=tolerance, rtol=0
        )
        torch.testing.assert_close(
            rays.origins[0], torch.from_numpy(origin), atol=4 * tolerance, rtol=0
        )


@pytest.mark.parametrize("layout", WRITERS)
def test_pictures_belong_to_their_cameras(tmp_path: Path, layout: str) -> None:
    """Each place of the plane shows its colour where the camera puts it: no axis is flipped."""
    made = scene()
    WRITERS[layout](tmp_path, made)
    for split, views in (("train", TRAIN_VIEWS), ("test", TEST_VIEWS)):
        data = load_posed_images(tmp_path, split)
        assert [view_of(name) for name in data.names] == views
        assert data.images.dtype == torch.uint8 and data.images.shape == (len(views), *SIZE, 3)
        assert not data.has_alpha and data.color_space == "srgb"
        places = torch.rand(300, 3, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
        places[:, 2] = 0
        expected = torch.from_numpy(colour(places[:, 0].numpy(), places[:, 1].numpy()))
        for camera, image in zip(data.cameras, data.images, strict=True):
            xy, _ = project(camera, places)
            seen = ((xy >= 0) & (xy < torch.tensor([SIZE[1], SIZE[0]]))).all(-1)
            assert seen.sum() > 100
            x, y = xy[seen].long().unbind(-1)
            error = (data.composite(image[y, x], 0.0) - expected[seen]).abs()
            assert error.max() < 0.05, "half a pixel of this scene is below 0.05"


@pytest.mark.parametrize("place", ["sparse", ".", "colmap/sparse/0"])
@pytest.mark.parametrize("writer", [write_colmap_text, write_colmap_binary])
def test_colmap_models_are_found_in_their_places(tmp_path: Path, place: str, writer) -> None:
    writer(tmp_path, scene(), place)
    assert len(load_posed_images(tmp_path, "all").names) == VIEWS
    assert load_cameras(tmp_path).metadata == {"layout": "colmap", "model": place}


def test_a_colmap_model_given_by_itself_finds_its_images(tmp_path: Path) -> None:
    write_colmap_binary(tmp_path, scene())
    assert load_posed_images(tmp_path / "sparse" / "0", "test").names == (NAMES[0], NAMES[8])


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL"])
def test_colmap_camera_models(tmp_path: Path, model: str) -> None:
    made = scene("distorted")
    kept = {"SIMPLE_PINHOLE": 0, "PINHOLE": 0, "SIMPLE_RADIAL": 1, "RADIAL": 2}[model]
    made.intrinsics[:, 4 + kept :] = 0
    if model != "PINHOLE":
        made.intrinsics[:, 1] = made.intrinsics[:, 0]
    for writer in (write_colmap_text, write_colmap_binary):
        folder = tmp_path / writer.__name__
        writer(folder, made, model=model)
        cameras = load_cameras(folder, "all", torch.float64).cameras
        assert (cameras.distortion is not None) == (kept > 0)
        pixels, _, directions = expected_rays(made, 3)
        found = pixel_rays(cameras[3], torch.from_numpy(pixels)).directions
        torch.testing.assert_close(found, torch.from_numpy(directions), atol=1e-9, rtol=0)


def test_an_applied_transform_is_undone(tmp_path: Path) -> None:
    """nerfstudio swaps axes and notes it: cameras come back to the reconstruction's frame."""
    made = scene("own")
    write_nerfstudio(tmp_path / "plain", made)
    swap = np.array([[1.0, 0, 0, 0.3], [0, 0, 1, -0.2], [0, -1, 0, 0.1], [0, 0, 0, 1]])
    moved = Scene(swap @ made.opengl, made.intrinsics)
    moved.opengl[:, :3, 3] *= 0.4
    write_nerfstudio(tmp_path / "moved", moved)
    edit_json(
        tmp_path / "moved" / "transforms.json",
        applied_transform=swap[:3].tolist(),
        applied_scale=0.4,
    )
    plain = load_cameras(tmp_path / "plain", dtype=torch.float64)
    loaded = load_cameras(tmp_path / "moved", dtype=torch.float64)
    torch.testing.assert_close(loaded.cameras.world_from_cam, plain.cameras.world_from_cam)
    torch.testing.assert_close(loaded.cameras.K, plain.cameras.K)
    assert loaded.metadata["applied_scale"] == 0.4
    assert loaded.metadata["applied_transform"] == swap[:3].tolist()


def test_ngp_cube_keys_are_metadata_only(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, scene())
    metadata = load_cameras(tmp_path).metadata
    assert (metadata["aabb_scale"], metadata["scale"], metadata["offset"]) == (16, 0.1, [0.5] * 3)


def test_angles_of_view_and_defaults_of_ngp(tmp_path: Path) -> None:
    table = transforms_table(scene())
    table = {k: v for k, v in table.items() if k != "camera_model"} | {"camera_angle_x": 0.9}
    for frame in table["frames"]:
        for key in ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"):
            del frame[key]
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps(table))
    focal = 0.5 * SIZE[1] / np.tan(0.45)
    K = load_cameras(tmp_path).cameras.K[0]
    torch.testing.assert_close(K, torch.tensor([[focal, 0, 16], [0, focal, 12], [0, 0, 1]]).float())
    edit_json(path, camera_angle_y=0.5, cx=3.0)
    K = load_cameras(tmp_path).cameras.K[0]
    assert K[1, 1].item() == pytest.approx(0.5 * SIZE[0] / np.tan(0.25)) and K[0, 2] == 3


@pytest.mark.parametrize("layout", ["nerfstudio", "colmap_text", "colmap_binary"])
def test_cameras_are_read_without_pictures(tmp_path: Path, layout: str) -> None:
    WRITERS[layout](tmp_path, scene())
    shutil.rmtree(tmp_path / "images")
    assert len(load_cameras(tmp_path, "train").cameras) == len(TRAIN_VIEWS)


def test_blender_sizes_come_from_a_header(tmp_path: Path) -> None:
    write_blender(tmp_path, scene())
    for file in (tmp_path / "train").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    assert load_cameras(tmp_path).cameras.size == SIZE
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match=r"states no w and h.*view_01.png does not exist"):
        load_cameras(tmp_path)


def test_explicit_file_lists_decide_the_split(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, scene())
    path = tmp_path / "transforms.json"
    lists = {
        "train_filenames": [f"./images/{name}" for name in NAMES[4:]],
        "val_filenames": [f"images/{name}" for name in NAMES[:2]],
    }
    edit_json(path, **lists)
    assert load_cameras(tmp_path, "val").names == ("images/view_00.png", "images/view_01.png")
    assert len(load_cameras(path, "train").names) == 12
    assert len(load_cameras(tmp_path, "all").names) == VIEWS
    assert load_cameras(tmp_path, "test").names == load_cameras(tmp_path, "val").names
    table = json.loads(path.read_text())
    del table["train_filenames"]
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match="lists no train_filenames, it lists val"):
        load_cameras(tmp_path, "train")
    edit_json(path, val_filenames=["images/none.png"])
    with pytest.raises(InputError, match=r"lists 1 files that no frame has.*images/none\.png"):
        load_cameras(tmp_path, "val")
    edit_json(path, val_filenames="images")
    with pytest.raises(InputError, match="val_filenames is not a list"):
        load_cameras(tmp_path, "val")


def test_file_names_decide_the_split_when_all_say_so(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, scene())
    path = tmp_path / "transforms.json"
    table = json.loads(path.read_text())
    for index, frame in enumerate(table["frames"]):
        frame["file_path"] = f"images/frame_{'eval' if index < 3 else 'train'}_{index:04d}.png"
    path.write_text(json.dumps(table))
    assert len(load_cameras(tmp_path, "train").names) == VIEWS - 3
    assert load_cameras(tmp_path, "val").names == load_cameras(tmp_path, "test").names
    assert load_cameras(tmp_path, "val").names[0] == "images/frame_eval_0000.png"
    table["frames"][5]["file_path"] = "images/other.png"
    path.write_text(json.dumps(table))
    assert len(load_cameras(tmp_path, "test").names) == 2, "one name says nothing: every eighth"


def test_splits_are_checked(tmp_path: Path) -> None:
    write_blender(tmp_path, scene())
    with pytest.raises(UsageError, match=r"unknown split 'trian' \(did you mean 'train'\?\)"):
        load_cameras(tmp_path, "trian")
    with pytest.raises(InputError, match=r"no transforms_val.json, it has the splits train, test"):
        load_cameras(tmp_path, "val")
    with pytest.raises(InputError, match="is one split of a data set: give its folder"):
        load_cameras(tmp_path / "transforms_test.json")
    write_nerfstudio(tmp_path / "one", scene())
    path = tmp_path / "one" / "transforms.json"
    edit_json(path, frames=json.loads(path.read_text())["frames"][:1])
    with pytest.raises(
        InputError, match=r"split 'train' is empty .1 frames in all.: use the split"
    ):
        load_cameras(path)


def test_names_with_backslashes_spaces_and_links(tmp_path: Path) -> None:
    made = scene()
    write_images(tmp_path / "elsewhere", made)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my pictures").symlink_to(tmp_path / "elsewhere")
    table = transforms_table(made)
    for frame in table["frames"]:
        frame["file_path"] = "my pictures\\" + frame["file_path"].removeprefix("images/")
    (tmp_path / "data" / "transforms.json").write_text(json.dumps(table))
    images = load_posed_images(tmp_path / "data", "all").images
    assert np.array_equal(images[3].numpy(), photograph(made, 3))
    write_colmap_text(tmp_path / "data2", made)
    images_txt = tmp_path / "data2" / "sparse/0/images.txt"
    images_txt.write_text(images_txt.read_text().replace("view_03", "a view 03"))
    (tmp_path / "data2/images/view_03.png").rename(tmp_path / "data2/images/a view 03.png")
    assert load_posed_images(tmp_path / "data2", "all").names[0] == "a view 03.png"


def test_masks_become_alpha(tmp_path: Path) -> None:
    made = scene()
    write_nerfstudio(tmp_path, made)
    path = tmp_path / "transforms.json"
    table = json.loads(path.read_text())
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :10] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask // 255).save(tmp_path / "ones.png")
    first, second = table["frames"][:2]
    first["mask_path"], second["mask_path"] = "mask.png", "ones.png"
    soft = np.dstack([photograph(made, view_of(second["file_path"])), np.full(SIZE, 100, np.uint8)])
    Image.fromarray(soft).save(tmp_path / second["file_path"])
    path.write_text(json.dumps(table))
    data = load_posed_images(tmp_path, "all")
    assert data.has_alpha and not data.premultiplied
    by_name = dict(zip(data.names, data.images.numpy(), strict=True))
    assert np.array_equal(by_name[first["file_path"]][..., 3], mask)
    assert np.array_equal(by_name[second["file_path"]][..., 3], mask // 255 * 100)
    assert (by_name[table["frames"][2]["file_path"]][..., 3] == 255).all()
    over_white = data.composite(data.images, 1.0)
    assert over_white.shape == (VIEWS, *SIZE, 3) and (over_white[-1, :, 10:] == 1).all()
    Image.fromarray(mask[1:]).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask .*mask.png is 32x23 but its image is 32x24"):
        load_posed_images(tmp_path, "all")
    (tmp_path / "mask.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 masks named in .*transforms.json are missing"):
        load_posed_images(tmp_path, "all")


def test_camera_files_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "path.json"
    orbit = orbit_cameras(5, (0.1, 0.2, 0.3), 3.0, 0.3, 0.8, (20, 30))
    save_cameras(path, orbit, [f"frame {i}" for i in (4, 3, 2, 1, 0)])
    again = load_camera_file(path)
    assert again.names == ("frame 4", "frame 3", "frame 2", "frame 1", "frame 0")
    assert again.cameras.size == (20, 30) and again.cameras.distortion is None
    torch.testing.assert_close(again.cameras.K, orbit.K, atol=0, rtol=0)
    torch.testing.assert_close(again.cameras.world_from_cam, orbit.world_from_cam)
    table = json.loads(path.read_text())
    assert "fl_x" in table and "fl_x" not in table["frames"][0], "what is shared stands once"
    save_cameras(path, orbit[2])
    assert load_camera_file(path).names == ("00000",)
    save_cameras(path, orbit[:1], ["y" * 300])
    assert load_camera_file(path).names == ("y" * 300,), "no picture need bear the name"


def test_camera_files_keep_each_lens(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, scene("distorted"))
    before = load_cameras(tmp_path, "all", torch.float64)
    save_cameras(tmp_path / "again.json", before.cameras, before.names)
    after = load_camera_file(tmp_path / "again.json", torch.float64)
    assert after.names == before.names
    for name in ("K", "world_from_cam", "distortion"):
        torch.testing.assert_close(getattr(after.cameras, name), getattr(before.cameras, name))


def test_cameras_that_a_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    cameras = orbit_cameras(3, (0.0, 0.0, 0.0), 1.0, 0.3, 0.8, (20, 30))
    with pytest.raises(UsageError, match="3 cameras need as many names, got 1"):
        save_cameras(tmp_path / "x.json", cameras, ["one"])
    K = cameras.K.clone()
    K[1, 0, 1] = 0.5
    with pytest.raises(UsageError, match="skew"):
        save_cameras(tmp_path / "x.json", type(cameras)(K, cameras.world_from_cam, (20, 30)))
    K[1, 0, 1] = torch.nan
    with pytest.raises(InputError, match="K holds 1 NaN"):
        save_cameras(tmp_path / "x.json", type(cameras)(K, cameras.world_from_cam, (20, 30)))
    assert not (tmp_path / "x.json").exists()


def test_a_camera_file_lands_in_a_moved_frame(tmp_path: Path) -> None:
    """Saving what a similarity moved and moving it back is the identity."""
    turn = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]], dtype=torch.float64)
    similarity = Similarity(turn, torch.tensor([1.0, 2, 3]).double(), 2.5)
    cameras = orbit_cameras(4, (0.0, 0.0, 0.0), 1.0, 0.3, 0.8, (20, 30)).to(dtype=torch.float64)
    save_cameras(tmp_path / "moved.json", similarity.apply_camera(cameras))
    back = similarity.inverse().apply_camera(
        load_camera_file(tmp_path / "moved.json", torch.float64).cameras
    )
    torch.testing.assert_close(back.world_from_cam, cameras.world_from_cam, atol=1e-6, rtol=0)


def test_loading_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_nerfstudio(tmp_path, scene())
    load_posed_images(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_hundred_pictures_are_loaded_in_threads(tmp_path: Path) -> None:
    """Every picture of many lands in its own place, whichever thread decodes it."""
    table = transforms_table(scene())
    frames = [{**table["frames"][0], "file_path": "big.png"} for _ in range(100)]
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 4), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "big.png")
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({**table, "w": 200, "h": 200, "frames": frames}))
    data = load_posed_images(path, "all")
    assert data.images.shape == (100, 200, 200, 4)
    assert all(np.array_equal(image, noise) for image in data.images.numpy())


def test_a_real_colmap_model() -> None:
    """Points of kapture's sample maupertuis (four photos) project to where they were observed."""
    cache = Path(os.environ.get("GEODISTILL_CACHE", "~/.cache/geodistill")).expanduser()
    root = cache / "assets/kapture-1.1.12/samples/maupertuis/colmap/reconstruction"
    if not root.is_dir():
        pytest.skip(f"the samples of kapture 1.1.12 are not in {cache}/assets")
    data = load_posed_images(root, "all")
    assert data.names == ("00.jpg", "01.jpg", "02.jpg", "03.jpg")
    assert data.images.shape == (4, 1079, 1919, 3)
    rows = [
        line.split() for line in (root / "points3D.txt").read_text().splitlines() if line[0] != "#"
    ]
    points = {row[0]: [float(value) for value in row[1:4]] for row in rows}
    lines = [
        line for line in (root / "images.txt").read_text().splitlines() if not line.startswith("#")
    ]
    for head, body in zip(lines[::2], lines[1::2], strict=True):
        triples = np.array(body.split()).reshape(-1, 3)
        triples = triples[triples[:, 2] != "-1"]
        world = torch.tensor([points[identity] for identity in triples[:, 2]])
        xy, _ = project(data.cameras[data.names.index(head.split()[-1])], world)
        error = (xy - torch.from_numpy(triples[:, :2].astype(np.float32))).norm(dim=-1)
        assert len(error) > 100 and error.median() < 1.0
