"""Checkpoints of mmdetection3d and OpenPCDet against what the toolboxes compute with them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from geodistill.checks import InputError, UsageError
from geodistill.cli import main
from geodistill.detect.anchors import KITTI, decode, directed
from geodistill.detect.boxes import from_convention, wrap
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.nn.detector_files import load_detector, save_detector
from geodistill.nn.toolboxes import is_toolbox_checkpoint, read_detector, write_detector
from geodistill.nn.toolboxes.python_text import assigned
from geodistill.nn.toolboxes.settings import published
from geodistill.nn.voxels import VoxelGrid
from tests.nn.toolbox_files import (
    ORDERS,
    PILLARS,
    VOXELS,
    mmdet3d_text,
    openpcdet_mapping,
    save_mmdet3d,
    save_openpcdet,
)
from tests.nn.toolbox_models import Mmdet3d, Openpcdet, filled


def scan(count: int = 500) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    spread = torch.rand(count, 4, generator=draw) * torch.tensor([5.5, 5.5, 4.2, 1])
    crowd = torch.randn(count // 3, 4, generator=draw) * 0.1 + torch.tensor([2.0, 0.5, -1, 0.5])
    return torch.cat([crowd, spread - torch.tensor([0.2, 2.8, 3.1, 0])]).double()


def in_order(rows: Tensor, names: str, wanted: tuple[str, ...], yaws: int = 1) -> Tensor:
    """Anchors [A, ...] of classes in another order; `yaws` -1 turns their own around."""
    places = [names.split().index(name) for name in wanted]
    split = rows.reshape(-1, 3, 2, *rows.shape[1:])[:, places]
    return (split if yaws == 1 else split.flip(2)).reshape(rows.shape)


def compare(
    oracle: Any,
    detector: AnchorDetector,
    names: str,
    convention: str,
    yaws: int = 1,
    near: float = 1e-10,
) -> None:
    """Every anchor's scores and box, in float64 where weights are single precision."""
    oracle, detector = oracle.double(), detector.double().eval()
    x, y, _ = detector.settings.grid.cells
    stride = 2 if detector.settings.architecture == "pointpillars" else 8
    with torch.no_grad():
        logits, codes, halves = oracle(scan())
        anchors = oracle.anchors(y // stride, x // stride).double()
        boxes = from_convention(oracle.boxes(codes, halves, anchors), convention)
        found = detector(detector.prepare([scan()]))
        half = found.halves[0].argmax(1)
        own = decode(found.codes[0], detector.anchors.reshape(-1, 7))
        yaw = directed(own[:, 6], half, detector.settings.offset)
    classes = detector.classes
    logits = in_order(logits, names, classes, yaws)
    logits = logits[:, [names.split().index(name) for name in classes]]
    torch.testing.assert_close(found.logits[0], logits, rtol=near, atol=near)
    boxes = in_order(boxes, names, classes, yaws)
    # Anchors are in single precision in either program.
    torch.testing.assert_close(own[:, :6], boxes[:, :6], rtol=1e-5, atol=2e-6)
    assert wrap(yaw - boxes[:, 6]).abs().max() < 2e-6
    assert 0.05 < half.double().mean() < 0.95 and logits.std() > 0.01
    if yaws == 1 and convention != "mmdet3d-0":
        codes = in_order(codes, names, classes)
        torch.testing.assert_close(found.codes[0], codes, rtol=near, atol=near)


@pytest.mark.parametrize("architecture", ["pointpillars", "second"])
@pytest.mark.parametrize("layout", [0, 1])
def test_mmdetection3d_detects_the_same(tmp_path: Path, architecture: str, layout: int) -> None:
    text = mmdet3d_text(architecture)
    oracle = filled(Mmdet3d(assigned(text, "")["model"], layout))
    meta = {"cfg": text, "dataset_meta": {"classes": ("Pedestrian", "Cyclist", "Car")}}
    path = save_mmdet3d(tmp_path / "a.pth", oracle, mmengine_version="0.10.4", **meta)
    assert len(oracle.state_dict()) == (126 if architecture == "pointpillars" else 162)
    read = read_detector(path)
    settings = read.detector.settings
    assert (read.toolbox, read.convention) == ("mmdet3d", "mmdet3d")
    assert settings.architecture == architecture and settings.compression == 16
    assert settings.placing == ("centers" if architecture == "pointpillars" else "ends")
    # Published settings are the same, but for the grid.
    plain = save_mmdet3d(tmp_path / "b.pth", oracle)
    assert read_detector(plain).detector.settings.grid.cells[0] in (432, 1408)
    published_ones = read_detector(plain, grid=settings.grid).detector
    compare(oracle, read.detector, ORDERS["mmdet3d"], "mmdet3d")
    compare(oracle, published_ones, ORDERS["mmdet3d"], "mmdet3d")


@pytest.mark.parametrize("architecture", ["pointpillars", "second"])
@pytest.mark.parametrize("layout", [0, 1, 2])
def test_openpcdet_detects_the_same(tmp_path: Path, architecture: str, layout: int) -> None:
    config = openpcdet_mapping(architecture)
    oracle = filled(Openpcdet(config, layout=layout, divided=4))
    assert len(oracle.state_dict()) == (127 if architecture == "pointpillars" else 163)
    path = save_openpcdet(tmp_path / "a.pth", oracle)
    size, most = (PILLARS, 4) if architecture == "pointpillars" else (VOXELS, 3)
    grid = VoxelGrid((0.0, -2.56, -3.0), (5.12, 2.56, 1.0), tuple(size), most, 600)  # type: ignore[arg-type]
    read = read_detector(path, grid=grid)
    assert read.detector.classes == ("Pedestrian", "Cyclist", "Car")
    compare(oracle, read.detector, ORDERS["openpcdet"], "openpcdet")
    assert (
        read.detector.settings.normaliser == "scan" and not read.detector.settings.choice.by_class
    )


def test_a_config_beside_an_openpcdet_checkpoint_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = openpcdet_mapping("pointpillars", align_center=True)
    config["MODEL"]["DENSE_HEAD"]["DIR_OFFSET"] = 0.3
    for one in config["MODEL"]["DENSE_HEAD"]["ANCHOR_GENERATOR_CONFIG"]:
        one["anchor_sizes"][0] = [1.1 * v for v in one["anchor_sizes"][0]]
    oracle = filled(Openpcdet(config))
    path = save_openpcdet(tmp_path / "a.pth", oracle, config)
    compare(oracle, read_detector(path).detector, ORDERS["openpcdet"], "openpcdet")
    assert "a.yaml beside it" in capsys.readouterr().err
    del config["MODEL"]["DENSE_HEAD"]["ANCHOR_GENERATOR_CONFIG"]
    save_openpcdet(path, oracle, config)
    with pytest.raises(InputError, match=r"a\.yaml.* \(no 'ANCHOR_GENERATOR_CONFIG'\): correct it"):
        read_detector(path)


def test_classes_are_those_that_the_checkpoint_names(tmp_path: Path) -> None:
    text = mmdet3d_text("pointpillars")
    oracle = filled(Mmdet3d(assigned(text, "")["model"]))
    names = ("Bus", "Truck", "Van")
    metas: list[dict[str, Any]] = [{"dataset_meta": {"CLASSES": names}}, {"CLASSES": names}]
    lines = f"class_names={names}\n", f"metainfo={{'classes': {names}}}\n"
    for meta in (*metas, *({"cfg": line + text} for line in lines)):
        path = save_mmdet3d(tmp_path / "a.pth", oracle, **{"cfg": text, **meta})
        assert read_detector(path).detector.classes == names


@pytest.mark.parametrize(
    "architecture, flat, more",
    [
        ("pointpillars", False, ""),
        ("pointpillars", True, ""),
        ("pointpillars", True, ", legacy=False"),
        ("second", False, ""),
    ],
)
def test_old_mmdetection3d_detects_the_same_boxes(
    tmp_path: Path, architecture: str, flat: bool, more: str
) -> None:
    text = mmdet3d_text(architecture, old=True, more=more)
    oracle = filled(Mmdet3d(assigned(text, "")["model"], old=True, flat=flat), seed=5)
    names = {"CLASSES": ["Pedestrian", "Cyclist", "Car"], "config": text}
    path = save_mmdet3d(tmp_path / "a.pth", oracle, mmdet3d_version="0.17.1", **names)
    read = read_detector(path)
    assert read.convention == "mmdet3d-0"
    assert read.detector.settings.area == (0, -2.56, 6.4, 2.56)
    near = 1e-6 if flat else 1e-10  # weights are added up, in single precision
    compare(oracle, read.detector, ORDERS["mmdet3d"], "mmdet3d-0", -1, near)
    versions: list[tuple[dict[str, str], str]] = [
        ({"mmdet_version": "2.0"}, "mmdet3d-0"),
        ({"mmdet3d_version": "1.0.0rc4"}, "mmdet3d"),
        ({}, "mmdet3d"),
    ]
    for meta, convention in versions:
        save_mmdet3d(path, oracle, **meta)
        assert read_detector(path).convention == convention
    assert read_detector(path, convention="mmdet3d-0").detector.settings.offset == -math.pi / 2
    with pytest.raises(UsageError, match="is of mmdet3d: its boxes are not those of openpcdet"):
        read_detector(path, convention="openpcdet")


@pytest.mark.parametrize("architecture", ["pointpillars", "second"])
@pytest.mark.parametrize("source", ["mmdet3d", "openpcdet"])
@pytest.mark.parametrize("target", ["mmdet3d", "openpcdet"])
def test_what_is_written_fits_the_network_of_its_config(
    tmp_path: Path, architecture: Any, source: Any, target: Any
) -> None:
    """The config builds the toolbox's network, the checkpoint fits it, and it detects the same."""
    size, most = (PILLARS, 4) if architecture == "pointpillars" else (VOXELS, 3)
    grid = VoxelGrid((0.0, -2.56, -3.0), (5.12, 2.56, 1.0), tuple(size), most, 600)  # type: ignore[arg-type]
    settings = replace(published(architecture, source), grid=grid, compression=16)
    detector = AnchorDetector(settings)
    filled(detector.network)
    path, config = write_detector(tmp_path / "a.pth", detector, target)
    content = torch.load(path, weights_only=True)
    if target == "mmdet3d":
        names: dict[str, Any] = {}
        exec(config.read_text(), names)
        oracle = Mmdet3d(names["model"])
        assert content["meta"]["dataset_meta"]["classes"] == names["class_names"]
    else:
        mapping = yaml.safe_load(config.read_text())
        oracle = Openpcdet(mapping, divided=4)
        assert content.keys() == {"epoch", "it", "model_state", "optimizer_state", "version"}
    oracle.load_state_dict(content["state_dict" if target == "mmdet3d" else "model_state"])
    # OpenPCDet gets the sum of two columns of mmdetection3d's pillars, in single precision.
    folded = (architecture, source, target) == ("pointpillars", "mmdet3d", "openpcdet")
    near = 1e-6 if folded else 1e-10
    compare(oracle.eval(), load_again(tmp_path, detector), ORDERS[target], target, near=near)
    back = read_detector(path).detector
    if target == source:
        assert back.settings == settings
        state = detector.network.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in back.network.state_dict().items())
    else:
        assert back.settings.placing == settings.placing
        compare(oracle, back, ORDERS[target], target)


