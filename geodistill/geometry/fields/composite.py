"""Two block-1 branches whose 16-d latents are summed before the shared colour head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from geodistill.geometry.fields.base import ParamGroup
from geodistill.geometry.fields.heads import Branch
from geodistill.geometry.fields.ngp import HashBranch, NgpConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, VmBranch


@dataclass(frozen=True)
class CompositeConfig:
    """A hash grid and a VM factorisation side by side."""

    ngp: NgpConfig = field(default_factory=NgpConfig)
    """The hash branch."""
    tensorf: TensorfConfig = field(default_factory=TensorfConfig)
    """The VM branch; its floor is the sum's."""


class SumBranch(Branch):
    """latent = hash latent + VM latent."""

    def __init__(self, config: CompositeConfig) -> None:
        super().__init__()
        self.hash = HashBranch(config.ngp)
        self.vm = VmBranch(config.tensorf)

    def forward(self, u: Tensor) -> Tensor:
        return self.hash(u) + self.vm(u)

    def raw(self, u: Tensor) -> Tensor:
        return self.hash.raw(u) + self.vm.raw(u)

    def raw_first(self, u: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        (a, a_at), (b, b_at) = self.hash.raw_first(u), self.vm.raw_first(u)
        return a + b, lambda index: a_at(index) + b_at(index)

    def param_groups(self) -> list[ParamGroup]:
        return [*self.hash.param_groups(), *self.vm.param_groups()]
