"""Settings that are read from configs of mmdetection3d and OpenPCDet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from geodistill.checks import InputError
from geodistill.nn.second import KITTI_GRID
from geodistill.nn.toolboxes import read_detector
from geodistill.nn.toolboxes.python_text import assigned
from geodistill.nn.voxels import VoxelGrid
from tests.nn.toolbox_files import mmdet3d_text, openpcdet_mapping, save_mmdet3d, save_openpcdet
from tests.nn.toolbox_models import Mmdet3d, Openpcdet, filled


def test_a_config_that_is_not_understood(tmp_path: Path) -> None:
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
        for key in ("cfg", "config"):
            save_mmdet3d(path, oracle, **{key: text})
            with pytest.raises(InputError, match=words) as caught:
                read_detector(path)
            said = str(caught.value)
            assert f"are its own, save it without meta['{key}']" in said
            assert said.startswith(f"{path}: ") and "\n" not in said
    save_mmdet3d(path, oracle)
    assert read_detector(path).detector.settings.grid.size == (0.16, 0.16, 4.0)


def test_settings_that_mmdetection3d_need_not_write(tmp_path: Path) -> None:
    """One range for all sizes, and the usual turns."""
    text = mmdet3d_text("pointpillars")
    oracle = filled(Mmdet3d(assigned(text, "")["model"]))
    start = text.index("ranges=[[") + len("ranges=")
    one = text[start + 1 : text.index("]", start) + 1]
    text = text.replace(text[start : text.index("]]", start) + 2], f"[{one}]")
    text = text.replace("rotations=[0, 1.57], ", "")
    assert "rotations" not in text and text.count("-0.6") == 2
    save_mmdet3d(tmp_path / "a.pth", oracle, cfg=text)
    anchors = read_detector(tmp_path / "a.pth").detector.settings.anchors
    assert [one.bottom for one in anchors] == [-0.6] * 3
    assert [one.size[0] for one in anchors] == [0.8, 1.76, 3.9]
    assert {one.yaws for one in anchors} == {(0, 1.5707963)}


def test_a_config_of_openpcdet_that_leaves_its_grid_to_another_file(tmp_path: Path) -> None:
    config = openpcdet_mapping("second")
    oracle = filled(Openpcdet(config, divided=4))
    path = tmp_path / "a.pth"
    steps, span = config["DATA_CONFIG"].pop("DATA_PROCESSOR"), config["DATA_CONFIG"]
    own = VoxelGrid((0, -2.56, -3), (5.12, 2.56, 1), (0.16, 0.16, 0.1), 3, 600)

    def grid(data: dict[str, Any], **more: Any) -> VoxelGrid:
        save_openpcdet(path, oracle, {**config, "DATA_CONFIG": data})
        return read_detector(path, **more).detector.settings.grid

    kitti = {"_BASE_CONFIG_": "cfgs/dataset_configs/kitti_dataset.yaml"}
    published = {"POINT_CLOUD_RANGE": [0, -40, -3, 70.4, 40, 1]}
    assert grid({}) == grid(kitti) == grid(kitti | published) == KITTI_GRID
    other = {"_BASE_CONFIG_": "cfgs/dataset_configs/waymo_dataset.yaml"}
    for data, name in ((span, "kitti"), (kitti | span, "kitti"), (other, "waymo")):
        words = rf"a\.yaml: it sets no voxels .*: put {name}_dataset\.yaml beside it"
        with pytest.raises(InputError, match=words):
            grid(data)
        assert grid(data, grid=own) == own
    beside = {**span, "DATA_PROCESSOR": steps, "POINT_CLOUD_RANGE": [0, -7.68, -3, 7.68, 7.68, 1]}
    (tmp_path / "waymo_dataset.yaml").write_text(yaml.safe_dump(beside))
    assert grid(other).high == (7.68, 7.68, 1)
    assert grid(other | span) == own  # what the file itself says counts


def test_a_config_of_openpcdet_that_leaves_its_range_to_another_file(tmp_path: Path) -> None:
    config = openpcdet_mapping("second")
    oracle = filled(Openpcdet(config, divided=4))
    path = tmp_path / "a.pth"
    del config["DATA_CONFIG"]["POINT_CLOUD_RANGE"]
    config["DATA_CONFIG"]["DATA_PROCESSOR"][0]["VOXEL_SIZE"] = [0.05, 0.05, 0.1]

    def span(base: str, **more: Any) -> Any:
        config["DATA_CONFIG"]["_BASE_CONFIG_"] = f"cfgs/dataset_configs/{base}_dataset.yaml"
        save_openpcdet(path, oracle, config)
        grid = read_detector(path, **more).detector.settings.grid
        return grid.low, grid.high

    assert span("kitti") == ((0, -40, -3), (70.4, 40, 1))
    with pytest.raises(InputError, match=r"sets no POINT_CLOUD_RANGE, .*: put once_dataset\.yaml"):
        span("once")
    own = VoxelGrid((0, -2.56, -3), (5.12, 2.56, 1), (0.16, 0.16, 0.1), 3, 600)
    assert span("once", grid=own) == (own.low, own.high)


def test_strides_that_are_others(tmp_path: Path) -> None:
    config = openpcdet_mapping("pointpillars")
    oracle = filled(Openpcdet(config))
    config["MODEL"]["BACKBONE_2D"]["LAYER_STRIDES"] = [1, 2, 2]  # weights have the same shapes
    path = save_openpcdet(tmp_path / "a.pth", oracle, config)
    words = (
        r"a\.pth: the strides of its layers are \[1, 2, 2\]: those of pointpillars here are \[2,"
    )
    with pytest.raises(InputError, match=words):
        read_detector(path)
    text = mmdet3d_text("second")
    other = filled(Mmdet3d(assigned(text, "")["model"]))
    text = text.replace("upsample_strides=[1, 2]", "upsample_strides=[2, 4]")
    path = save_mmdet3d(tmp_path / "b.pth", other, cfg=text)
    with pytest.raises(InputError, match=r"strides of its upsampling are \[2, 4\]"):
        read_detector(path)


def test_points_of_other_values_than_the_config_says(tmp_path: Path) -> None:
    text = mmdet3d_text("pointpillars")
    oracle = filled(Mmdet3d(assigned(text, "")["model"]))
    path = save_mmdet3d(
        tmp_path / "a.pth", oracle, cfg=text.replace("in_channels=4", "in_channels=5")
    )
    with pytest.raises(InputError, match="points have 5 values by its config and 4 by its weights"):
        read_detector(path)


def test_boxes_that_always_claim_an_anchor(tmp_path: Path) -> None:
    text = mmdet3d_text("pointpillars")
    oracle = filled(Mmdet3d(assigned(text, "")["model"]))
    for least, forced in ((0.0, "any"), (0.45, "negative")):
        rule = f"dict(pos_iou_thr=0.6, neg_iou_thr=0.45, min_pos_iou={least})"
        ruled = text.replace("backbone=", f"train_cfg=dict(assigner={rule}), backbone=")
        path = save_mmdet3d(tmp_path / "a.pth", oracle, cfg=ruled)
        assert read_detector(path).detector.settings.forced == forced


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    oracle = filled(Openpcdet(openpcdet_mapping("pointpillars")))
    oracle.state_dict()["dense_head.conv_box.weight"][3] = torch.nan
    path = save_openpcdet(tmp_path / "a.pth", oracle)
    with pytest.raises(InputError, match=r"dense_head\.conv_box\.weight holds NaN or infinite"):
        read_detector(path)


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
    # Each line doubles the digits: of sixty no memory would hold the last.
    found = assigned("a = 2\n" + "a = a * a\n" * 5 + "b = a * a\nc = a * (a - 1)", "")
    assert found == {"a": 2**32, "b": None, "c": 2**64 - 2**32}
    found = assigned("a = 10\n" + "a = a * a\n" * 16, "")
    assert found == {"a": None}
