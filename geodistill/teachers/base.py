"""What a teacher is, and the one that every image backbone becomes.

A teacher turns named inputs into named outputs. Image teachers take `images` and give `features`
by patch; mesh teachers take a mesh and give features by vertex.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import InputError, ShapeError, UsageError, check_finite
from geodistill.geometry.mesh import Mesh
from geodistill.kernels.precision import has_native_bf16
from geodistill.teachers.tokens import TokenGrid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PROBE_PATCHES = 6
"""Side of the probe image in patches."""
PROBE_TOLERANCE = 0.15
"""How far the probes of one teacher may differ between machines: bfloat16 moves them by 0.02."""


class Teacher(Protocol):
    """Images [B, H, W, 3] to a grid of features each."""

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def patch_px(self) -> int:
        """Pixels of the network's own input from one token to the next."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of weights, preprocessing and the answer to a probe image; see `same_teacher`."""
        ...

    @property
    def knows_text(self) -> bool: ...
    def features(self, images: Tensor) -> TokenGrid: ...
    def text_features(self, texts: Sequence[str]) -> Tensor: ...


@runtime_checkable
class MeshTeacher(Protocol):
    """Meshes to features of their vertices, without any image."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def vertex_features(self, mesh: Mesh) -> Tensor: ...


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the input of a network.

    The picture is scaled so that its longer side has `size_px` pixels (left as it is where None),
    extended at the right and bottom by its last column and row to whole patches, and normalised.
    So every token lies on a regular grid of pixels, whatever the picture's size. Where `mirrored`,
    the network also sees the mirror image, and tokens are the mean of both answers: then left and
    right of a symmetric thing look the same to it.
    """

    patch_px: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size_px: int | None = None
    mirrored: bool = False