def load_again(folder: Path, detector: AnchorDetector) -> AnchorDetector:
    save_detector(folder / "own.safetensors", detector)
    return load_detector(folder / "own.safetensors")


@pytest.mark.parametrize(
    ("architecture", "counts"), [("pointpillars", (126, 127)), ("second", (162, 163))]
)
def test_published_networks_have_the_published_shapes(
    tmp_path: Path, architecture: Any, counts: tuple[int, int]
) -> None:
    for toolbox, count in zip(("mmdet3d", "openpcdet"), counts, strict=True):
        detector = AnchorDetector(published(architecture, toolbox))  # type: ignore[arg-type]
        path, _ = write_detector(tmp_path / "a.pth", detector, toolbox)  # type: ignore[arg-type]
        content = torch.load(path, weights_only=True)
        state = content["state_dict" if toolbox == "mmdet3d" else "model_state"]
        assert len(state) == count
        end = "bbox_head.conv_reg" if toolbox == "mmdet3d" else "dense_head.conv_box"
        assert state[f"{end}.weight"].shape[0] == 42
        if architecture == "second" and toolbox == "mmdet3d":
            name = "middle_encoder.encoder_layers.encoder_layer2.0.0.weight"
            assert state[name].shape == (3, 3, 3, 16, 32)
        elif architecture == "second":
            assert state["backbone_3d.conv2.0.0.weight"].shape == (32, 3, 3, 3, 16)
            assert state["global_step"].shape == (1,)
        else:
            name = "voxel_encoder" if toolbox == "mmdet3d" else "vfe"
            assert state[f"{name}.pfn_layers.0.linear.weight"].shape == (64, 10)
        assert any(key.endswith("num_batches_tracked") for key in state)


