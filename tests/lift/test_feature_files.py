"""Lifted features on disk: they come back as they were and refuse another geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geodistill.checks import GeodistillError
from geodistill.lift.files import Basis, FeatureSet, load_features, save_features
from geodistill.runs import save_tensors


def found(basis: Basis | None = None) -> FeatureSet:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(7, 3, generator=draw)
    seen = torch.tensor([True, True, False, True, True, False, True])
    return FeatureSet(features, seen, "mesh", "0123456789abcdef", "lite0", "feed", basis)


@pytest.mark.parametrize("basis", [None, Basis(torch.randn(5), torch.randn(5, 3))])
def test_features_come_back_as_they_were(tmp_path: Path, basis: Basis | None) -> None:
    wanted = found(basis)
    save_features(tmp_path / "f.safetensors", wanted)
    got = load_features(tmp_path / "f.safetensors")
    assert torch.equal(got.features, wanted.features) and torch.equal(got.seen, wanted.seen)
    for name in ("geometry", "digest", "teacher", "fingerprint"):
        assert getattr(got, name) == getattr(wanted, name)
    assert (got.basis is None) == (basis is None)
    if got.basis is not None and basis is not None:
        assert torch.equal(got.basis.axes, basis.axes) and torch.equal(got.basis.mean, basis.mean)


def test_a_reduction_by_orthonormal_axes_is_undone() -> None:
    axes = torch.linalg.qr(torch.randn(6, 6)).Q
    basis = Basis(torch.randn(6), axes)
    full = torch.randn(4, 6)
    torch.testing.assert_close(basis.restore(basis.reduce(full)), full)


@pytest.mark.parametrize(
    ("geometry", "digest", "elements", "message"),
    [
        ("points", "0123456789abcdef", 7, "features of a mesh, this is a points"),
        ("mesh", "0123456789abcdef", 8, "features of 7 elements, this mesh has 8"),
        ("mesh", "fedcba9876543210", 7, "another mesh of as many elements"),
    ],
)
def test_features_of_another_geometry_are_refused(
    geometry: str, digest: str, elements: int, message: str
) -> None:
    with pytest.raises(GeodistillError, match=message):
        found().expect(geometry, digest, elements, "f.safetensors")


def test_features_of_this_geometry_are_accepted() -> None:
    found().expect("mesh", "0123456789abcdef", 7, "f.safetensors")


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    bad = replace(found(), features=torch.full((7, 3), torch.nan))
    with pytest.raises(GeodistillError, match="NaN"):
        save_features(tmp_path / "f.safetensors", bad)
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "other.safetensors", {"a": torch.ones(2)}, {"kind": "field"})
    with pytest.raises(GeodistillError, match="holds 'field', not features"):
        load_features(tmp_path / "other.safetensors")
    save_tensors(tmp_path / "part.safetensors", {"seen": torch.ones(2)}, {"kind": "features"})
    with pytest.raises(GeodistillError, match="does not hold what its description says"):
        load_features(tmp_path / "part.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(GeodistillError, match=r"text\.safetensors"):
        load_features(tmp_path / "text.safetensors")
