"""What looks alike: similarities, masks and clusters of lifted features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import InputError, UsageError, check
from geodistill.runs import save_tensors

KIND, VERSION = "answer", 1
CENTRING = 0.7
"""Part of their common mean that is taken from features: what all of a shape shares tells no part
of it from another."""
MOST_CLUSTERS = 256
_SAMPLE = 20_000
_BINS = 256


@dataclass(frozen=True, eq=False)
class Answer:
    """What features say to Q questions of N elements.

    Attributes:
        similarity: float32 [N, Q], cosines.
        mask: bool [N, Q], where they reach `threshold`, one of each question.
        label: int64 [N], the question that fits best, or the cluster.
    """

    similarity: Tensor | None = None
    mask: Tensor | None = None
    label: Tensor | None = None
    threshold: tuple[float, ...] = ()

    def heat(self) -> Tensor:
        """Similarities [N, Q] between their column's median, 0, and its maximum, 1."""
        assert self.similarity is not None
        low, high = self.similarity.median(dim=0).values, self.similarity.amax(dim=0)
        return ((self.similarity - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        kept = {"similarity": self.similarity, "mask": self.mask, "label": self.label}
        return {name: values for name, values in kept.items() if values is not None}

    def columns(self) -> dict[str, Tensor]:
        """All of it as columns of numbers, float32 [N] or [N, Q]."""
        return {
            name: values.float().squeeze(1) if values.shape[1:] == (1,) else values.float()
            for name, values in self.tensors().items()
        }


def masked(similarity: Tensor, limit: float | None = None) -> Answer:
    """The answer that similarities [N, Q] make: masks from a limit, or from each column's own
    `threshold`, and the `likest` of several questions."""
    check(similarity=(similarity, "N Q"))
    count = similarity.shape[1]
    if limit is None:
        limits = tuple(threshold(column) for column in similarity.T)
    else:
        limits = (limit,) * count
    mask = similarity >= torch.tensor(limits)
    return Answer(similarity, mask, likest(similarity) if count > 1 else None, limits)


def save_answer(path: Path, answer: Answer, geometry: str, digest: str) -> None:
    """Write an answer to one file, atomically, with the kind and digest of what it is of."""
    tensors = {
        name: (t.to(torch.uint8) if t.dtype == torch.bool else t).contiguous()
        for name, t in answer.tensors().items()
    }
    save_tensors(
        path,
        tensors,
        {
            "kind": KIND,
            "version": VERSION,
            "geometry": geometry,
            "digest": digest,
            "threshold": list(answer.threshold),
        },
    )


def centred(directions: Tensor, amount: float = CENTRING) -> Tensor:
    """Unit vectors [N, D] without `amount` of their mean, again of unit length.

    Vectors of zero, of which nothing is known, stay zero. Raises UsageError for an amount outside
    [0, 1].
    """
    check(directions=(directions, "N D"))
    if not 0 <= amount <= 1:
        raise UsageError(f"centring must lie between 0 and 1, got {amount}")
    known = (directions != 0).any(dim=1, keepdim=True)
    mean = directions.sum(dim=0) / known.sum().clamp_min(1)
    return F.normalize((directions - amount * mean) * known, dim=1, eps=1e-30)


def threshold(values: Tensor) -> float:
    """The value that parts [N] into two classes as different from one another as can be.

    Source: Otsu, A threshold selection method from gray-level histograms (1979). Where all values
    are equal, that value.
    """
    check(values=(values, "N"))
    low, high = values.min().double(), values.max().double()
    if low == high:
        return float(low)
    counts = torch.histc(values.double(), _BINS, float(low), float(high))
    middles = low + (high - low) * (torch.arange(_BINS, dtype=torch.float64) + 0.5) / _BINS
    below = counts.cumsum(0)[:-1]
    above = len(values) - below
    sums = (counts * middles).cumsum(0)
    gap = sums[:-1] / below.clamp_min(1) - (sums[-1] - sums[:-1]) / above.clamp_min(1)
    best = int((below * above * gap.square()).argmax())
    return float(low + (high - low) * (best + 1) / _BINS)


def clusters(directions: Tensor, count: int, seed: int = 0) -> Tensor:
    """Labels int64 [N] of `count` groups of unit vectors [N, D], the largest group first.

    k-means with k-means++ seeds on at most 20,000 of the vectors; the others join the nearest
    centre. A label may be unused where vectors are alike.

    Raises UsageError for fewer than 2 clusters, more than `MOST_CLUSTERS` or than vectors.
    """
    from scipy.cluster.vq import kmeans2

    check(directions=(directions, "N D"))
    most = min(MOST_CLUSTERS, len(directions))
    if not 2 <= count <= most:
        raise UsageError(f"clusters must be from 2 to {most}, got {count}")
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(directions))[:_SAMPLE]
    sample = directions[torch.from_numpy(chosen)].double().numpy()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of seeds that equal one another
        centres, _ = kmeans2(sample, count, minit="++", rng=random, missing="warn")
    centres = torch.from_numpy(centres).to(directions)
    nearest = (directions @ centres.T - 0.5 * centres.square().sum(dim=1)).argmax(dim=1)
    sizes = torch.bincount(nearest, minlength=count)
    rank = torch.empty(count, dtype=torch.int64)
    rank[sizes.argsort(descending=True, stable=True)] = torch.arange(count)
    return rank[nearest]


def likest(similarities: Tensor) -> Tensor:
    """Which of Q columns is the largest for each of [N, Q], relative to the column's own mean and
    spread, as sentences differ in how near they are to anything at all. int64 [N]"""
    check(similarities=(similarities, "N Q"))
    if not len(similarities):
        raise InputError("there are no elements to label")
    spread, mean = torch.std_mean(similarities, dim=0, correction=0)
    return ((similarities - mean) / spread.clamp_min(1e-12)).argmax(dim=1)