def test_classes_in_another_order_and_of_other_names(tmp_path: Path) -> None:
    grid = VoxelGrid((0.0, -2.56, -3.0), (5.12, 2.56, 1.0), (0.32, 0.32, 4.0), 4, 600)
    anchors = tuple(replace(one, name=name) for one, name in zip(KITTI, "abc", strict=True))
    settings = replace(
        published("pointpillars", "mmdet3d"), grid=grid, compression=16, anchors=anchors
    )
    detector = AnchorDetector(settings)
    path, _ = write_detector(tmp_path / "a.pth", detector, "mmdet3d", classes=("c", "a", "b"))
    back = read_detector(path).detector
    assert back.classes == ("c", "a", "b")
    bias = detector.network.state_dict()["head.codes.bias"].reshape(3, 14)
    assert torch.equal(back.network.state_dict()["head.codes.bias"].reshape(3, 14), bias[[2, 0, 1]])
    with pytest.raises(UsageError, match="classes are a, b, c, not a, b"):
        write_detector(path, detector, "mmdet3d", classes=("a", "b"))
    path, config = write_detector(tmp_path / "b.pth", detector, "openpcdet")
    config.unlink()
    assert read_detector(path, anchors).detector.classes == ("a", "b", "c")
    two = replace(settings, anchors=anchors[:2])
    path, config = write_detector(tmp_path / "c.pth", AnchorDetector(two), "openpcdet")
    config.unlink()
    with pytest.raises(InputError, match=r"head of 2 classes with 2 anchors .* those of none"):
        read_detector(path)


