"""Lifted features on disk: one safetensors file that knows its geometry and its teacher."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import InputError, check, check_finite
from geodistill.lift.agreement import whitening
from geodistill.runs import load_tensors, save_tensors

KIND = "features"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Basis:
    """Where reduced channels come from: features = (teacher's - mean) @ axes. [full], [full, C]"""

    mean: Tensor
    axes: Tensor

    def __post_init__(self) -> None:
        check(mean=(self.mean, "F"), axes=(self.axes, "F C"))

    def reduce(self, features: Tensor) -> Tensor:
        """[N, full] -> [N, C]"""
        return (features - self.mean) @ self.axes

    def restore(self, features: Tensor) -> Tensor:
        """[N, C] -> [N, full], but for what the reduction dropped."""
        return features @ self.axes.T + self.mean

    def uncentred(self, features: Tensor) -> Tensor:
        """[N, C] -> [N, C + 1] whose dot products are those of the restored features.

        The axes are orthonormal, so all that is missing of the restored features is the part of
        the mean across the axes, which is one more direction.
        """
        along, across = self._mean_parts()
        return torch.cat([features + along, across.norm().expand(len(features), 1)], dim=1)

    def centred(self, directions: Tensor) -> Tensor:
        """[N, C + 1] of unit length -> [N, C] whose `uncentred` points the same way.

        The last direction, where all features are alike, says how long they are; features of unit
        length are not longer than 1 after a reduction, so neither is the result.
        """
        along, across = self._mean_parts()
        least = across.norm().clamp_min(1e-6)
        return directions[:, :-1] * (least / directions[:, -1:].clamp_min(least)) - along

    def uncentred_like(self, full: Tensor) -> Tensor:
        """[Q, full] -> [Q, C + 1] in the space of `uncentred`, whatever lies outside of it left
        out: dot products with restored features stay the same."""
        _, across = self._mean_parts()
        last = full @ F.normalize(across, dim=0, eps=1e-12)
        return torch.cat([full @ self.axes, last[:, None]], dim=1)

    def _mean_parts(self) -> tuple[Tensor, Tensor]:
        """The mean along the axes, [C], and across them, [full]."""
        along = self.mean @ self.axes
        return along, self.mean - self.axes @ along


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of the elements of one geometry.

    Attributes:
        features: float32 [N, C].
        seen: bool [N]; the others were filled from their neighbours.
        geometry: what kind of geometry they belong to, such as "mesh".
        digest: of that geometry; features of another one are refused.
        teacher: name of the teacher; fingerprint: of its weights and preprocessing.
        basis: of the channels, None where they are the teacher's own.
        scatter: [C, C] between what single views say of a place; None where no views looked.
        source: the geometry's file, where it is known.
    """

    features: Tensor
    seen: Tensor
    geometry: str
    digest: str
    teacher: str
    fingerprint: str
    basis: Basis | None = None
    scatter: Tensor | None = None
    source: Path | None = None

    def __post_init__(self) -> None:
        check(features=(self.features, "N C"), seen=(self.seen, "N"))
        if self.scatter is not None:
            check(features=(self.features, "N C"), scatter=(self.scatter, "C C"))

    def directions(self) -> Tensor:
        """Unit vectors [N, D] whose cosines are those of the teacher's features, as far as the
        channels keep them; zero where the features are."""
        full = self.features if self.basis is None else self.basis.uncentred(self.features)
        return F.normalize(full, dim=1, eps=1e-30)

    def whitened(self) -> Tensor:
        """Unit vectors [N, D] as `directions`, shorter in the directions of feature space in which
        views disagree and longer in those in which they agree: what tells places apart best. See
        `lift.agreement`."""
        if self.scatter is None:
            return self.directions()
        stretch = whitening(self.scatter)
        if self.basis is None:
            return F.normalize(self.features @ stretch, dim=1, eps=1e-30)
        full = self.basis.uncentred(self.features)
        full[:, :-1] = full[:, :-1] @ stretch
        return F.normalize(full, dim=1, eps=1e-30)

    def directions_like(self, full: Tensor) -> Tensor:
        """The teacher's own features [Q, full] as vectors [Q, D] to compare `directions` with."""
        own = len(self.basis.mean) if self.basis is not None else self.features.shape[1]
        check(features=(full, f"Q {own}"))
        full = F.normalize(full, dim=1, eps=1e-30)
        return full if self.basis is None else self.basis.uncentred_like(full)

    def expect(self, geometry: str, digest: str, elements: int, where: object) -> None:
        """Raise InputError unless the features belong to this geometry."""
        if geometry != self.geometry:
            raise InputError(f"{where} holds features of a {self.geometry}, this is a {geometry}")
        if elements != len(self.features):
            raise InputError(
                f"{where} holds features of {len(self.features)} elements, this {geometry} has "
                f"{elements}: lift onto it again"
            )
        if digest != self.digest:
            raise InputError(
                f"{where} belongs to another {geometry} of as many elements: lift onto this one"
            )


def save_features(path: Path, found: FeatureSet) -> None:
    """Write the features to one file, atomically.

    Raises:
        InputError: NaN or infinite values, or the disk refused the write.
    """
    check_finite(features=found.features)
    tensors = {"features": found.features, "seen": found.seen.to(torch.uint8)}
    if found.basis is not None:
        tensors |= {"basis.mean": found.basis.mean, "basis.axes": found.basis.axes}
    if found.scatter is not None:
        tensors["scatter"] = found.scatter
    metadata: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "geometry": found.geometry,
        "digest": found.digest,
        "teacher": found.teacher,
        "fingerprint": found.fingerprint,
    }
    if found.source is not None:
        metadata["source"] = _way(path, found.source)
    save_tensors(path, {name: t.contiguous() for name, t in tensors.items()}, metadata)


def _way(path: Path, source: Path) -> str:
    """From the folder of the features to the geometry, as both may move together."""
    source = source.resolve()
    try:
        return os.path.relpath(source, path.resolve().parent)
    except ValueError:  # they are on different drives
        return str(source)


def load_features(path: Path | str) -> FeatureSet:
    """Read features.

    Raises:
        InputError: no such file, not features, damaged, or its values are not finite.
    """
    path = Path(path)
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND:
        raise InputError(f"{path} holds {metadata.get('kind', 'something')!r}, not features")
    if int(metadata.get("version", 0)) > VERSION:
        raise InputError(f"{path} was written by a newer geodistill: update this one")
    try:
        basis = None
        if "basis.axes" in tensors:
            basis = Basis(tensors["basis.mean"], tensors["basis.axes"])
        check_finite(**{n: tensors[n] for n in ("features", "scatter") if n in tensors})
        return FeatureSet(
            tensors["features"].float(),
            tensors["seen"].bool(),
            *(str(metadata[key]) for key in ("geometry", "digest", "teacher", "fingerprint")),
            basis=basis,
            scatter=tensors["scatter"].float() if "scatter" in tensors else None,
            source=path.parent / str(metadata["source"]) if "source" in metadata else None,
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} does not hold what its description says: {error}") from None
