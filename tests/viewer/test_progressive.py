"""Pictures of fields: what their bands are, which sizes come when, and what a newer camera does."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import torch

from geodistill.render.viewable import FieldView
from geodistill.shade.color import srgb_from_linear
from geodistill.viewer.progressive import (
    BAND_SECONDS,
    FRAME_SECONDS,
    Pace,
    bands,
    render_band,
    scaled_to,
    sizes,
)
from geodistill.viewer.protocol import decode_picture, read_message
from geodistill.viewer.studio import Latest, Studio
from tests.scenes import AnalyticField
from tests.viewer.viewing import CAMERA, splat_view


def message(**changes):
    return read_message(json.dumps({**CAMERA, **changes}))


def pixels_of(data: bytes, width: int) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(-1, width, 4).astype(int)


def test_bands_are_rows_of_the_whole() -> None:
    scene = FieldView(AnalyticField())
    camera = message().camera()
    whole, _ = render_band(scene, camera, 0, 30)
    parts = [render_band(scene, camera, *band)[0] for band in [(0, 11), (11, 1), (12, 18)]]
    # Ray directions round differently, which may turn a value over.
    error = np.abs(pixels_of(whole, 40) - pixels_of(b"".join(parts), 40))
    assert pixels_of(whole, 40)[..., 3].max() == 255 and error.max() <= 1


def test_pixels_are_the_renderers_with_straight_alpha() -> None:
    scene = splat_view()
    camera = message().camera()
    seen = scene.view(camera)
    got = torch.from_numpy(pixels_of(render_band(scene, camera, 0, 30)[0], 40)).float() / 255
    assert float((got[..., 3] - seen.opacity).abs().max()) < 0.003
    premultiplied = got[..., :3] * got[..., 3:]
    solid = (seen.color <= seen.opacity[..., None]).all(-1)  # harmonics may exceed white
    assert float((premultiplied - seen.color)[solid].abs().max()) < 0.005


def test_linear_colours_are_made_display_referred() -> None:
    field = AnalyticField()
    camera = message().camera()
    plain = pixels_of(render_band(FieldView(field), camera, 0, 30)[0], 40)
    field.color_space = "linear"
    curved = pixels_of(render_band(FieldView(field), camera, 0, 30)[0], 40)
    expected = srgb_from_linear(torch.from_numpy(plain[..., :3] / 255)) * 255
    hit = plain[..., 3] > 128
    assert np.abs(expected.numpy() - curved[..., :3])[hit].max() < 6


def test_scaled_cameras_see_the_same() -> None:
    camera = message(width=640, height=480).camera()
    small = scaled_to(camera, (12, 16))
    assert small.size == (12, 16)
    for here, there in [((0, 0), (0, 0)), ((16, 12), (640, 480)), ((8, 3), (320, 120))]:
        rays = [
            torch.linalg.solve(c.K, torch.tensor([*p, 1.0], dtype=torch.float64))
            for c, p in ((small, here), (camera, there))
        ]
        assert torch.allclose(*rays)


@pytest.mark.parametrize("canvas", [(480, 640), (900, 300), (20, 30), (1, 4096)])
@pytest.mark.parametrize("seconds", [None, 1e-7, 1e-5, 1e-3])
def test_sizes_go_from_what_is_quick_to_the_canvas(
    canvas: tuple[int, int], seconds: float | None
) -> None:
    pace = Pace(seconds)
    found = sizes(canvas, pace, moving=False)
    assert found[-1] == canvas
    areas = [height * width for height, width in found]
    assert areas == sorted(set(areas))
    assert sizes(canvas, pace, moving=True) == found[:1]
    if seconds == 1e-5 and len(found) > 1:
        assert areas[0] * seconds <= 1.3 * FRAME_SECONDS


def test_bands_cover_every_row_once() -> None:
    pace = Pace(1e-5)
    rows = [row for first, count in bands((480, 640), pace) for row in range(first, first + count)]
    assert rows == list(range(480))
    assert all(count * 640 * 1e-5 <= BAND_SECONDS for _, count in bands((480, 640), pace))
    assert [*bands((5, 10**6), Pace(1.0))] == [(row, 1) for row in range(5)]


def test_the_pace_follows_what_is_measured() -> None:
    pace = Pace().after(1000, 1.0)
    assert pace.seconds_per_pixel == pytest.approx(1e-3)
    for _ in range(20):
        pace = pace.after(1000, 4.0)
    assert pace.seconds_per_pixel == pytest.approx(4e-3, rel=1e-4)


def collect(studio: Studio, camera, newer) -> list:
    async def all_of():
        return [decode_picture(p)[0] async for p in studio.pictures(camera, newer)]

    try:
        return asyncio.run(all_of())
    finally:
        studio.close()


def test_a_resting_camera_gets_the_whole_canvas() -> None:
    found = collect(Studio(FieldView(AnalyticField())), message(width=200, height=150), bool)
    assert (found[0].width, found[0].height) == (96, 72) and not found[0].final
    last = [header for header in found if (header.width, header.height) == (200, 150)]
    covered = [row for header in last for row in range(header.row, header.row + header.rows)]
    assert covered == list(range(150))
    assert [header.final for header in found] == [False] * (len(found) - 1) + [True]


def test_a_moving_camera_gets_one_coarse_picture() -> None:
    camera = message(width=200, height=150, moving=True)
    found = collect(Studio(FieldView(AnalyticField())), camera, bool)
    assert [(header.width, header.final) for header in found] == [(96, False)]


def test_a_newer_camera_stops_what_is_finer() -> None:
    camera = message(width=200, height=150)
    found = collect(Studio(FieldView(AnalyticField())), camera, lambda: True)
    assert [(header.width, header.final) for header in found] == [(96, False)]


def test_the_latest_camera_is_the_one_that_is_taken() -> None:
    async def play() -> list[int]:
        latest = Latest()
        waiting = asyncio.create_task(latest.take())
        await asyncio.sleep(0)
        assert not latest.waiting()
        for number in (1, 2, 3):
            latest.put(message(id=number))
        taken = [(await waiting).id]
        assert not latest.waiting()
        latest.put(message(id=4))
        return [*taken, (await latest.take()).id]

    assert asyncio.run(play()) == [3, 4]
