"""Outputs of the parts of a network, by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.checks import UsageError, suggest
from geodistill.nn.precision import lifted
from geodistill.nn.sparse import SparseMap


class Taps:
    """Keeps what named parts of a network put out whenever it runs; of a sparse map its features.

    Attributes:
        outputs: by the parts' names, of the last run.
    """

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        """Raises UsageError for a part that the network does not have."""
        self.outputs: dict[str, Any] = {}
        parts = dict(network.named_modules())
        self._handles = []
        for name in dict.fromkeys(names):
            if name not in parts or not name:
                top = ", ".join(child for child, _ in network.named_children())
                near = suggest(name, parts)
                inner = next((part for part in parts if "." in part), top)
                raise UsageError(
                    f"the network has no part '{name}'{near}; its parts are {top}, and what is in "
                    f"them, such as {inner}"
                )
            self._handles.append(parts[name].register_forward_hook(self._keep(name)))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            features = output.features if isinstance(output, SparseMap) else output
            self.outputs[name] = _all_lifted(features)

        return keep


class _AllSeen(Exception):
    """Ends a run when nothing more of it is wanted."""


@torch.no_grad()
def run_until(
    network: nn.Module, batch: Any, names: Iterable[str], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run a network just so far that all named parts have put something out: by name, detached.

    Args:
        known: what other parts put out for this batch, by their names: maps among these are not
            computed again, nor what serves these alone.

    Raises UsageError for a part that the network does not have, or that does not run.
    """
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    taps = Taps(network, wanted)

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        if len(taps.outputs) == len(wanted):
            raise _AllSeen

    parts = dict(network.named_modules())
    stops = [parts[name].register_forward_hook(stop) for name in wanted]
    # A part stays as it is where something in it is wanted.
    skipped = {
        name: value
        for name, value in (known or {}).items()
        if isinstance(value, Tensor)
        and value.dim() == 4
        and not any(f"{one}.".startswith(f"{name}.") for one in wanted)
    }
    replaced: list[tuple[nn.Module, str, Any]] = [
        (parts[name], "forward", value) for name, value in skipped.items()
    ]
    # What is before the backbone's stages serves these alone, and these the neck.
    stages = [name for name in parts if name.rpartition(".")[0] == "backbone.stages"]
    ahead = {name.partition(".")[0] for name in wanted}
    if stages and (
        (ahead <= {"neck", "head"} and skipped.keys() >= set(stages))
        or (ahead == {"head"} and "neck" in skipped)
    ):
        replaced.append((network, "maps", [skipped.get(name) for name in stages]))
    for part, method, value in replaced:
        setattr(part, method, lambda *_, value=value: value)
    try:
        network(batch)
    except _AllSeen:
        pass
    finally:
        taps.remove()
        for handle in stops:
            handle.remove()
        for part, method, _ in replaced:
            delattr(part, method)
    silent = [name for name in wanted if name not in taps.outputs]
    if silent:
        raise UsageError(f"nothing can be compared at '{silent[0]}': it does not run with the rest")
    return {name: taps.outputs[name] for name in wanted}


def _all_lifted(value: Any) -> Any:
    """Maps may be computed in less, but are compared in float32."""
    if isinstance(value, Tensor):
        return lifted(value)
    return [_all_lifted(one) for one in value] if isinstance(value, list | tuple) else value
