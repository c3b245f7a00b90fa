"""From latent to density and colour as other programs do it, so that their files are read exactly.

Conventions differ in the activation of density, in what the colour network is given, and in the
box that a grid spans. Which program uses which is in docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.geometry.fields.activations import spherical_harmonics, truncated_exp
from geodistill.geometry.fields.base import Field, ParamGroup
from geodistill.geometry.fields.heads import (
    HEAD_LR,
    LATENT,
    Branch,
    Mlp,
    limited,
    limited_raw,
)

NOWHERE = -1e9
"""Raw density outside of a field's box: every activation makes it zero."""


@dataclass(frozen=True)
class DecoderConfig:
    """What is made of [raw density, features]. The defaults are torch-ngp's and PVD's."""

    density: Literal["exp", "softplus", "relu"] = "exp"
    """Activation of the raw density."""
    density_shift: float = 0.0
    """Added to the raw density before the activation."""
    density_scale: float = 1.0
    """What the activation is multiplied by, for density per unit-cube length."""
    features: int = LATENT - 1
    """Appearance features."""
    head: Literal["harmonics", "frequencies", "sh"] = "harmonics"
    """Network on harmonics of the direction; network on sines; or features that are harmonics."""
    width: int = 64
    """Of the network's hidden layers."""
    layers: int = 2
    """Hidden layers of the network."""
    bias: bool = False
    """Whether the network's layers have biases."""
    view_frequencies: tuple[float, ...] = ()
    """Of the sines of the direction."""
    feature_frequencies: tuple[float, ...] = ()
    """Of the sines of the features."""
    position_frequencies: tuple[float, ...] = ()
    """Of the sines of the position."""
    positions: bool = False
    """Whether the network sees the position."""


PLAIN = DecoderConfig()


class Decoded(Protocol):
    """The config of a branch with a decoder."""

    @property
    def decoder(self) -> DecoderConfig: ...
    @property
    def box(self) -> tuple[float, ...]: ...
    @property
    def limits(self) -> tuple[float, ...]: ...


class DecodedField(Field):
    """A branch whose latent is [raw, features], and the decoder that its config names.

    The branch spans the config's box (its low and high corner in the unit cube, all of it when
    empty); outside of the box the field is transparent.
    """

    def __init__(self, architecture: str, config: Decoded, branch: Branch) -> None:
        super().__init__(architecture, config)
        self.branch, self.decoder = branch, config.decoder
        self.color_head = head_network(config.decoder)
        self.box, self.limits = box_corners(config.box), config.limits

    def latent(self, u: Tensor) -> Tensor:
        """[raw, features], and the position if the colour network sees it. [N, C]"""
        latent = limited(self.branch(self._in_box(u)), self.limits)
        if self.box is not None:
            latent = torch.cat([self._bounded(latent[:, 0], u)[:, None], latent[:, 1:]], dim=1)
        return torch.cat([latent, u], dim=1) if sees_positions(self.decoder) else latent

    def sigma(self, u: Tensor) -> Tensor:
        raw = limited_raw(self.branch.raw(self._in_box(u)), self.limits)
        return self._density(self._bounded(raw, u))

    def sigma_first(self, u: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        raw, rest = self.branch.raw_first(self._in_box(u))

        def latent_at(index: Tensor) -> Tensor:
            latent = limited(rest(index), self.limits)
            seen = sees_positions(self.decoder)
            return torch.cat([latent, u[index]], dim=1) if seen else latent

        return self._density(self._bounded(limited_raw(raw, self.limits), u)), latent_at

    def sigma_of(self, latent: Tensor) -> Tensor:
        return self._density(latent[:, 0])

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        features, positions = latent[:, 1:].tensor_split([self.decoder.features], dim=1)
        if self.color_head is None:
            return harmonic_color(features, directions)
        given = head_input(self.decoder, features, positions, directions)
        return torch.sigmoid(self.color_head(given))

    def param_groups(self) -> list[ParamGroup]:
        groups = self.branch.param_groups()
        if self.color_head is not None:
            groups.append(ParamGroup(list(self.color_head.parameters()), HEAD_LR))
        return groups

    def _density(self, raw: Tensor) -> Tensor:
        shifted = raw + self.decoder.density_shift
        return self.decoder.density_scale * _ACTIVATIONS[self.decoder.density](shifted)

    def _in_box(self, u: Tensor) -> Tensor:
        if self.box is None:
            return u
        low, high = self.box.to(u)
        return (2.0 * (u - low) / (high - low) - 1.0).clamp(-1.0, 1.0)

    def _bounded(self, raw: Tensor, u: Tensor) -> Tensor:
        if self.box is None:
            return raw
        low, high = self.box.to(u)
        inside = ((u >= low) & (u <= high)).all(dim=1)
        return torch.where(inside, raw, NOWHERE)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": truncated_exp,
    "softplus": F.softplus,
    "relu": F.relu,
}


