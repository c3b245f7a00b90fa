"""What a handle turns about, moved by hand and in numbers; sessions dropped on the page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from geodistill.deform.session import Handle, Mirror, Session
from geodistill.deform.session_file import session_to_dict
from geodistill.viewer.editor import Editor
from tests.browser.browsing import serving_edit, show, until
from tests.browser.deforming import (
    MOVES,
    SIZE,
    change,
    drag,
    expect_shown,
    middle_of,
    positions,
    session,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

BEGUN = Session(handles=(Handle(vertex=1500, **MOVES),))


def held(page: Page, editor: Editor) -> Tensor:
    """Where the handle is."""
    return positions(page)[int(editor.surface.welded[1500])]


ARM = """() => {
  const arm = geodistill.kind.overlay().children.find(({ type }) => type === "Line");
  if (!arm.visible) return [];
  arm.updateMatrixWorld();
  return [...arm.geometry.clone().applyMatrix4(arm.matrixWorld).getAttribute("position").array];
}"""
"""The line from the selected handle to its pivot: its ends, where it is seen."""


def select(page: Page) -> None:
    page.locator(".list .handle").click()
    page.evaluate("geodistill.settled()")


def test_the_pivot_moves_by_its_arrow_and_the_handle_stays(page: Page, editor: Editor) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    with serving_edit(editor) as address:
        show(page, address)
        change(page, BEGUN)
        select(page)
        before = held(page, editor)
        page.keyboard.press("p")
        x, y = middle_of(page, ".marker.handle")
        page.mouse.move(x, y - 45)  # the arrow that points up
        page.mouse.down()
        page.mouse.move(x, y - 105, steps=4)
        page.mouse.up()
        (handle,) = session(page).handles
        assert handle.pivot is not None
        assert (handle.rotate, handle.scale) == (MOVES["rotate"], MOVES["scale"])
        center = editor.surface.positions[editor.surface.welded[1500]]
        assert float((torch.tensor(handle.pivot) - center).norm()) > 0.05
        assert float((held(page, editor) - before).norm()) < 1e-3
        expect_shown(page, session(page), editor.mesh)
        assert middle_of(page, ".marker.handle") == pytest.approx((x, y), abs=1)
        low, high = editor.mesh.vertices.amin(0), editor.mesh.vertices.amax(0)
        at = torch.tensor(handle.pivot) + torch.tensor(handle.translate) - (low + high) / 2
        ends = torch.tensor(page.evaluate(ARM)).reshape(2, 3)
        assert float((ends - torch.stack([before, at.float()])).abs().max()) < 1e-3
        page.keyboard.press("3")
        assert page.evaluate(ARM) == []
        page.keyboard.press("1")
        assert page.evaluate(ARM) == ends.reshape(-1).tolist()
        page.keyboard.press("Control+z")
        assert session(page) == BEGUN
        # The dot, where the pivot is as well, drags it in the view's plane.
        back = torch.tensor(page.evaluate("geodistill.stage.camera.matrixWorld.elements"))[8:11]
        drag(page, ".marker.handle", (60, 40))
        (handle,) = session(page).handles
        assert handle.pivot is not None
        ends = torch.tensor(page.evaluate(ARM)).reshape(2, 3)
        assert float((ends[1] - ends[0]).norm()) > 0.05
        assert float((ends[1] - ends[0]) @ back) == pytest.approx(0, abs=1e-3)
        assert float((held(page, editor) - before).norm()) < 1e-3
        expect_shown(page, session(page), editor.mesh)


def test_the_pivot_in_numbers_and_back(page: Page, editor: Editor) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    with serving_edit(editor) as address:
        show(page, address)
        change(page, BEGUN)
        select(page)
        before = held(page, editor)
        assert page.get_by_text("Centre pivot").is_hidden()
        page.get_by_label("Pivot x").fill("0.25")
        page.get_by_label("Pivot x").press("Enter")
        (handle,) = session(page).handles
        assert handle.pivot is not None and handle.pivot[0] == pytest.approx(0.25, abs=1e-6)
        assert float((held(page, editor) - before).norm()) < 1e-3
        expect_shown(page, session(page), editor.mesh)
        page.get_by_text("Centre pivot").click()
        (handle,) = session(page).handles
        assert handle.pivot is None
        assert handle.translate == pytest.approx(MOVES["translate"], abs=1e-5)
        assert float((held(page, editor) - before).norm()) < 1e-3


def test_the_pivot_of_a_handle_on_a_mirror_plane(page: Page, editor: Editor) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    center = editor.surface.positions[editor.surface.welded[1500]].double()
    normal = torch.tensor([1.0, 0.4, -0.3]).double()
    mirror = Mirror(tuple(normal.tolist()), float(normal @ center))
    with serving_edit(editor) as address:
        show(page, address)
        change(page, replace(BEGUN, mirrors=(mirror,), blend="linear"))
        select(page)
        before = positions(page)
        for axis, value in (("x", "0.25"), ("y", "-0.4"), ("z", "0.6")):
            page.get_by_label(f"Pivot {axis}").fill(value)
            page.get_by_label(f"Pivot {axis}").press("Enter")
        (handle,) = session(page).handles
        assert handle.pivot is not None
        assert float((positions(page) - before).norm(dim=1).max()) < 2e-3
        expect_shown(page, session(page), editor.mesh)
        page.get_by_text("Centre pivot").click()
        assert session(page).handles[0].pivot is None
        assert float((positions(page) - before).norm(dim=1).max()) < 2e-3


DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  for (const type of ["dragover", "drop"])
    document.dispatchEvent(new DragEvent(type, { dataTransfer: data, cancelable: true }));
}"""


