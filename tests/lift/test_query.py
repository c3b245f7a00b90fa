"""Questions to features: with features that are known, the answers are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import GeodistillError
from geodistill.cli import main
from geodistill.geometry.mesh_files import load_mesh, load_mesh_with_attributes, save_mesh
from geodistill.geometry.points import load_points
from geodistill.geometry.splats import load_splats, load_splats_with_attributes
from geodistill.lift.files import Basis, FeatureSet, save_features
from geodistill.lift.query import centred, clusters, likest, masked, threshold
from geodistill.lift.scenes import MeshScene, Scene
from geodistill.lift.sheet import heat_paint, label_colors, label_paint, sheet
from geodistill.runs import load_tensors
from tests.lift.test_lift_scenes import MAKERS, ball_mesh, cameras


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def test_reduced_features_have_the_cosines_of_the_full_ones() -> None:
    axes = torch.linalg.qr(random(12, 12))[0][:, :5]
    basis = Basis(3.0 * random(12, seed=1), axes)
    reduced = random(20, 5, seed=2)
    found = FeatureSet(reduced, torch.ones(20).bool(), "mesh", "d", "t", "f", basis)
    restored = F.normalize(basis.restore(reduced), dim=1)
    directions = found.directions()
    torch.testing.assert_close(directions @ directions.T, restored @ restored.T)
    asked = random(3, 12, seed=3)
    wanted = restored @ F.normalize(asked, dim=1).T
    torch.testing.assert_close(directions @ found.directions_like(asked).T, wanted)


def test_centring_takes_the_mean_and_leaves_what_is_unknown() -> None:
    known = F.normalize(random(50, 4) + 2.0, dim=1)
    directions = torch.cat([known, torch.zeros(2, 4)])
    torch.testing.assert_close(centred(directions, 0.0), directions)
    wanted = F.normalize(known - known.mean(0), dim=1)
    torch.testing.assert_close(centred(directions, 1.0), torch.cat([wanted, torch.zeros(2, 4)]))
    with pytest.raises(GeodistillError, match="between 0 and 1"):
        centred(directions, 1.5)


def test_the_threshold_parts_two_heaps() -> None:
    values = torch.cat([0.1 * random(300), 0.1 * random(100, seed=1) + 3.0])
    assert 0.3 < threshold(values) < 2.7
    assert threshold(torch.full((7,), 0.5)) == 0.5


def test_clusters_are_the_heaps_largest_first() -> None:
    centres = F.normalize(random(3, 8, seed=5), dim=1)
    truth = torch.tensor([0] * 30 + [1] * 60 + [2] * 10)
    directions = F.normalize(centres[truth] + 0.05 * random(100, 8), dim=1)
    labels = clusters(directions, 3)
    assert labels.tolist() == [1] * 30 + [0] * 60 + [2] * 10
    assert torch.equal(labels, clusters(directions, 3))
    for count in (1, 101):
        with pytest.raises(GeodistillError, match="clusters must be from 2"):
            clusters(directions, count)


def test_a_sentence_near_everything_does_not_win_everywhere() -> None:
    near_all, near_some = torch.tensor([0.8, 0.81, 0.8, 0.83]), torch.tensor([0.1, 0.3, 0.1, 0.1])
    assert likest(torch.stack([near_all, near_some], 1)).tolist()[1::2] == [1, 0]


def test_masks_reach_their_threshold() -> None:
    similarity = random(40, 2)
    answer = masked(similarity, 0.25)
    assert answer.mask is not None and answer.label is not None
    assert torch.equal(answer.mask, similarity >= 0.25) and answer.threshold == (0.25, 0.25)
    heat = answer.heat()
    assert heat.amax() == 1 and float((heat == 0).float().mean()) >= 0.5
    assert masked(similarity[:, :1]).label is None


def test_heat_runs_from_nothing_to_dark_red() -> None:
    paint = heat_paint(torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0]))
    assert paint.cover.tolist() == [0, 0, 0.5, 1, 1]
    brightness = paint.colors.sum(1)
    assert bool((brightness.diff() <= 0).all())
    torch.testing.assert_close(paint.over_grey()[0], torch.full((3,), 0.6), atol=0.2, rtol=0)


def test_labels_have_colours_of_their_own() -> None:
    colors = label_colors(12)
    apart = torch.cdist(colors, colors) + 9 * torch.eye(12)
    assert float(apart.min()) > 0.1
    assert torch.equal(label_paint(torch.tensor([2, 0])).colors, colors[[2, 0]])
    bare = label_paint(torch.tensor([2, 0]), torch.tensor([True, False]))
    assert bare.cover[0] > 0 and bare.cover[1] == 0


@pytest.fixture(scope="module", params=MAKERS)
def scene(request: pytest.FixtureRequest) -> Scene:
    return MAKERS[request.param]()


def test_a_place_is_found_where_it_is(scene: Scene) -> None:
    wanted = scene.positions[len(scene.positions) // 3].double()
    spot = scene.at(wanted + 1e-5)
    place = spot.weights @ scene.positions[spot.index].double()
    assert spot.distance < 1e-4 and float((place - wanted).norm()) < 1e-4
    torch.testing.assert_close(float(spot.weights.sum()), 1.0)


def test_a_picture_shows_paint_where_elements_carry_it(scene: Scene) -> None:
    upper = (scene.positions[:, 1] > scene.positions[:, 1].mean()).float()
    size = 40
    shown = sheet(scene, cameras(scene, 2), [heat_paint(upper), label_paint(upper.long())])
    assert shown.shape == (3 * size, 2 * size, 3)
    redness = shown[..., 0] - shown[..., 2]
    heat = redness[size : 2 * size, :size]
    assert float(heat.max()) > 0.3 and float((heat > 0.3).float().mean()) > 0.1
    assert torch.equal(shown[size, 0], torch.ones(3))


def test_exports_hold_colours_and_columns(scene: Scene, tmp_path: Path) -> None:
    colors = torch.rand(len(scene.positions), 3, generator=torch.Generator().manual_seed(0))
    values = random(len(scene.positions))
    path = tmp_path / "x.ply"
    scene.save(path, {"likeness": values}, colors)
    if scene.kind == "mesh":
        read, shown = load_mesh_with_attributes(path)[1]["likeness"], load_mesh(path).colors
    elif scene.kind == "splats":
        read, shown = load_splats_with_attributes(path)[1]["likeness"], None
        sh = load_splats(path).sh
        assert sh.shape[1] == 1
        torch.testing.assert_close(sh[:, 0] * 0.28209479 + 0.5, colors, atol=1e-5, rtol=0)
    else:
        points = load_points(path)
        read, shown = points.attributes["likeness"], points.colors
    torch.testing.assert_close(read.float(), values)
    if shown is not None:
        torch.testing.assert_close(shown[:, :3].float() / 255, colors, atol=2e-3, rtol=0)


def halves(positions: Tensor) -> Tensor:
    """Features that tell above from below."""
    above = (positions[:, 1] > 0).float()
    return torch.stack([1 + above, 2 - above, torch.ones_like(above)], 1)


@pytest.fixture
def ball(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    mesh = ball_mesh()
    save_mesh(tmp_path / "ball.glb", mesh)
    kept = MeshScene(load_mesh(tmp_path / "ball.glb"))
    found = FeatureSet(
        halves(kept.positions).float(),
        torch.ones(len(kept.positions)).bool(),
        "mesh",
        kept.digest,
        "colors",
        "feed",
        source=tmp_path / "ball.glb",
    )
    save_features(tmp_path / "ball.safetensors", found)
    return tmp_path / "ball.safetensors"


def ask(ball: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    command = ["query", str(ball), "--resolution", "48", "--json", *arguments]
    assert main(command) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_click_finds_its_half(ball: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, export = ball.with_name("answer.safetensors"), ball.with_name("heat.glb")
    said = ask(ball, capsys, "--click", "-0.1,0.9,0", "-o", str(out), "--export", str(export))
    assert said["output"] == str(out) and Path(str(said["sheet"])).is_file()
    tensors, metadata = load_tensors(out)
    mesh = load_mesh(ball.with_suffix(".glb"))
    above = mesh.vertices[:, 1] > 0
    assert torch.equal(tensors["mask"].bool()[:, 0], above) and metadata["geometry"] == "mesh"
    torch.testing.assert_close(tensors["similarity"][above], torch.ones(int(above.sum()), 1))
    attributes = load_mesh_with_attributes(export)[1]
    assert torch.equal(attributes["mask"].bool(), above)
    colors = load_mesh(export).colors
    assert colors is not None
    assert len(colors[above].unique(dim=0)) == 1 and len(colors.unique(dim=0)) == 2


def test_two_clicks_share_the_shape_out(ball: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(ball, capsys, "--click", "0,1,0", "--click", "0,-1,0")
    label = load_tensors(str(said["output"]))[0]["label"]
    mesh = load_mesh(ball.with_suffix(".glb"))
    assert torch.equal(label == 0, mesh.vertices[:, 1] > 0)
    assert said["distance"] == pytest.approx([0, 0], abs=0.01)


def test_clusters_are_the_halves(ball: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(ball, capsys, "--clusters", "2")
    label = load_tensors(str(said["output"]))[0]["label"]
    above = load_mesh(ball.with_suffix(".glb")).vertices[:, 1] > 0
    assert torch.equal(label == label[above][0], above)
    assert said["sizes"] == sorted((int(above.sum()), int((~above).sum())), reverse=True)


def test_features_and_geometry_may_move_together(
    ball: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ball.parent.parent / f"{ball.parent.name} moved"
    ball.parent.rename(there)
    said = ask(there / ball.name, capsys, "--clusters", "2", "-o", str(there / "a.safetensors"))
    assert Path(str(said["sheet"])).is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give one of --click, --text and --clusters"),
        (["--click", "0,0,0", "--clusters", "2"], 2, "give one of"),
        (["--click", "0,0"], 2, "--click takes a place as X,Y,Z, got '0,0'"),
        (["--click", "0,nan,0"], 2, "three finite numbers"),
        (["--click", "1e6,0,0"], 1, "is the place in its frame and unit?"),
        (["--clusters", "1"], 2, "clusters must be from 2"),
        (["--clusters", "2", "--centring", "2"], 2, "centring must lie between 0 and 1"),
        (["--clusters", "2", "--threshold", "0.5"], 2, "--threshold is for masks"),
        (["--click", "0,0,0", "--threshold", "2"], 2, "--threshold must lie between"),
        (["--click", "0,0,0", "--teacher", "x"], 2, "--teacher is for --text"),
        (["--text", "a cup"], 2, "unknown teacher 'colors'"),
        (["--clusters", "2", "--geometry", "no.glb"], 1, "no.glb"),
        (["--clusters", "2", "--geometry", "other.glb"], 1, "lift onto"),
        (["--clusters", "2", "-o", "x.txt"], 2, "NAME.safetensors"),
        (["--clusters", "2", "--export", "x.blend"], 2, "x.blend"),
        (["--clusters", "2", "--export", "ball.glb", "--overwrite"], 2, "ball.glb is read from"),
    ],
)
def test_bad_questions(
    ball: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    mesh = ball_mesh()
    save_mesh("other.glb", replace(mesh, vertices=mesh.vertices * 1.5))
    before = sorted(path.name for path in ball.parent.iterdir())
    assert main(["query", str(ball), *arguments]) == code
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in ball.parent.iterdir()) == before


def test_a_lost_geometry_is_named(ball: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ball.with_suffix(".glb").unlink()
    assert main(["query", str(ball), "--clusters", "2"]) == 1
    said = capsys.readouterr().err
    assert "the geometry is missing" in said and "give --geometry FILE" in said