def raw_density(sigma: Tensor, decoder: DecoderConfig) -> Tensor:
    """The raw density that is decoded to sigma > 0; of a ReLU the positive one."""
    activated = sigma / decoder.density_scale
    if decoder.density == "exp":
        raw = activated.log()
    elif decoder.density == "softplus":
        raw = activated + torch.log(-torch.expm1(-activated))
    else:
        raw = activated
    return raw - decoder.density_shift


def is_plain(config: Any) -> bool:
    """Whether a field of this config has the 16-d latent and the head that our own share."""
    return getattr(config, "decoder", PLAIN) == PLAIN and not getattr(config, "box", ())


def head_network(decoder: DecoderConfig) -> Mlp | None:
    """The colour network, freshly initialised; None where the features are harmonics."""
    if decoder.head == "sh":
        return None
    hidden = [decoder.width] * decoder.layers
    return Mlp(head_width(decoder), *hidden, 3, bias=decoder.bias)


def head_width(decoder: DecoderConfig) -> int:
    """Inputs of the colour network."""
    if decoder.head == "harmonics":
        return 16 + decoder.features
    encoded = decoder.features * (1 + 2 * len(decoder.feature_frequencies))
    encoded += 3 * (1 + 2 * len(decoder.view_frequencies))
    return encoded + 3 * sees_positions(decoder) * (1 + 2 * len(decoder.position_frequencies))


def head_input(
    decoder: DecoderConfig, features: Tensor, positions: Tensor, directions: Tensor
) -> Tensor:
    """What the colour network is given.

    harmonics: [SH16(d), features].  frequencies: [features, d, u, sines of u, of the features, of
    d], without u where it is not seen.

    Args:
        features: [N, F]; positions: [N, 3], or [N, 0] where they are not seen; directions: [N, 3].
    """
    if decoder.head == "harmonics":
        return torch.cat([spherical_harmonics(directions, 3), features], dim=1)
    return torch.cat(
        [
            features,
            directions,
            positions,
            sines(positions, decoder.position_frequencies),
            sines(features, decoder.feature_frequencies),
            sines(directions, decoder.view_frequencies),
        ],
        dim=1,
    )


def sees_positions(decoder: DecoderConfig) -> bool:
    return decoder.positions or bool(decoder.position_frequencies)


def sines(x: Tensor, frequencies: Sequence[float]) -> Tensor:
    """[sin(f x), cos(f x)] for each frequency f. [N, D] -> [N, 2 D F]"""
    scaled = x[:, None, :] * torch.tensor(frequencies, dtype=x.dtype, device=x.device)[:, None]
    return torch.stack([scaled.sin(), scaled.cos()], dim=2).flatten(1)


def harmonic_color(features: Tensor, directions: Tensor) -> Tensor:
    """max(SH(d) . k + 1/2, 0) of coefficients [N, 3 K], channel after channel. [N, 3]"""
    return (harmonic_sums(features, directions) + 0.5).clamp_min(0.0)


def harmonic_sums(features: Tensor, directions: Tensor) -> Tensor:
    """SH(d) . k of coefficients [N, 3 K], channel after channel. [N, 3]"""
    degree = round((features.shape[1] / 3) ** 0.5) - 1
    basis = spherical_harmonics(directions, degree)
    return (features.unflatten(1, (3, -1)) * basis[:, None, :]).sum(dim=-1)


def box_corners(box: tuple[float, ...]) -> Tensor | None:
    """[2, 3], low and high; None for the whole cube."""
    return torch.tensor(box).view(2, 3) if box else None


def check_decoder(decoder: DecoderConfig, prefix: str) -> None:
    """Raise UsageError for a decoder that cannot be."""
    if decoder.head == "sh" and decoder.features not in (3, 12, 27, 48):
        raise UsageError(
            f"'{prefix}features' must be 3, 12, 27 or 48 for a head of harmonics, got "
            f"{decoder.features}"
        )
    if decoder.density_scale <= 0:
        raise UsageError(f"'{prefix}density_scale' must be positive, got {decoder.density_scale}")


def check_limits(limits: tuple[float, ...]) -> None:
    """Raise UsageError unless it is empty or one or two ranges."""
    ranges = list(zip(limits[::2], limits[1::2], strict=False))
    if len(limits) not in (0, 2, 4) or any(low > high for low, high in ranges):
        raise UsageError(f"'limits' must be one or two ranges, low before high, got {list(limits)}")


def check_box(box: tuple[float, ...]) -> None:
    """Raise UsageError unless it is empty or two corners in the unit cube."""
    if not box:
        return
    if len(box) != 6 or any(a >= b for a, b in zip(box[:3], box[3:], strict=False)):
        raise UsageError(f"'box' must be a low and a high corner, got {list(box)}")
    if min(box) < -1.0 - 1e-6 or max(box) > 1.0 + 1e-6:
        raise UsageError(f"'box' must lie in the unit cube, got {list(box)}")