def test_a_session_is_dropped_on_the_page(page: Page, editor: Editor) -> None:
    with serving_edit(editor) as address:
        show(page, address)
        text = json.dumps(session_to_dict(replace(BEGUN, locality=2.0)))
        page.evaluate(DROP, ["edit.json", text])
        until(page, "geodistill.kind.controller.session.handles.length", 1)
        assert session(page) == replace(BEGUN, locality=2.0)
        page.evaluate(DROP, ["picture.png", "no session"])
        page.wait_for_selector("#toast:has-text('picture.png is no session')")
        page.evaluate(DROP, ["edit.yaml", "handles: 3"])
        page.wait_for_selector("#toast:has-text('edit.yaml')")
        page.evaluate(DROP, ["large.json", "x" * (2**24 + 1)])
        page.wait_for_selector("#toast:has-text('large.json is too large')")
        assert session(page) == replace(BEGUN, locality=2.0)
        assert page.locator("body.dropping").count() == 0


def test_method_and_centring_are_found_under_more(page: Page, editor: Editor) -> None:
    page.set_viewport_size(SIZE)  # pyright: ignore[reportArgumentType]
    with serving_edit(editor) as address:
        show(page, address)
        change(page, BEGUN)
        page.get_by_text("More", exact=True).click()
        page.get_by_role("button", name="Published").click()
        assert session(page).method == "published"
        page.get_by_role("slider", name="Centring").fill("0.4")
        assert session(page).centring == 0.4
        page.get_by_role("button", name="Cardinal").click()
        page.get_by_role("button", name="Linear").click()
        found = session(page)
        assert (found.method, found.centring, found.blend) == ("cardinal", 0.4, "linear")
        expect_shown(page, replace(found, centring=0.4), editor.mesh)
        page.get_by_role("button", name="Automatic").click()
        assert session(page).centring is None
        assert page.get_by_role("button", name="Automatic").is_disabled()
        automatic = session(page)
        remove = page.get_by_role("button", name="Remove all")
        assert "mirrors and settings stay" in (remove.get_attribute("title") or "")
        remove.click()
        assert session(page) == replace(automatic, handles=())
        page.keyboard.press("Control+z")
        assert session(page) == automatic
