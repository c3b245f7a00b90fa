"""Losses by which a student learns from a teacher's features, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from geodistill import config
from geodistill.checks import UsageError, choose
from geodistill.distill.losses.base import Loss, LossSettings, Seen

S = TypeVar("S")

LOSSES = {
    "hint": "geodistill.distill.losses.hint:Hint",
    "attention": "geodistill.distill.losses.attention:Attention",
    "similarity": "geodistill.distill.losses.similarity:Similarity",
    "crd": "geodistill.distill.losses.crd:Crd",
    "ofd": "geodistill.distill.losses.ofd:Ofd",
    "ab": "geodistill.distill.losses.ab:Ab",
    "channels": "geodistill.distill.losses.channels:Channels",
    "mgd": "geodistill.distill.losses.mgd:Mgd",
    "fgd": "geodistill.distill.losses.fgd:Fgd",
    "logits": "geodistill.distill.losses.logits:Logits",
    "vcd": "geodistill.distill.losses.vcd:Vcd",
    "nst": "geodistill.distill.losses.nst:Nst",
    "fsp": "geodistill.distill.losses.fsp:Fsp",
    "kd": "geodistill.distill.losses.kd:Kd",
    "gid": "geodistill.distill.losses.gid:Gid",
    "nd": "geodistill.distill.losses.nd:Nd",
    "pld": "geodistill.distill.losses.pld:Pld",
    "ofa": "geodistill.distill.losses.ofa:Ofa",
    "acam": "geodistill.distill.losses.acam:Acam",
    "clock": "geodistill.distill.losses.clock:Clock",
    "point_distiller": "geodistill.distill.point_distiller:PointDistiller",
}

__all__ = ["LOSSES", "Loss", "LossSettings", "Seen", "build_loss", "loss_settings", "read_options"]


def _class_of(name: str) -> type[Loss]:
    module, _, kind = choose("loss", name, LOSSES).partition(":")
    return getattr(import_module(module), kind)


def loss_settings(options: Any) -> tuple[type[Loss], Any]:
    """The class and the settings of a loss that a recipe names: a mapping with `loss`, its name,
    and its options.

    Raises UsageError for an unknown loss or option, and for a number that cannot be.
    """
    if not isinstance(options, Mapping) or "loss" not in options:
        raise UsageError(
            f"a loss of a recipe is a mapping with 'loss', its name, got {config.shown(options)}"
        )
    kind = _class_of(str(options["loss"]))
    return kind, read_options(options, kind.Settings)


def read_options(options: Mapping[str, Any], settings: type[S]) -> S:
    """What a recipe says of a loss beside its name and its teacher. Raises UsageError for an
    unknown option."""
    rest = {key: value for key, value in options.items() if key not in ("loss", "teacher")}
    try:
        return config.from_dict(settings, rest)
    except UsageError as error:
        raise UsageError(f"loss {options['loss']}: {error}") from None


def build_loss(options: Any, teacher: Any, student: Any) -> Loss:
    """Make a loss.

    Args:
        options: see `loss_settings`.
        teacher, student: what they put out at the loss's tap for an example.
    """
    kind, settings = loss_settings(options)
    return kind(settings, teacher, student)  # type: ignore[call-arg]
