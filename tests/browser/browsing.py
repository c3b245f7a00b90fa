"""A real browser without a screen, and a real server in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geodistill.cameras import Camera, look_at
from geodistill.geometry.orientation import Axis
from geodistill.shade.viewable import MeshView, load_viewable
from geodistill.viewer.background import BackgroundServer
from geodistill.viewer.editor import Editor
from geodistill.viewer.page import load_page
from geodistill.viewer.scene import describe, describe_edit
from geodistill.viewer.server import Exhibit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

TOKEN = "the-token-of-the-browser-tests"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
FOV_Y_RAD = 0.7
LOSE = """() => {
  window.graphics = geodistill.stage.renderer.getContext().getExtension("WEBGL_lose_context");
  window.graphics.loseContext();
}"""
PATIENCE_SECONDS = 60


class Process:
    """`geodistill view` in a process of its own, which can be killed."""

    def __init__(self, source: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "geodistill", "view", str(source)]
        command += ["--no-open", "--quiet", "--port", str(port)]
        environment = {**os.environ, "GEODISTILL_TOKEN": TOKEN}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.endswith(f"?token={TOKEN}"), self.address

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def serving(source: Path, up: Axis | None = None, port: int = 0) -> AbstractContextManager[str]:
    """The address of a server in a thread of this process, which shows the scene of a file."""
    scene = load_viewable(source)
    exhibit = Exhibit(load_page(), scene, describe(scene, source, up), TOKEN, "127.0.0.1")
    return exhibited(exhibit, port)


def serving_edit(editor: Editor, port: int = 0) -> AbstractContextManager[str]:
    """The same, with a mesh that can be deformed."""
    described = describe_edit(editor.mesh, editor.surface, Path("shape.glb"), "z")
    scene = MeshView(editor.mesh)
    return exhibited(Exhibit(load_page(), scene, described, TOKEN, "127.0.0.1", editor), port)


@contextlib.contextmanager
def exhibited(exhibit: Exhibit, port: int = 0) -> Iterator[str]:
    """The address of a server in a thread of this process."""
    with BackgroundServer(exhibit, port) as server:
        yield server.url


def port_of(address: str) -> int:
    return int(address.split(":")[2].split("/")[0])


def show(page: Page, address: str) -> None:
    """Open the address and wait until the scene is there."""
    page.goto(address)
    page.wait_for_selector("#cover.done, #cover.failed", state="attached")
    assert page.locator("#cover.failed").count() == 0, page.locator("#doing").text_content()
    page.evaluate("geodistill.settled()")


def until(page: Page | Frame, value: str | Callable[[], Any], wanted: Any = True) -> None:
    """Let the page go on until a value, of it or of the test, is as wanted."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := page.evaluate(value) if isinstance(value, str) else value()) != wanted:
        assert time.monotonic() < deadline, f"{value} stays {found!r}, not {wanted!r}"
        page.evaluate("new Promise(requestAnimationFrame)")


@contextlib.contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Page]:
    """A tab of its own; whatever it complains of fails the test."""
    context = browser.new_context(accept_downloads=True, **options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda m: complaints.append(m.text) if m.type == "error" and "THREE" in m.text else None,
    )
    yield page
    context.close()
    assert not complaints


def pose(page: Page) -> dict[str, Any]:
    page.evaluate("geodistill.settled()")
    return page.evaluate("geodistill.stage.pose")


def distance(found: dict[str, Any]) -> float:
    """How far a pose's eye is from what it looks at."""
    return float((torch.tensor(found["eye"]) - torch.tensor(found["target"])).norm())


def look(page: Page, eye: list[float], target: list[float], up: list[float]) -> None:
    """Look from there, and wait until what is seen is final."""
    pose = {"eye": eye, "target": target, "up": up, "fov_y": FOV_Y_RAD}
    page.evaluate("async pose => { geodistill.look(pose); await geodistill.settled(); }", pose)


def camera(page: Page, eye: list[float], target: list[float], up: list[float]) -> Camera:
    """The same view for geodistill's own renderers."""
    size = page.viewport_size
    assert size is not None
    height, width = size["height"], size["width"]
    focal_px = 0.5 * height / float(torch.tan(torch.tensor(FOV_Y_RAD / 2).double()))
    K = torch.tensor([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]]).double()
    eye_t, target_t, up_t = (torch.tensor(v, dtype=torch.float64) for v in (eye, target, up))
    return Camera(K, look_at(eye_t, target_t, up_t), (height, width))


READ = """() => {
  const { pixels, width, height } = geodistill.frame();
  let text = "";
  for (let at = 0; at < pixels.length; at += 8192)
    text += String.fromCharCode(...pixels.subarray(at, at + 8192));
  return { pixels: btoa(text), width, height };
}"""


def picture(page: Page) -> Tensor:
    """What is on the canvas: premultiplied RGBA [H, W, 4] in [0, 1], as the GPU has it."""
    found: dict[str, Any] = page.evaluate(READ)
    data = bytearray(base64.b64decode(found["pixels"]))
    pixels = torch.frombuffer(data, dtype=torch.uint8).reshape(found["height"], found["width"], 4)
    return pixels.flip(0).float() / 255


def psnr_db(a: Tensor, b: Tensor) -> float:
    return -10 * float(torch.log10((a - b).square().mean()))


def chromium() -> str | None:
    """Where the system's Chromium is."""
    names = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
    return next((name for name in names if Path(name).exists()), None)
