"""Splats as parameters with their optimiser: what every way of training them has in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from geodistill.geometry.fields import ParamGroup
from geodistill.geometry.splats import Splats
from geodistill.train.optimiser import Optimiser

NAMES = ("means", "rotations", "log_scales", "opacity_logits", "base_sh", "more_sh")


class TrainedSplats:
    """N splats that are being trained, and how fast each of their parameters moves.

    parameters: those of `Splats` by name; the harmonics are base_sh [N, 1, 3] of degree 0 and
        more_sh [N, K - 1, 3] of the others, which learn at rates of their own.
    rates: learning rates by name.
    """

    def __init__(
        self, splats: Splats, rates: Mapping[str, float], device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        values = {name: getattr(splats, name) for name in NAMES[:4]}
        values |= {"base_sh": splats.sh[:, :1], "more_sh": splats.sh[:, 1:]}
        self.rates = rates
        self._take(values)

    def _take(self, values: Mapping[str, Tensor]) -> None:
        self.parameters = {
            name: nn.Parameter(values[name].detach().clone().to(self.device)) for name in NAMES
        }
        self.optimiser = self._optimiser()

    def _optimiser(self, before: Optimiser | None = None) -> Optimiser:
        groups = [ParamGroup([p], self.rates[name]) for name, p in self.parameters.items()]
        return Optimiser(groups, before)

    def __len__(self) -> int:
        return len(self.parameters["means"])

    def splats(self, degree: int = 3) -> Splats:
        """Differentiable, with harmonics up to `degree` of those that there are."""
        p = self.parameters
        sh = torch.cat([p["base_sh"], p["more_sh"][:, : (degree + 1) ** 2 - 1]], dim=1)
        return Splats(p["means"], p["rotations"], p["log_scales"], p["opacity_logits"], sh)

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Go on with other learning rates."""
        self.rates = rates
        self.optimiser = self._optimiser(before=self.optimiser)

    def state(self) -> dict[str, Tensor]:
        """The parameters, to be stored beside the optimiser's state."""
        return {f"param.{name}": p.detach() for name, p in self.parameters.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; moments begin at zero."""
        self._take({name: tensors[f"param.{name}"] for name in NAMES})
