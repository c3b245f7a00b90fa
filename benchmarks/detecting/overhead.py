"""What learning from a teacher adds to a student's step, on the full grid."""

from __future__ import annotations

import time
from copy import copy
from dataclasses import replace

import torch
from rows import Row, medians
from torch import Tensor
from torch.nn import functional as F

from detecting.streets import simulated_batch
from geodistill.distill.detectors import Teaching
from geodistill.distill.point_distiller import EdgeConv
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.train.adamw import AdamW, OneCycle

MOST, TIMES = 0.40, 7
LOSS = {"loss": "point_distiller", "tap": "encoder", "samples": 2000, "neighbours": 32}


def rows() -> list[Row]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    student = AnchorDetector(AnchorSettings(compression=4)).train()
    teaching = Teaching(student, [AnchorDetector(AnchorSettings())], [LOSS])
    batch = simulated_batch(student, 2)
    parameters = [*student.parameters(), *teaching.module.parameters()]
    optimiser = AdamW(parameters, OneCycle())

    def step(taught: bool) -> None:
        fresh = replace(batch, inputs=copy(batch.inputs))  # a teacher looks at each batch once
        predictions = student(fresh.inputs)
        parts: list[Tensor] = list(student.losses(predictions, fresh.targets).values())
        if taught:
            parts.append(teaching.loss(fresh, predictions, 0.0)[0])
        torch.stack(parts).sum().backward()
        optimiser.step(1e-3)

    forms = {"alone": lambda: step(False), "taught": lambda: step(True)}
    own, taught = medians(forms, TIMES, time.process_time).values()
    added = taught / own - 1
    return [
        _edges(len(batch.inputs.counts)),
        Row(
            "PointDistiller (2,000 graphs of 32) over PointPillars 4x's step, 432 x 496, batch 2",
            f"{added:.0%} ({taught:.2f} over {own:.2f} CPU-s)",
            f"<= {MOST:.0%}",
            added <= MOST,
        ),
    ]


def _edges(voxels: int) -> Row:
    """The student's edges of as many graphs, forth and back: of products that are made once for
    each place, and of a layer that is given both ends of each edge."""
    features = torch.randn(voxels, 32, requires_grad=True)
    layer = EdgeConv(32, 32, "identity")
    centers = torch.randperm(voxels)[:4000]
    near = torch.randint(voxels, (len(centers), 32))

    def joined() -> Tensor:
        own = features[centers][:, None].expand(-1, near.shape[1], -1)
        edges = layer.linear(torch.cat([features[near], own], 2))
        return F.relu(layer.norm(edges.flatten(0, 1)))

    forms = {
        "factored": lambda: layer(features, centers, near).sum().backward(),
        "joined": lambda: joined().sum().backward(),
    }
    factored, both = medians(forms, TIMES, time.process_time).values()
    return Row(
        "edges of 4,000 graphs of 32, joined over factored",
        f"{both / factored:.2f} ({both:.3f} over {factored:.3f} CPU-s)",
    )