@dataclass(frozen=True, eq=False)
class Backbone:
    """An image teacher around a network.

    Attributes:
        name: what the user calls it.
        channels: of a token.
        preprocessing: from sRGB in [0, 1] to the network's input.
        network: normalised [B, 3, H, W], whole patches, to tokens [B, h, w, C].
        weights: digest of the weights and of what is done with them.
        device: where it runs.
        texts: sentences to [n, C] in the space of the tokens, for teachers that know words.
    """

    name: str
    channels: int
    preprocessing: Preprocessing
    network: Callable[[Tensor], Tensor]
    weights: str
    device: torch.device
    texts: Callable[[list[str]], Tensor] | None = None

    @property
    def patch_px(self) -> int:
        return self.preprocessing.patch_px

    @property
    def knows_text(self) -> bool:
        return self.texts is not None

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        probe = probe_image(PROBE_PATCHES * self.patch_px)
        # The probe has the network's size, so that a resizing of pictures does not enlarge it.
        native = replace(self, preprocessing=replace(self.preprocessing, size_px=None))
        tokens = native.features(probe).tokens
        return fingerprint(self.weights, asdict(self.preprocessing), tokens)

    @torch.no_grad()
    def features(self, images: Tensor) -> TokenGrid:
        """Tokens of images.

        Args:
            images: float [B, H, W, 3], sRGB in [0, 1]. They go through the network together, on
                its device; the tokens come back to theirs.

        Raises:
            ShapeError: another shape.
            InputError: NaN or infinite pixels.
        """
        pixels, scale = prepare(images.to(self.device), self.preprocessing)
        with _fast(self.device):
            tokens = self.network(pixels).float()
            if self.preprocessing.mirrored:
                tokens = 0.5 * (tokens + self.network(pixels.flip(-1)).float().flip(2))
        stride = (self.patch_px / scale[0], self.patch_px / scale[1])
        centre = (0.5 * stride[0], 0.5 * stride[1])
        return TokenGrid(tokens.to(images.device), stride, centre)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of sentences in the space of the tokens, unit length. [n, C]

        Raises UsageError for a teacher without words, and for no sentences.
        """
        if self.texts is None:
            raise UsageError(f"the teacher '{self.name}' knows no words: use CLIP or SigLIP")
        if not texts:
            raise UsageError("there is no text to embed")
        return F.normalize(self.texts(list(texts)).float(), dim=-1)


def mirrored(teacher: Backbone) -> Backbone:
    """The teacher asked about pictures and their mirror images; see `Preprocessing`."""
    return replace(teacher, preprocessing=replace(teacher.preprocessing, mirrored=True))


def prepare(images: Tensor, how: Preprocessing) -> tuple[Tensor, tuple[float, float]]:
    """Normalised [B, 3, H', W'] of whole patches, and the scale (down, across) applied before."""
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise ShapeError(f"images must have shape [B, H, W, 3], got {[*images.shape]}")
    if not images.is_floating_point():
        raise UsageError(f"images must be float in [0, 1], got {images.dtype}")
    check_finite(images=images)
    height, width = images.shape[1:3]
    x = images.float().clamp(0, 1).permute(0, 3, 1, 2)
    scaled = (height, width)
    if how.size_px is not None:
        factor = how.size_px / max(height, width)
        scaled = (max(1, round(height * factor)), max(1, round(width * factor)))
        x = F.interpolate(x, scaled, mode="bicubic", antialias=True).clamp(0, 1)
    down, across = (-side % how.patch_px for side in scaled)
    x = F.pad(x, (0, across, 0, down), mode="replicate")
    mean, std = (x.new_tensor(values)[:, None, None] for values in (how.mean, how.std))
    return (x - mean) / std, (scaled[0] / height, scaled[1] / width)


def _fast(device: torch.device):
    """bfloat16 where it is native: twice as fast, and tokens change by 1 to 4 %."""
    if has_native_bf16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def probe_image(side_px: int) -> Tensor:
    """A fixed picture of waves in three colours. [1, side, side, 3] in [0, 1]"""
    t = torch.arange(side_px, dtype=torch.float64) / side_px
    waves = [
        torch.sin(math.tau * (a * t[:, None] ** 2 + b * t[None] + a * b * t[:, None] * t[None]))
        for a, b in ((2, 3), (5, -1), (-3, 4))
    ]
    return (0.5 + 0.5 * torch.stack(waves, dim=-1))[None].float()


def fingerprint(weights: str, preprocessing: Mapping[str, object], answer: Tensor) -> str:
    """One line that stands for a teacher: digest ':' eight numbers of its answer to the probe.

    Each number is the answer's correlation with a fixed wave, so that it is near a normal variable
    and moves by about as much, relatively, as the answer does.
    """
    text = json.dumps([weights, preprocessing], sort_keys=True)
    flat = answer.detach().double().cpu().reshape(-1)
    phase = torch.arange(1, flat.numel() + 1, dtype=torch.float64) ** 2
    waves = torch.stack([torch.cos(phase * math.sqrt(prime)) for prime in _PRIMES])
    probe = math.sqrt(2.0) * (waves @ flat) / flat.norm().clamp_min(1e-30)
    numbers = ",".join(f"{value:.3f}" for value in probe.tolist())
    return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}:{numbers}"


_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


def same_teacher(a: str, b: str) -> bool:
    """Whether two fingerprints are of one teacher, perhaps on two machines.

    Raises InputError for a text that is no fingerprint.
    """
    (digest_a, probe_a), (digest_b, probe_b) = _parsed(a), _parsed(b)
    near = all(abs(p - q) <= PROBE_TOLERANCE for p, q in zip(probe_a, probe_b, strict=True))
    return digest_a == digest_b and near


def _parsed(text: str) -> tuple[str, list[float]]:
    digest, _, numbers = text.partition(":")
    try:
        probe = [float(number) for number in numbers.split(",")]
    except ValueError:
        probe = []
    if len(probe) != len(_PRIMES):
        raise InputError(f"'{text}' is not the fingerprint of a teacher")
    return digest, probe


def weights_digest(tensors: Mapping[str, Tensor], **further: object) -> str:
    """sha256 of named tensors and of what else decides the features (a block, a version)."""
    digest = hashlib.sha256(json.dumps(further, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
