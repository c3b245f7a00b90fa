"""Each kind of scene in a real browser, held against geodistill's own renderers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from geodistill.geometry.fields import load_field
from geodistill.geometry.mesh_files import save_mesh
from geodistill.geometry.points import save_points
from geodistill.geometry.splats import Splats, save_splats
from geodistill.render.fields import render_view
from geodistill.render.splats import render_splats
from geodistill.shade.viewable import MeshView, PointView
from tests.browser.browsing import LOSE, camera, look, picture, psnr_db, serving, show
from tests.viewer.viewing import some_points, some_splats, textured_square

if TYPE_CHECKING:
    from playwright.sync_api import Page

BUNDLED = Path(__file__).parents[2] / "geodistill" / "assets" / "bundled_ngp.safetensors"
UP = [0.0, 0.0, 1.0]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_splats_are_those_of_our_renderer(page: Page, tmp_path: Path, degree: int) -> None:
    splats = some_splats(degree=degree, seed=degree)
    save_splats(tmp_path / "splats.ply", splats)
    with serving(tmp_path / "splats.ply", "z") as address:
        show(page, address)
        # From outside, from the other side, and from among them.
        for eye in ([0.6, -3.4, 0.9], [-2.5, 1.9, -1.1], [0.1, -0.2, 0.3]):
            look(page, eye, [0.2, 0.1, 0.0], UP)
            seen = render_splats(splats, camera(page, eye, [0.2, 0.1, 0.0], UP))
            ours = torch.cat([seen.image, seen.opacity[..., None]], dim=-1)
            got = picture(page)
            assert float((got[..., 3] > 0.1).float().mean()) > 0.05
            found = psnr_db(got, ours.clamp(0, 1))
            print(f"degree {degree}, from {eye}: {found:.1f} dB")
            assert found > 55


def test_specks_have_the_width_of_our_low_pass_filter(page: Page, tmp_path: Path) -> None:
    side = torch.linspace(-1, 1, 9)
    means = torch.cartesian_prod(side, torch.zeros(1), side)
    count = len(means)
    splats = Splats(
        means,
        torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4),
        torch.full((count, 3), -9.0),
        torch.full((count,), 2.0),
        torch.ones(count, 1, 3),
    )
    save_splats(tmp_path / "specks.ply", splats)
    with serving(tmp_path / "specks.ply", "z") as address:
        show(page, address)
        eye = [0.13, -3.6, 0.21]
        look(page, eye, [0.0, 0.0, 0.0], UP)
        seen = render_splats(splats, camera(page, eye, [0.0, 0.0, 0.0], UP))
        got = picture(page)[..., 3]
        assert float(got.max()) > 0.5
        assert float((got - seen.opacity).abs().max()) < 0.01


def test_a_textured_mesh_is_that_of_our_renderer(page: Page, tmp_path: Path) -> None:
    mesh = textured_square()
    save_mesh(tmp_path / "square.glb", mesh)
    with serving(tmp_path / "square.glb", "z") as address:
        show(page, address)
        facts = page.locator("#facts dd").all_text_contents()
        assert facts[:3] == ["2", "4", "1"]
        eye = [0.9, -3.0, 0.7]
        look(page, eye, [0.0, 0.0, 0.0], UP)
        lit = picture(page)
        page.keyboard.press("l")
        got = picture(page)
        seen = MeshView(mesh).view(camera(page, eye, [0.0, 0.0, 0.0], UP))
        assert float((got[..., 3] - seen.opacity).abs().mean()) < 0.01
        found = psnr_db(got[..., :3], seen.color)
        print(f"mesh: {found:.1f} dB")
        assert found > 30
        assert psnr_db(lit[..., :3], seen.color) < 30, "light makes no difference"
        page.keyboard.press("w")
        wired = picture(page)
        changed = (wired - got).abs().amax(-1) > 0.05
        assert 50 < int(changed.sum()) < 5000
        page.keyboard.press("w")
        assert torch.equal(picture(page), got)


def test_points_cover_what_ours_do(page: Page, tmp_path: Path) -> None:
    points = some_points()
    save_points(tmp_path / "points.ply", points)
    center = [1e6, -2e6, 300.0]
    with serving(tmp_path / "points.ply") as address:
        show(page, address)
        eye = [1e6 + 0.5, -2e6 - 4.0, 301.0]
        look(page, eye, center, UP)
        page.keyboard.press("l")
        got = picture(page)
        seen = PointView(points).view(camera(page, eye, center, UP))
        ours, theirs = seen.opacity > 1e-3, got[..., 3] > 0.5
        either = float((ours | theirs).float().sum())
        assert float((ours & theirs).float().sum()) > 0.97 * either
        both = seen.opacity > 0.3
        straight = seen.color[both] / seen.opacity[both, None]
        assert psnr_db(got[both][:, :3], straight) > 25
        page.keyboard.press("[")
        page.keyboard.press("[")
        page.keyboard.press("[")
        page.keyboard.press("[")
        assert float((picture(page)[..., 3] > 0.5).float().sum()) < 0.95 * float(theirs.sum())


def test_a_field_is_rendered_by_the_server(page: Page) -> None:
    field = load_field(BUNDLED)
    with serving(BUNDLED) as address:
        show(page, address)
        eye, target = [1.9, -2.4, 1.1], [0.0, 0.0, -0.1]
        look(page, eye, target, UP)
        seen = render_view(field, camera(page, eye, target, UP))
        ours = torch.cat([seen.color, seen.opacity[..., None]], dim=-1)
        found = psnr_db(picture(page), ours)
        print(f"field: {found:.1f} dB")
        assert found > 40


def test_a_saved_file_needs_no_server(page: Page, tmp_path: Path) -> None:
    from geodistill import cli

    splats = some_splats(degree=1)
    save_splats(tmp_path / "splats.ply", splats)
    saved = tmp_path / "scene.html"
    command = ["view", str(tmp_path / "splats.ply"), "--save", str(saved), "--up", "z", "--quiet"]
    assert cli.main(command) == 0
    page.context.set_offline(True)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    show(page, saved.as_uri())
    eye = [0.6, -3.4, 0.9]
    look(page, eye, [0.0, 0.0, 0.0], UP)
    seen = render_splats(splats, camera(page, eye, [0.0, 0.0, 0.0], UP))
    assert psnr_db(picture(page)[..., :3], seen.image.clamp(0, 1)) > 45
    assert not [url for url in requests if url.startswith(("http:", "https:", "ws"))]


@pytest.mark.parametrize("kind", ["mesh", "points", "splats"])
def test_graphics_that_are_lost_come_back(page: Page, tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("scene.glb" if kind == "mesh" else "scene.ply")
    if kind == "mesh":
        save_mesh(path, textured_square())
    elif kind == "points":
        save_points(path, some_points())
    else:
        save_splats(path, some_splats(degree=1, seed=1))
    with serving(path, "z") as address:
        show(page, address)
        before = picture(page)
        assert float(before[..., 3].mean()) > 0.01
        page.evaluate(LOSE)
        page.wait_for_selector("#toast:has-text('reload')")
        page.evaluate("window.graphics.restoreContext()")
        page.wait_for_selector("#toast", state="hidden")
        page.evaluate("geodistill.settled()")
        assert torch.equal(picture(page), before)
