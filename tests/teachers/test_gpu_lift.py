"""Teachers and splats on a GPU say what they say on the CPU."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from stand_in import mean_colours
from torch.nn import functional as F

from geodistill.cli import main
from geodistill.distill.surface import distil_features
from geodistill.geometry.splats import Splats, save_splats
from geodistill.lift.scenes import SplatScene, cameras_around
from geodistill.teachers import load_teacher, same_teacher
from geodistill.teachers.base import probe_image
from geodistill.teachers.lifted import lift_features
from geodistill.train import Budget

pytestmark = pytest.mark.gpu


def coloured_ball(count: int = 1500) -> Splats:
    draw = torch.Generator().manual_seed(0)
    means = F.normalize(torch.randn(count, 3, generator=draw), dim=1)
    return Splats(
        means=means,
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(),
        log_scales=torch.full((count, 3), math.log(0.06)),
        opacity_logits=torch.full((count,), 3.0),
        sh=means[:, None],
    )


def test_splats_are_lifted_onto_alike() -> None:
    scenes = [SplatScene(coloured_ball()), SplatScene(coloured_ball().to("cuda"))]
    cameras = cameras_around(scenes[0], 6, 64)
    plain, fast = (lift_features(scene, mean_colours(), cameras, 2) for scene in scenes)
    assert fast.found.features.device.type == "cpu" and fast.found.basis is not None
    assert plain.found.digest == fast.found.digest
    assert bool((plain.found.seen == fast.found.seen).float().mean() > 0.99)
    for vectors in ("directions", "whitened"):
        one, two = (getattr(report.found, vectors)() for report in (plain, fast))
        assert float((one @ one.T - two @ two.T).abs().mean()) < 0.01


def test_a_network_learns_from_splats_there() -> None:
    scene = SplatScene(coloured_ball().to("cuda"))
    cameras = cameras_around(scene, 4, 64)
    report, _ = distil_features(scene, mean_colours(), cameras, 2, budget=Budget(steps=100))
    assert report.found.whitened().device.type == "cpu" and report.coverage > 0.5


def test_a_network_on_the_gpu_is_the_same_teacher() -> None:
    here, there = (load_teacher("lite0", device=device) for device in ("cpu", "cuda"))
    assert same_teacher(here.fingerprint, there.fingerprint)
    image = probe_image(96)
    tokens = there.features(image).tokens
    assert tokens.device == image.device
    cosine = F.cosine_similarity(tokens, here.features(image).tokens, dim=-1)
    assert float(cosine.min()) > 0.98


@pytest.mark.slow
def test_the_command_lifts_on_the_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_splats(tmp_path / "ball.ply", coloured_ball())
    out = tmp_path / "out.safetensors"
    line = ["lift", str(tmp_path / "ball.ply"), "-o", str(out), "--views", "4", "--json"]
    assert main([*line, "--resolution", "96", "--device", "cuda"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["elements"] == 1500 and told["coverage"] > 0.5 and out.exists()
