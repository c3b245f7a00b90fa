"""How the nuScenes benchmark splits the scenes of its versions."""

from __future__ import annotations

from collections.abc import Iterable

VAL = (
    "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 "
    "632-638 770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 "
    "1059-1073"
)
"""Numbers of 150 scenes; the other 700 of v1.0-trainval are for training."""
MINI_VAL = "103 916"
"""Of v1.0-mini; its other 8 are for training."""


def splits(version: str, scenes: Iterable[str]) -> dict[str, set[str]]:
    """Names of the scenes of each split that a version such as "v1.0-mini" has.

    Source: nuScenes devkit, utils/splits.py. The splits mini_train and mini_val of v1.0-mini are
    its "train" and "val" too.
    """
    everything = set(scenes)
    if version == "v1.0-test":
        return {"test": everything}
    held_out = {"v1.0-trainval": VAL, "v1.0-mini": MINI_VAL}.get(version)
    if held_out is None:
        return {}
    val = _numbered(held_out)
    found = {"train": everything - val, "val": everything & val}
    if version == "v1.0-mini":
        found |= {f"mini_{name}": part for name, part in found.items()}
    return found


def _numbered(text: str) -> set[str]:
    names = set()
    for part in text.split():
        first, _, last = part.partition("-")
        names |= {f"scene-{number:04d}" for number in range(int(first), int(last or first) + 1)}
    return names
