"""Two processes with a scan each, and one with both."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, multiprocessing

from geodistill import dist
from geodistill.distill.losses import LOSSES, Seen, build_loss
from geodistill.nn.bev import Predictions
from geodistill.nn.synced import synced
from tests.distill.losses.seen_scans import BOXES, LABELS, clouds, detector, heads, maps, seen

ALONE = ("crd",)
"""Whose negatives are those of their own process."""
OPTIONS = {"point_distiller": {"samples": 60, "neighbours": 5}}
VOXELS = "hint of voxels"


def outputs(name: str, of: Seen, seed: int) -> Any:
    """Of both scans."""
    if name == VOXELS:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(len(of.inputs.counts), 8, generator=generator)  # type: ignore[union-attr]
    if name in ("logits", "kd", "pld"):
        return heads(seed)
    if name == "ofa":
        return (heads(seed), maps(8, seed=seed), maps(6, 8, seed=seed))
    several = {"gid": (maps(8, seed=seed), heads(seed))}
    return several.get(name, (maps(8, seed=seed), maps(6, 8, seed)) if name == "fsp" else None) or (
        maps(8, seed=seed)
    )


def part(x: Any, scan: int, of: Seen) -> Any:
    """What is of one scan."""
    if isinstance(x, tuple):
        return tuple(part(one, scan, of) for one in x)
    if isinstance(x, Predictions):
        return Predictions(*(getattr(x, one.name)[scan : scan + 1] for one in fields(x)))
    if x.dim() == 2:
        return x[of.inputs.cells[:, 0] == scan]  # type: ignore[union-attr]
    return x[scan : scan + 1]


def leaves(x: Any) -> list[Tensor]:
    if isinstance(x, tuple):
        return [leaf for one in x for leaf in leaves(one)]
    if isinstance(x, Predictions):
        return [x.logits, x.codes]
    return [x]


def values(scan: int | None) -> dict[str, Tensor]:
    """Losses, and their gradients by the student's outputs and by what adapts these."""
    torch.set_num_threads(1)
    of = detector(16, 0)
    both = seen(of, trails=True)
    own = both
    if scan is not None:
        boxes, labels = BOXES[scan : scan + 1], LABELS[scan : scan + 1]
        own = replace(
            both,
            inputs=of.prepare(clouds()[scan : scan + 1]),
            boxes=boxes,
            targets=of.targets(boxes, labels),
            trails=both.trails[scan : scan + 1],  # type: ignore[index]
        )
    found = {}
    for name in (*LOSSES, VOXELS):
        if name in ALONE:
            continue
        teacher, student = outputs(name, both, 1), outputs(name, both, 2)
        if name == "ofa":
            teacher = teacher[0]  # nothing of its stages
        for leaf in leaves(student):
            leaf.requires_grad_()
        torch.manual_seed(0)
        options = {"loss": name.split()[0], **OPTIONS.get(name, {})}
        loss = build_loss(options, teacher, student)
        synced(loss)
        given = [x if scan is None else part(x, scan, both) for x in (teacher, student)]
        value = loss(*given, own, 0.3) / dist.world()
        value.backward()
        found[name] = value.detach()
        learning = [*leaves(student), *(p for p in loss.parameters() if p.requires_grad)]
        found |= {
            f"{name} {k}": torch.zeros_like(p) if p.grad is None else p.grad
            for k, p in enumerate(learning)
        }
    return found


def _rank(number: int, port: int, out: Path) -> None:
    os.environ.update(
        RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    dist.start()
    torch.save(values(number), out / str(number))
    numbers = {"both": float(number), **({"second": 5.0} if number else {})}
    assert dist.mean(numbers) == {"both": 0.5, "second": 5.0}
    dist.stop()


def test_two_ranks_lose_and_learn_what_one_does(tmp_path: Path) -> None:
    port = 29500 + os.getpid() % 2000
    multiprocessing.spawn(_rank, (port, tmp_path), nprocs=2)
    one, two = (torch.load(tmp_path / str(k), weights_only=True) for k in range(2))
    for name, value in values(None).items():
        scale = float(value.abs().max())
        assert float((one[name] + two[name] - value).abs().max()) < 1e-4 * scale + 1e-9, name
