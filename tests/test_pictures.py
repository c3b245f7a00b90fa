"""Pictures of `geodistill render`: PNG and films are sRGB, EXR is linear, whatever the field is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geodistill.cli import main
from geodistill.cli.pictures import OURS, _exr_channels, _picture, _printable
from geodistill.geometry.mesh_files import save_mesh
from geodistill.io.images import read_image
from geodistill.render.fields import GBuffer
from tests.geometry.solids import box

SRGB, LINEAR = 0.5, 0.21404114
"""One grey in both spaces (IEC 61966-2-1)."""


def view(grey: float) -> GBuffer:
    """A row of two pixels, one opaque and one half covered."""
    opacity = torch.tensor([[1.0, 0.5]])
    color = grey * opacity[..., None].expand(1, 2, 3)
    return GBuffer(color=color, opacity=opacity, depth=torch.ones(1, 2), normal=None)


@pytest.mark.parametrize(("grey", "linear"), [(SRGB, False), (LINEAR, True)])
def test_pictures_are_srgb_and_exr_is_linear(grey: float, linear: bool) -> None:
    picture = _picture(view(grey), "color", linear, opaque=False)
    torch.testing.assert_close(picture[..., :3], torch.full((1, 2, 3), SRGB))
    assert picture[..., 3].tolist() == [[1.0, 0.5]]
    layers = _exr_channels(view(grey), ("color",), linear)
    torch.testing.assert_close(layers["R"], torch.tensor([[LINEAR, LINEAR / 2]]))


def test_films_are_over_white_in_the_space_that_the_field_was_trained_in() -> None:
    half = _picture(view(SRGB), "color", linear=False, opaque=True)[0, 1]
    torch.testing.assert_close(half, torch.full((3,), 0.75))
    half = _picture(view(LINEAR), "color", linear=True, opaque=True)[0, 1]
    assert 0.8 < float(half[0]) < 0.81  # the curve of (0.214 + 1) / 2


def test_names_of_frames_become_names_of_files() -> None:
    assert _printable("frame ä 4") == "frame ä 4"
    for name in ("two\nlines", "y" * 300, "ü" * 300):
        file = f"0000_{_printable(name)}_opacity.png"
        assert OURS.fullmatch(file) and len(file.encode()) < 255


def test_an_orbit_goes_around_the_axis_that_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glTF says that it is y; of a PLY it is z, unless --up names another."""
    monkeypatch.chdir(tmp_path)
    save_mesh("a.glb", box())
    save_mesh("a.ply", box())
    for source, more in (("a.glb", ()), ("a.ply", ("--up", "y")), ("a.ply", ())):
        command = ["render", source, "--orbit", "2", "--resolution", "32", *more]
        assert main([*command, "-o", f"{source}{len(more)}"]) == 0
    pictures = [read_image(Path(name) / "0001.png") for name in ("a.glb0", "a.ply2", "a.ply0")]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    assert main(["render", "a.glb", "--cameras", "c.json", "--up", "y"]) == 2
