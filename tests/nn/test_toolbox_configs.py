"""Settings that are read from configs of mmdetection3d and OpenPCDet."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodistill.checks import InputError
from geodistill.nn.toolboxes import read_detector
from geodistill.nn.toolboxes.python_text import assigned
from tests.nn.toolbox_files import mmdet3d_text, save_mmdet3d
from tests.nn.toolbox_models import Mmdet3d, filled


def test_a_config_that_is_not_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = filled(Mmdet3d(assigned(mmdet3d_text("pointpillars"), "")["model"]))
    path = tmp_path / "a.pth"
    good = mmdet3d_text("pointpillars")
    for text, words in (
        ("model = (", "cannot be read as Python"),
        ("x = 1", "no 'model'"),
        (good.replace("ranges=", "spans="), "no 'ranges'"),
        (good.replace("[0.32, 0.32, 4]", "[0, 0.32, 4]"), "voxels of 0.0"),
        (good.replace("[0.32, 0.32, 4]", "[1e-7, 1e-7, 4]"), "voxels of 1e-07"),
        ("x = " + "-" * 5000 + "1", "not understood"),
    ):
        save_mmdet3d(path, oracle, cfg=text)
        assert read_detector(path).detector.settings.grid.size == (0.16, 0.16, 4.0)
        said = capsys.readouterr().err
        assert words in said and "published settings are taken" in said, text[:40]


def test_pillars_that_see_distances(tmp_path: Path) -> None:
    text = mmdet3d_text("pointpillars", more=", with_distance=True")
    oracle = filled(Mmdet3d(assigned(mmdet3d_text("pointpillars"), "")["model"]))
    save_mmdet3d(tmp_path / "a.pth", oracle, cfg=text)
    with pytest.raises(InputError, match=r"a\.pth: its pillars see each point's distance"):
        read_detector(tmp_path / "a.pth")


def test_python_settings_are_read_as_data() -> None:
    text = "a = 2\nb = dict(c=[a, -1.5], d={'e': (1 / 4, None)}, f=open('x'), g=a * 3)\nb = h = b"
    found = assigned(text, "")
    value = {"c": [2, -1.5], "d": {"e": (0.25, None)}, "f": None, "g": 6}
    assert found == {"a": 2, "b": value, "h": value}
    assert assigned("a = 1 / 0\nb = 'x' * 9\nc = Unknown", "") == {
        "a": None,
        "b": None,
        "c": "Unknown",
    }
