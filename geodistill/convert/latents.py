"""Teacher latents in the form of a student's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.decoder import (
    PLAIN,
    DecoderConfig,
    head_input,
    head_network,
    raw_density,
    sees_positions,
)
from geodistill.geometry.fields.heads import LATENT, LatentField, Mlp

RAW_MIN, RAW_MAX = -8.0, 7.5
"""Log-density per scene radius beyond which a march step is transparent or opaque anyway."""
HEAD_STEPS = 300
HEAD_BATCH = 1 << 12


@dataclass(frozen=True)
class Translator:
    """From a teacher's latent to [raw, g1..gF], with the colour head that decodes it.

    g = (latent[1:] - mean) @ projection.
    """

    teacher: Field
    mean: Tensor
    projection: Tensor
    color_head: Mlp
    decoder: DecoderConfig = PLAIN

    def __call__(self, latent: Tensor) -> Tensor:
        """[N, C] teacher latent -> [N, 1 + F] with log-density clamped to [RAW_MIN, RAW_MAX]."""
        raw = torch.log(self.teacher.sigma_of(latent).clamp_min(1e-12)).clamp(RAW_MIN, RAW_MAX)
        if self.decoder != PLAIN:
            raw = raw_density(raw.exp(), self.decoder)
        return torch.cat([raw[:, None], (latent[:, 1:] - self.mean) @ self.projection], dim=1)


def expect_teachable(decoder: DecoderConfig) -> None:
    """Raise UsageError unless the decoder's head is a network on features and directions."""
    if sees_positions(decoder) or decoder.head == "sh":
        raise UsageError(
            "students learn colour networks on features and directions: leave decoder.positions, "
            "decoder.position_frequencies and decoder.head=sh out"
        )


@torch.no_grad()
def translator(
    teacher: Field,
    latent: Tensor,
    rgb: Tensor,
    d: Tensor,
    w: Tensor,
    decoder: DecoderConfig = PLAIN,
) -> Translator:
    """The translator of a teacher, given samples of it, for students of a decoder.

    A latent field passes its latent and its head on as they are. Any other latent is reduced to its
    principal components, as many as the decoder's features, and a head is trained to decode them.

    Args:
        teacher: the field the samples come from.
        latent: [S, C]; rgb: [S, 3]; d: [S, 3] unit directions; w: [S] ray weights.

    Raises UsageError for a decoder whose head is no network on features and directions.
    """
    expect_teachable(decoder)
    if isinstance(teacher, LatentField) and decoder == PLAIN:
        return Translator(
            teacher, torch.zeros(LATENT - 1), torch.eye(LATENT - 1), teacher.color_head
        )
    seen = w > min(0.01, 0.1 * float(w.max()))
    features = latent[seen, 1:]
    mean = features.mean(dim=0)
    variance, axes = torch.linalg.eigh((features - mean).t().cov().double())
    order = variance.argsort(descending=True)[: decoder.features]
    scaled = (axes[:, order] / variance[order[0]].sqrt().clamp_min(1e-9)).to(latent.dtype)
    projection = F.pad(scaled, (0, decoder.features - len(order)))
    head = _train_head((features - mean) @ projection, d[seen], rgb[seen], w[seen], decoder)
    return Translator(teacher, mean, projection, head, decoder)


@torch.enable_grad()
def _train_head(g: Tensor, d: Tensor, rgb: Tensor, w: Tensor, decoder: DecoderConfig) -> Mlp:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = head_network(decoder)
    assert head is not None
    optimiser = torch.optim.Adam(head.parameters(), lr=5e-3, fused=True)
    draw = torch.Generator().manual_seed(0)
    for i in range(HEAD_STEPS):
        index = torch.randint(len(g), (HEAD_BATCH,), generator=draw)
        given = head_input(decoder, g[index], g.new_zeros(len(index), 0), d[index])
        error = (torch.sigmoid(head(given)) - rgb[index].clamp(0, 1)) ** 2
        loss = (error.sum(dim=1) * w[index]).mean()
        optimiser.param_groups[0]["lr"] = 5e-3 * (1.0 - i / HEAD_STEPS) + 1e-4
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head


def node_latents(teacher: Field, translate: Translator, index: Tensor, spacing: Tensor) -> Tensor:
    """Translated latents at nodes of a grid.

    Args:
        index: int64 [M, 3] the nodes; node i of an axis lies at spacing[i].
        spacing: [R] unit-cube coordinate of the nodes along each axis.

    Returns:
        [M, 1 + F].
    """
    parts = [translate(teacher.latent(spacing[rows])) for rows in index.split(1 << 17)]
    return torch.cat(parts) if parts else torch.zeros(0, 1 + translate.decoder.features)
