"""Posed images as other programs leave them: of another size than declared, numbers as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from geodistill.checks import InputError
from geodistill.io.posed import load_cameras, load_posed_images
from tests.io.layouts import SIZE, scene, write_nerfstudio
from tests.io.test_posed import WRITERS


@pytest.mark.parametrize("layout", ["nerfstudio", "colmap_text"])
def test_cameras_of_larger_pictures_are_scaled(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tanks and Temples, as 3DGS has it, comes at half of the size that COLMAP saw."""
    made = scene("distorted")
    WRITERS[layout](tmp_path, made)
    for path in (tmp_path / "images").rglob("*.png"):
        with Image.open(path) as picture:
            small = picture.resize((SIZE[1] // 2, SIZE[0] // 2))
        small.save(path)
    found = load_posed_images(tmp_path, "all", torch.float64).cameras
    declared = load_cameras(tmp_path, "all", torch.float64).cameras
    assert found.size == (SIZE[0] // 2, SIZE[1] // 2) and declared.size == SIZE
    halved = declared.K.clone()
    halved[:, :2] /= 2
    torch.testing.assert_close(found.K, halved)
    torch.testing.assert_close(found.distortion, declared.distortion)
    assert "are 16x12 and its cameras of 32x24: these are scaled" in capsys.readouterr().err


def test_numbers_in_quotes(tmp_path: Path) -> None:
    """As nerfstudio once wrote RealityCapture's."""
    write_nerfstudio(tmp_path, scene("distorted"))
    wanted = load_cameras(tmp_path, "all").cameras
    path = tmp_path / "transforms.json"
    table = json.loads(path.read_text())
    for frame in table["frames"]:
        frame |= {key: str(frame[key]) for key in ("k1", "k2", "p1", "p2")}
    path.write_text(json.dumps(table))
    found = load_cameras(tmp_path, "all").cameras
    assert torch.equal(found.K, wanted.K)
    assert found.distortion is not None and wanted.distortion is not None
    assert torch.equal(found.distortion, wanted.distortion)
    table["frames"][0]["k1"] = "much"
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match='k1 = "much", which is not a finite number'):
        load_cameras(tmp_path, "all")
