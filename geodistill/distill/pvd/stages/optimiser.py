"""The PVD recipe's optimiser: AdamW with a rate for each part of each architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from geodistill.distill.pvd.stages.settings import PvdSettings
from geodistill.geometry.fields import Field, ParamGroup
from geodistill.geometry.fields.mlp import MlpBranch
from geodistill.geometry.fields.tensorf import FactoredBranch
from geodistill.train.optimiser import BETAS, Optimiser


def make_optimiser(student: Field, settings: PvdSettings) -> AdamW:
    """AdamW with the recipe's rates for this architecture."""
    kinds = [type(module) for module in student.modules()]
    factored = any(issubclass(kind, FactoredBranch) for kind in kinds)
    main, heads = [], []
    for name, p in student.named_parameters():
        head = factored and (name.startswith("color_head.") or name.endswith("basis"))
        (heads if head else main).append(p)
    lr = settings.mlp_lr if MlpBranch in kinds else settings.lr
    groups = [
        ParamGroup(main, lr),
        ParamGroup(heads, settings.tensorf_head_lr),
    ]
    return AdamW(groups, settings.weight_decay)


class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), dense for every group.

    A parameter without a gradient is left as it is, and its own count of steps with it.
    """

    def __init__(self, groups: Sequence[ParamGroup], weight_decay: float) -> None:
        super().__init__([])
        groups = [g for g in groups if g.params]
        self._rates = [g.lr for g in groups]
        self._inner = torch.optim.AdamW(
            [{"params": g.params, "eps": g.eps} for g in groups],
            betas=BETAS,
            weight_decay=weight_decay,
            fused=True,
        )
        self._params = [p for g in groups for p in g.params]

    def step(self, lr_scale: float) -> None:
        self.count += 1
        for group, rate in zip(self._inner.param_groups, self._rates, strict=True):
            group["lr"] = rate * lr_scale
        self._inner.step()
        self._inner.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        tensors = {}
        for i, p in enumerate(self._params):
            known = self._inner.state.get(p)
            for name, key in (("m", "exp_avg"), ("v", "exp_avg_sq"), ("step", "step")):
                empty = torch.zeros(()) if name == "step" else torch.zeros_like(p)
                tensors[f"optimiser.{i}.{name}"] = known[key] if known else empty
        return tensors

    def load(self, state: Mapping[str, Tensor], count: int) -> None:
        self.count = count
        for i, p in enumerate(self._params):
            self._inner.state[p] = {
                "step": state[f"optimiser.{i}.step"].to(p.device).clone(),
                "exp_avg": state[f"optimiser.{i}.m"].to(p.device).clone(),
                "exp_avg_sq": state[f"optimiser.{i}.v"].to(p.device).clone(),
            }
