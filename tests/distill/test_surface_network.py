"""A network in place of the linear lift: it says the same, everywhere."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from geodistill.distill.surface import distil_features, features_at
from geodistill.lift.files import Basis
from geodistill.lift.scenes import MeshScene, cameras_around
from geodistill.teachers.lifted import lift_features
from geodistill.train import Budget
from tests.teachers.test_lifted import Colors, painted_ball


def test_directions_become_reduced_features_again() -> None:
    draw = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(12, 5, generator=draw)).Q
    basis = Basis(0.1 * torch.randn(12, generator=draw), axes)
    features = 0.1 * torch.randn(20, 5, generator=draw)
    directions = F.normalize(basis.uncentred(features), dim=1)
    torch.testing.assert_close(basis.centred(directions), features)


def test_the_network_says_what_the_lift_says_and_leaves_nothing_out() -> None:
    scene = MeshScene(painted_ball())
    cameras = cameras_around(scene, 6, 48)
    for channels in (None, 2):
        report, field = distil_features(scene, Colors(), cameras, channels, budget=Budget(steps=60))
        lifted = lift_features(scene, Colors(), cameras, channels)
        assert report.coverage == lifted.coverage and torch.equal(
            report.found.seen, lifted.found.seen
        )
        cosine = (report.found.directions() * lifted.found.directions()).sum(1)
        far = scene.positions[:, 1].abs() > 0.3
        assert float(cosine[lifted.found.seen & far].mean()) > 0.97
        assert bool((report.found.features != 0).any(1).all())
        inside = features_at(field, 0.98 * scene.positions, report.found.basis)
        assert inside.shape == report.found.features.shape
