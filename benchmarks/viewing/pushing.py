"""The same drags through viser: NumPy blends, and pushes positions to viser's own page."""

from __future__ import annotations

import contextlib
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from playwright.sync_api import Browser, Page
from rows import Row

from geodistill.deform.session import Session, apply
from geodistill.deform.session_file import session_to_dict
from geodistill.deform.transforms import matrices
from geodistill.geometry.mesh import Mesh, diagonal
from viewing import pages, shapes

HANDLES, TURNS, WINDOW_S = 16, 8, 20.0
DRAG = """([session, step]) => {
  const handles = session.handles.slice();
  const by = 0.1 * Math.sin(step);
  handles[0] = { ...handles[0], translate: handles[0].translate.map((v) => v + by) };
  const drawn = probe.frame();
  const begin = performance.timeOrigin + performance.now();
  geodistill.kind.controller.drag({ ...session, handles });
  return drawn.then(({ at }) => at - begin);
}"""


def rows() -> list[Row]:
    mesh = shapes.blob(shapes.LARGE)
    session = shapes.session(mesh, HANDLES)
    what = f"a drag of {HANDLES} handles, {len(mesh.faces):,} faces"
    with pages.browser() as browser:
        ours, rate = _ours(browser, mesh, session)
        try:
            import viser  # noqa: F401
        except ImportError:
            theirs, their_rate = "viser is not installed", ""
        else:
            parts, their_rate = _theirs(browser, mesh, session)
            blending, issuing = (statistics.median(part) for part in zip(*parts, strict=True))
            theirs = f"viser {issuing:.0f} ms, {blending:.0f} of them in NumPy"
            their_rate = f"viser {their_rate:.2f}"
    return [
        Row(
            f"{what}: from its transforms until its frame is given to WebGL",
            f"{ours:.0f} ms",
            peers=theirs,
        ),
        Row(f"{what}: frames a second, drawn in software", f"{rate:.2f}", peers=their_rate),
    ]


def _ours(browser: Browser, mesh: Mesh, session: Session) -> tuple[float, float]:
    """Median milliseconds to the frame's last call, and frames a second."""
    with pages.served(shapes.editor_of(mesh)) as address, pages.tab(browser) as page:
        pages.show(page, address)
        given = session_to_dict(session)
        pages.change(page, given)

        def drag(step: int) -> float:
            return page.evaluate(DRAG, [given, step])

        return statistics.median(drag(step) for step in range(TURNS)), _rate(page, drag)


def _theirs(
    browser: Browser, mesh: Mesh, session: Session
) -> tuple[list[tuple[float, float]], float]:
    """Milliseconds of blending, and of all until the frame's last call; and frames a second."""
    blend = _blender(mesh, session)
    with _viser(mesh) as (address, put), pages.tab(browser) as page:
        page.goto(address)
        size = 12 * len(mesh.vertices)
        uploaded = f"void (window.next = probe.frame({size}))"
        page.evaluate("probe.frame()")
        # Frames of what is there already are not drawn: positions would wait for them.
        page.evaluate("size => void (probe.fresh = size)", size)

        def drag(step: int) -> tuple[float, float]:
            page.evaluate(uploaded)
            begin = time.time()
            positions = blend(step)
            blended = time.time()
            put(positions)
            drawn = page.evaluate("next")["at"] / 1e3
            return 1e3 * (blended - begin), 1e3 * (drawn - begin)

        drag(-1)
        parts = [drag(step) for step in range(TURNS)]
        page.evaluate("() => void (probe.fresh = 0)")
        return parts, _rate(page, drag)


def _rate(page: Page, drag: Callable[[int], object]) -> float:
    """Frames a second, one drag after the other's frame was given away, until all are drawn."""
    page.evaluate("() => { probe.paced = false; probe.drain(); }")
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < WINDOW_S:
        drag(count)
        count += 1
    page.evaluate("probe.drain()")
    return count / (time.perf_counter() - begin)


def _blender(mesh: Mesh, session: Session) -> Callable[[int], np.ndarray]:
    """Linear blending of the edit, its first handle moved, float32 [V, 3]."""
    edit = apply(session, mesh, shapes.features_of(mesh).whitened())
    moves = matrices(edit.maps).float().numpy() - np.eye(3, 4, dtype=np.float32)  # [K, 3, 4]
    weights, rest = edit.columns.numpy(), mesh.vertices.float().numpy()

    def blend(step: int) -> np.ndarray:
        moved = moves.copy()
        moved[0, :, 3] += 0.1 * math.sin(step)
        mixed = (weights @ moved.reshape(len(moved), 12)).reshape(-1, 3, 4)
        return rest + np.einsum("vij,vj->vi", mixed[:, :, :3], rest) + mixed[:, :, 3]

    return blend


@contextlib.contextmanager
def _viser(mesh: Mesh) -> Iterator[tuple[str, Callable[[np.ndarray], None]]]:
    """Its address, and what puts positions into its mesh."""
    import viser

    with _hushed():
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        away = 1.1 * diagonal(mesh)
        server.initial_camera.position = (0.0, -away, 0.2 * away)
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        server.initial_camera.fov = 0.7
        shown = server.scene.add_mesh_simple(
            "/blob",
            mesh.vertices.float().numpy(),
            mesh.faces.numpy().astype(np.uint32),
            cast_shadow=False,
            receive_shadow=False,
        )

        def put(positions: np.ndarray) -> None:
            shown.vertices = positions

        yield f"http://127.0.0.1:{server.get_port()}", put
    finally:
        with _hushed():
            server.stop()


def _hushed() -> contextlib.redirect_stdout[io.StringIO]:
    """Without what viser says: the output is the benchmark's."""
    return contextlib.redirect_stdout(io.StringIO())
