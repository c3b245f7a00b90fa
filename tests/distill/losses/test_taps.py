"""Outputs of parts of networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geodistill.checks import UsageError
from geodistill.distill.losses.taps import Taps, run_until
from geodistill.nn.pointnet import layers
from tests.distill.losses.seen_scans import clouds, detector


def test_a_run_gives_the_outputs_of_the_parts_and_goes_no_further() -> None:
    teacher = detector(16, 0).eval()
    voxels = teacher.prepare(clouds())
    network, ran = teacher.network, []
    for name, part in network.named_modules():
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    found = run_until(network, voxels, ["backbone.stages.0", "encoder"])
    assert set(found) == {"backbone.stages.0", "encoder"} and "backbone.stages.1.0" not in ran
    assert not any(value.requires_grad for value in found.values())
    encoded = network.encoder(voxels)
    torch.testing.assert_close(found["encoder"], encoded, rtol=0, atol=0)
    whole = run_until(network, voxels, ["head", "neck"])
    torch.testing.assert_close(whole["head"].logits, teacher(voxels).logits, rtol=0, atol=0)
    assert not whole["head"].codes.requires_grad and run_until(network, voxels, []) == {}


@pytest.mark.parametrize("architecture", ["pointpillars", "second"])
def test_what_is_known_is_not_computed_again(architecture: str) -> None:
    teacher = detector(16, 0, architecture).eval()
    voxels = teacher.prepare(clouds())
    network, ran = teacher.network, []
    stages = [f"backbone.stages.{k}" for k in range(len(network.backbone.stages))]
    inner = "backbone.stages.1.16"
    whole = run_until(network, voxels, [*stages, inner, "neck"])
    known = {name: whole[name] for name in stages}
    for name, part in network.named_modules():
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    found = run_until(network, voxels, ["neck"], known)
    assert torch.equal(found["neck"], whole["neck"])
    assert "neck" in ran and not {"encoder", "backbone"} & set(ran)
    assert not any(f"{name}.0" in ran for name in stages)
    # What is before a part that is wanted runs.
    both = run_until(network, voxels, ["neck", "encoder"], known)
    assert torch.equal(both["neck"], whole["neck"]) and "encoder" in ran
    # What is in a part needs it to run.
    assert torch.equal(run_until(network, voxels, [inner], known)[inner], whole[inner])
    assert "backbone.stages.1.0" in ran and "backbone.stages.0.0" not in ran
    assert torch.equal(run_until(network, voxels, ["neck"])["neck"], whole["neck"])
    assert f"{stages[-1]}.0" in ran
    # A neck serves the head alone.
    head = run_until(network, voxels, ["head"])["head"]
    ran.clear()
    found = run_until(network, voxels, ["head"], {"neck": whole["neck"]})
    assert torch.equal(found["head"].logits, head.logits)
    assert not {"encoder", "backbone", f"{stages[0]}.0"} & set(ran)


def test_hooks_are_gone_after_a_run_also_after_one_that_fails() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        run_until(network, torch.zeros(1, 2), ["1"])
    run_until(network, torch.zeros(1, 2), ["0"])
    assert not any(part._forward_hooks for part in network.modules())


def test_a_part_gives_the_same_whether_or_not_what_comes_after_it_runs() -> None:
    network = layers(4, (6, 6)).eval()
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    alone = run_until(network, rows, ["4"])["4"]
    beside = run_until(network, rows, ["4", "5"])
    assert torch.equal(alone, beside["4"]) and float(alone.min()) < 0
    assert torch.equal(beside["5"], alone.relu())


def test_taps_keep_the_graph_and_can_be_removed() -> None:
    student = detector(16, 0)
    taps = Taps(student.network, ["neck"])
    student(student.prepare(clouds()))
    assert taps.outputs["neck"].requires_grad
    taps.outputs.clear()
    taps.remove()
    student(student.prepare(clouds()))
    assert taps.outputs == {}


def test_a_sparse_map_is_tapped_as_the_features_of_its_cells() -> None:
    teacher = detector(16, 0, "second").eval()
    voxels = teacher.prepare(clouds())
    found = run_until(teacher.network, voxels, ["encoder.stages.0"])["encoder.stages.0"]
    assert found.shape == (len(voxels.counts), 4)


def test_an_unknown_part_is_named_with_one_that_is_near() -> None:
    network = detector(16, 0).network
    with pytest.raises(UsageError, match=r"no part 'nek' \(did you mean 'neck'\?\); its parts are"):
        Taps(network, ["nek"])
    with pytest.raises(UsageError, match="no part ''"):
        run_until(network, None, [""])
