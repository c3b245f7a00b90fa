"""The page around the scene: gestures, keys, tabs, and what happens when the server is gone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from geodistill.geometry.mesh_files import save_mesh
from tests.browser import browsing
from tests.browser.browsing import Process, distance, picture, port_of, pose, serving, show
from tests.viewer.viewing import textured_square

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BUNDLED = Path(__file__).parents[2] / "geodistill" / "assets" / "bundled_ngp.safetensors"


@pytest.fixture
def square(tmp_path: Path) -> Path:
    save_mesh(tmp_path / "square.glb", textured_square())
    return tmp_path / "square.glb"


def test_drag_turns_wheel_zooms_and_keys_bring_back(page: Page, square: Path) -> None:
    with serving(square) as address:
        show(page, address)
        first = pose(page)
        page.mouse.move(100, 120)
        page.mouse.down()
        page.mouse.move(160, 100, steps=4)
        page.mouse.up()
        turned = pose(page)
        assert torch.dist(torch.tensor(turned["eye"]), torch.tensor(first["eye"])) > 0.3
        assert distance(turned) == pytest.approx(distance(first), rel=1e-3)
        assert turned["target"] == pytest.approx(first["target"], abs=1e-6)
        page.mouse.wheel(0, -400)
        assert distance(pose(page)) < 0.95 * distance(first)
        page.mouse.down(button="right")
        page.mouse.move(120, 60, steps=4)
        page.mouse.up(button="right")
        panned = pose(page)
        assert torch.dist(torch.tensor(panned["target"]), torch.tensor(first["target"])) > 0.05
        page.keyboard.press("h")
        home = pose(page)
        assert home["eye"] == pytest.approx(first["eye"], abs=1e-3)
        page.keyboard.press("u")
        assert pose(page)["up"] == [0, 0, 1]
        assert "+Z" in page.locator("#facts").inner_text()


def test_nothing_is_drawn_while_nothing_changes(page: Page, square: Path) -> None:
    with serving(square) as address:
        show(page, address)
        count = """async () => {
          let drawn = 0;
          geodistill.stage.drawnListeners.add(() => drawn++);
          for (let i = 0; i < 10; i++) await new Promise(requestAnimationFrame);
          return drawn;
        }"""
        pose(page)
        assert page.evaluate(count) == 0


def test_theme_panel_help_and_screenshot(page: Page, square: Path, tmp_path: Path) -> None:
    page.emulate_media(color_scheme="dark")
    with serving(square) as address:
        show(page, address)
        root = page.locator("html")
        assert root.get_attribute("data-theme") == "dark"
        page.keyboard.press("d")
        assert root.get_attribute("data-theme") == "light"
        page.keyboard.press("d")
        page.emulate_media(color_scheme="light")
        page.wait_for_selector("html[data-theme=light]")
        hidden = page.locator("#panel").is_hidden()
        page.keyboard.press("i")
        assert page.locator("#panel").is_hidden() is not hidden
        page.keyboard.press("?")
        assert "Wireframe" in page.locator("#keys").inner_text()
        page.keyboard.press("Escape")
        assert not page.locator("#help").is_visible()
        for key, opaque in (("s", True), ("a", False)):
            with page.expect_download() as download:
                page.keyboard.press(key)
            download.value.save_as(tmp_path / "shot.png")
            assert download.value.suggested_filename == "square.png"
            shot = torch.frombuffer(
                bytearray(Image.open(tmp_path / "shot.png").convert("RGBA").tobytes()),
                dtype=torch.uint8,
            ).reshape(240, 320, 4)
            assert bool((shot[..., 3] == 255).all()) is opaque
            seen = picture(page)
            solid = seen[..., 3] == 1
            assert int(solid.sum()) > 1000
            assert float((shot[..., :3] / 255 - seen[..., :3])[solid].abs().max()) < 0.01


def test_two_tabs_look_each_their_own_way(browser: Browser) -> None:
    with serving(BUNDLED) as address:
        tabs = [browser.new_page(viewport={"width": 120, "height": 90}) for _ in range(2)]
        for tab in tabs:
            show(tab, address)
        first = [picture(tab) for tab in tabs]
        assert float((first[0] - first[1]).abs().max()) < 0.02
        look = "p => { geodistill.look({ ...geodistill.stage.pose, eye: p }); }"
        tabs[0].evaluate(look, [0, 0.5, 4])
        for tab in tabs:
            tab.evaluate("geodistill.settled()")
        assert float((picture(tabs[0]) - first[0]).abs().mean()) > 0.05
        assert torch.equal(picture(tabs[1]), first[1])
        for tab in tabs:
            tab.close()


def test_the_page_comes_back_when_the_server_does(page: Page) -> None:
    server = Process(BUNDLED)
    page.set_viewport_size({"width": 120, "height": 90})
    show(page, server.address)
    port, before = port_of(server.address), picture(page)
    server.kill()
    page.wait_for_selector("#toast:has-text('Connection lost')")
    page.evaluate("p => geodistill.look({ ...geodistill.stage.pose, eye: p })", [0, 0.5, 4])
    with serving(BUNDLED, port=port):
        page.wait_for_selector("#toast", state="hidden")
        page.evaluate("geodistill.settled()")
        assert page.evaluate("geodistill.stage.pose.eye") == pytest.approx([0, 0.5, 4], abs=1e-3)
        assert float((picture(page) - before).abs().mean()) > 0.05


def test_another_scene_at_the_same_address_is_loaded(page: Page, square: Path) -> None:
    with serving(square) as address:
        show(page, address)
    page.wait_for_selector("#toast:has-text('Connection lost')")
    with serving(square, "x", port=port_of(address)):
        assert page.wait_for_selector("#facts:has-text('+X')", state="attached") is not None


def test_a_server_that_has_another_token_now_is_explained(
    page: Page, square: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(square) as address:
        show(page, address)
    monkeypatch.setattr(browsing, "TOKEN", "another-token-of-the-tests")
    with serving(square, port=port_of(address)):
        page.wait_for_selector("#toast:has-text('open the address that was printed')")
        assert "Connection lost" not in page.locator("#toast").inner_text()


def test_a_wrong_token_is_explained(page: Page, square: Path) -> None:
    with serving(square) as address:
        answer = page.goto(address[:-1])
        assert answer is not None and answer.status == 403
        assert "open the address that was printed" in page.locator("body").inner_text()


def test_a_page_of_another_site_gets_no_connection(page: Page, square: Path) -> None:
    with serving(square) as address:
        page.goto("data:text/html,<title>elsewhere</title>")
        reach = """async address => {
          const socket = new WebSocket(address.replace("http", "ws").replace("/?", "/socket?"));
          const opened = await new Promise(done => {
            socket.onopen = () => done(true);
            socket.onerror = () => done(false);
          });
          const answer = fetch(address.replace("/?", "/scene.json?"));
          const read = await answer.then(() => true, () => false);
          return [opened, read];
        }"""
        assert page.evaluate(reach, address) == [False, False]
