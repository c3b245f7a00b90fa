"""Any radiance field to any other: progressive volume distillation and the default recipe.

Fang et al., "One is All: Bridging the Gap Between Neural Radiance Fields Architectures with
Progressive Volume Distillation", AAAI 2023, and its active-learning follow-up PVD-AL.
"""

from __future__ import annotations

from geodistill.distill.pvd.convert import RECIPES, ConvertSettings, convert, default_budget

__all__ = ["RECIPES", "ConvertSettings", "convert", "default_budget"]