def test_students_of_pointdistiller_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = filled(Mmdet3d(assigned(mmdet3d_text("pointpillars"), "")["model"]))
    state = {**oracle.state_dict(), "teacher_gcn_adapt.0.weight": torch.zeros(3)}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "a.pth")
    assert read_detector(tmp_path / "a.pth").detector.settings.compression == 16
    assert "1 tensors of distillation's adapters left out" in capsys.readouterr().err


def test_other_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    oracle = filled(Openpcdet(openpcdet_mapping("second"), divided=4))
    state = dict(oracle.state_dict())

    def refused(content: Any, words: str) -> None:
        torch.save(content, path)
        with pytest.raises(InputError, match=words) as caught:
            read_detector(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    refused({"model_state": {"a.weight": torch.zeros(2)}}, "is no PointPillars or SECOND")
    center = {k: v for k, v in state.items() if "dense_head" not in k}
    center |= {f"dense_head.heads_list.{k}.weight": torch.zeros(1) for k in range(5)}
    refused(
        {"model_state": center},
        r"of openpcdet's second, the nearest, 6 tensors are missing \(dense_head.conv_box.bias, .*"
        r"5 tensors are unknown \(dense_head.heads_list.0.weight",
    )
    wide = {**state, "backbone_2d.blocks.0.1.weight": torch.zeros(99, 64, 3, 3)}
    refused(
        {"model_state": wide},
        r"1 tensors have another shape \(backbone.stages.0.0.weight \[99, 64, 3, 3\] instead of "
        r"\[32, 64, 3, 3\]",
    )
    kernel = {**state, "backbone_3d.conv2.0.0.weight": torch.zeros(5, 8, 3, 3, 3)}
    refused({"model_state": kernel}, "tensors have another shape .*convolution.weight")
    odd = {**state, "backbone_3d.conv_input.1.weight": torch.zeros(7)}
    refused({"model_state": odd}, "first layer has 7 channels; second of a published width has 16")
    speeds = {**state, "dense_head.conv_box.bias": torch.zeros(54)}
    refused({"model_state": speeds}, "54 codes of 6 anchors; only boxes of 7 are read")
    heads = {**state, "dense_head.conv_cls.bias": torch.zeros(17)}
    refused({"model_state": heads}, "17 class scores and 12 directions")
    refused({"state_dict": [1]}, "neither state_dict nor model_state")
    refused({"weights": {}}, "neither state_dict nor model_state")
    refused({"state_dict": {"a": 1}}, "some are no tensors")
    save_openpcdet(path, oracle)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="truncated or damaged"):
        read_detector(path)
    path.write_bytes(b"no checkpoint at all")
    with pytest.raises(InputError, match="is not a PyTorch checkpoint"):
        read_detector(path)


