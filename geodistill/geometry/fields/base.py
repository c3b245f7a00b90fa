"""The radiance-field protocol every architecture follows.

A field lives in its own unit cube [-1, 1]^3 and carries the similarity that places the cube in the
user's world, the occupancy grid outside which it is transparent, and the cameras it was seen from.
It is split in the two blocks of progressive volume distillation (Fang et al., AAAI 2023, sec. 3):
`latent` maps positions to a vector, `sigma_of` and `rgb_of` decode that vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from geodistill.cameras import Camera, Similarity
from geodistill.checks import check
from geodistill.geometry.contraction import Contraction, contract

OCCUPANCY_RESOLUTION = 128


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that train alike.

    `rule` is "adam"; "lazy-adam" for tables [rows, C] of which a step touches few rows; or "muon"
    for the matrices of a wide network. `eps` is the first two rules': gradients far below it move a
    parameter in proportion to their size instead of as much as any other.
    """

    params: list[nn.Parameter]
    lr: float
    rule: Literal["adam", "lazy-adam", "muon"] = "adam"
    eps: float = 1e-15


class Field(nn.Module):
    """A volumetric scene: density and view-dependent colour at any point.

    Attributes:
        architecture: name in `ARCHITECTURES`.
        latent_kind: fields that name the same kind share what their latents mean; None if the
            latent is not comparable with any other architecture's.
        config: the frozen dataclass that built it.
        occupancy: bool [G, G, G] over the unit cube, index [ix, iy, iz]; the field is transparent
            where it is False.
        world_from_field: [4, 4] similarity.
        views: cameras in the world that the field was made from, or None.
        color_space: "srgb" (display-referred) or "linear".
        contraction: how all of space goes into the unit cube (`geometry.contraction`), or "none".
    """

    latent_kind: ClassVar[str | None] = None
    occupancy: Tensor
    world_from_field: Tensor

    def __init__(self, architecture: str, config: Any) -> None:
        super().__init__()
        self.architecture = architecture
        self.config = config
        self.views: Camera | None = None
        self.color_space = "srgb"
        self.contraction: Contraction = "none"
        grid = torch.ones((OCCUPANCY_RESOLUTION,) * 3, dtype=torch.bool)
        self.register_buffer("occupancy", grid)
        self.register_buffer("world_from_field", torch.eye(4, dtype=torch.float64))

    # -- the two blocks, in the unit cube ----------------------------------------------------

    def latent(self, u: Tensor) -> Tensor:
        """Block 1: [N, 3] in the unit cube -> [N, C]."""
        raise NotImplementedError

    def sigma_of(self, latent: Tensor) -> Tensor:
        """Density per unit-cube length (contracted: of v), never negative. [N, C] -> [N]"""
        raise NotImplementedError

    def rgb_of(self, latent: Tensor, directions: Tensor) -> Tensor:
        """Block 2: [N, C] and unit directions [N, 3] -> [N, 3], never negative.

        Harmonics may exceed 1, which an image clips; the colour head cannot.
        """
        raise NotImplementedError

    def sigma(self, u: Tensor) -> Tensor:
        """Density per unit-cube length at [N, 3], without the occupancy grid. [N]"""
        return self.sigma_of(self.latent(u))

    def sigma_first(self, u: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Density at [N, 3], and the way from indices [K] of these points to their latents [K, C].

        What only the latent needs is left undone until then, where that saves something.
        """
        latent = self.latent(u)
        return self.sigma_of(latent), lambda index: latent.index_select(0, index)

    def param_groups(self) -> list[ParamGroup]:
        """Parameters with the learning rates that suit the architecture."""
        raise NotImplementedError

    # -- the same in the user's world --------------------------------------------------------

    @property
    def frame(self) -> Similarity:
        """Unit cube to world: x_world = s R u + t; of a contracted field, its space v to world."""
        return Similarity.from_matrix(self.world_from_field)

    @property
    def device(self) -> torch.device:
        return self.occupancy.device

    def density(self, x: Tensor) -> Tensor:
        """Density per world unit.

        Args:
            x: [N, 3] world positions.

        Returns:
            [N]; zero outside the bounds and outside the occupancy grid.

        Raises:
            ShapeError: x is not [N, 3].
        """
        check(x=(x, "N 3"))
        u = self._unit(x)
        inside = self.occupied(u)
        out = torch.zeros(x.shape[0], dtype=u.dtype, device=u.device)
        index = inside.nonzero()[:, 0]
        return out.index_put((index,), self.sigma(u[index]) / float(self.frame.s))

    def color(self, x: Tensor, d: Tensor) -> Tensor:
        """Colour at world positions x [N, 3] seen along unit directions d [N, 3]. [N, 3]

        Raises:
            ShapeError: x or d is not [N, 3].
        """
        check(x=(x, "N 3"), d=(d, "N 3"))
        u = self._unit(x).clamp(-1.0, 1.0)
        return self.rgb_of(self.latent(u), d.to(u) @ self.frame.R.to(u))

    def occupied(self, u: Tensor) -> Tensor:
        """Which unit-cube points lie in an occupied cell. [N, 3] -> bool [N]"""
        size = self.occupancy.shape[0]
        cell = torch.floor((u + 1.0) * (size / 2)).long()
        inside = ((u >= -1.0) & (u < 1.0)).all(dim=-1)
        ix, iy, iz = cell.clamp(0, size - 1).unbind(-1)
        return inside & self.occupancy[ix, iy, iz]

    def _unit(self, x: Tensor) -> Tensor:
        reference = next(self.parameters(), self.world_from_field)
        return contract(self.frame.inverse().apply(x.double()), self.contraction).to(
            reference.dtype
        )

    def copy_scene_from(self, other: Field) -> None:
        """Take over the frame, contraction, occupancy, cameras and colours of another field."""
        self.occupancy = other.occupancy.clone()
        self.world_from_field = other.world_from_field.clone()
        self.views, self.color_space = other.views, other.color_space
        self.contraction = other.contraction

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())