def test_writing_what_a_toolbox_has_no_setting_for(tmp_path: Path) -> None:
    old = replace(published("pointpillars", "mmdet3d-0"), compression=16)
    with pytest.raises(UsageError, match="OpenPCDet has no setting for: write it for mmdet3d"):
        write_detector(tmp_path / "a.pth", AnchorDetector(old), "openpcdet")
    with pytest.raises(UsageError, match=r"unknown toolbox 'mmdet'.*did you mean 'mmdet3d'"):
        write_detector(tmp_path / "a.pth", AnchorDetector(old), "mmdet")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"call it NAME\.pth"):
        write_detector(tmp_path / "a.py", AnchorDetector(old), "mmdet3d")
    assert not [*tmp_path.iterdir()]
    path, _ = write_detector(tmp_path / "a.pth", AnchorDetector(old), "mmdet3d")
    back = read_detector(path)
    assert back.convention == "mmdet3d" and back.detector.settings == old


@pytest.mark.parametrize("values", [3, 4, 6])
def test_what_openpcdet_does_with_one_head(
    tmp_path: Path, values: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Suppression within classes is of several heads alone, and values of points have names."""
    settings = replace(published("pointpillars", "mmdet3d"), compression=16, values=values)
    _, config = write_detector(tmp_path / "a.pth", AnchorDetector(settings), "openpcdet")
    assert "suppresses boxes of one head across classes" in capsys.readouterr().err
    mapping = yaml.safe_load(config.read_text())
    nms = mapping["MODEL"]["POST_PROCESSING"]["NMS_CONFIG"]
    assert not nms["MULTI_CLASSES_NMS"] and mapping["MODEL"]["DENSE_HEAD"]["NAME"].endswith(
        "Single"
    )
    points = mapping["DATA_CONFIG"]["POINT_FEATURE_ENCODING"]
    used, source = points["used_feature_list"], points["src_feature_list"]
    assert len(used) == len({*used}) == values and used == source[:values] and len(source) >= 4
    back = read_detector(tmp_path / "a.pth").detector.settings
    assert back.values == values and not back.choice.by_class


def test_info_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oracle = filled(Openpcdet(openpcdet_mapping("pointpillars")))
    path = str(save_openpcdet(tmp_path / "a.pth", oracle))
    assert is_toolbox_checkpoint(path)

    def ran(*arguments: str, code: int = 0) -> dict[str, Any]:
        assert main([*arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    said = ran("info", path)
    assert said["origin"] == "openpcdet" and said["architecture"] == "pointpillars"
    assert said["compression"] == 16 and said["classes"] == ["Pedestrian", "Cyclist", "Car"]
    assert said["parameters"] == sum(p.numel() for p in oracle.parameters())
    other, own = str(tmp_path / "b.pth"), str(tmp_path / "c.safetensors")
    wrote = ran("export", path, "-o", other, "--toolbox", "mmdet3d")
    assert wrote["config"] == str(tmp_path / "b.py")
    assert ran("info", other)["origin"] == "mmdet3d"
    ran("export", other, "-o", own)
    assert ran("info", own)["origin"] == "geodistill"
    first, last = read_detector(path).detector, load_detector(Path(own))
    pairs = zip(first.state_dict().values(), last.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    words = [
        (("export", path, "-o", own), "exists"),
        (("export", path, "-o", str(tmp_path / "d.pth")), "--toolbox mmdet3d or openpcdet writes"),
        (("export", path, "-o", own, "--prune", "0.1"), "it takes --toolbox alone"),
    ]
    for arguments, error in words:
        assert error in ran(*arguments, code=2)["error"]
    torch.save({"meta": {}, "state_dict": {"rpn_head.cls_layers.0.weight": torch.zeros(1)}}, other)
    assert "is no PointPillars or SECOND" in ran("info", other, code=1)["error"]


def test_yaws_are_those_of_other_boxes() -> None:
    anchors = published("pointpillars", "mmdet3d-0").anchors
    assert anchors[0].yaws == pytest.approx((math.pi / 2 - 1.57, math.pi / 2))
