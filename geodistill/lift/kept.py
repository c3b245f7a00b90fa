"""Features that were found once, kept in the cache for the next start."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from geodistill.checks import InputError
from geodistill.geometry.mesh import Mesh, mesh_digest
from geodistill.lift.files import FeatureSet, load_features, save_features
from geodistill.log import say
from geodistill.runs import cache_root, make_folder
from geodistill.runs.files import remove_leftovers

MOST_BYTES = 4 << 30
"""Of all that is kept; what was not used for longest goes first."""
_STALE_S = 24 * 3600  # no process writes for so long


def kept(
    mesh: Mesh, fingerprint: str, how: Mapping[str, int], find: Callable[[], FeatureSet]
) -> FeatureSet:
    """The features of a mesh: kept ones, if all that they come from is the same, or found now.

    Args:
        mesh: with all that is seen of it.
        fingerprint: of the teacher.
        how: other numbers that the features depend on, such as how many views.
        find: how they are found.

    Raises what `find` does. A cache that cannot be read or written is said and does no harm.
    """
    path = cache_root() / "features" / f"{_digest([mesh, fingerprint, how, _code()])}.safetensors"
    if path.exists():
        try:
            found = load_features(path)
            found.expect("mesh", mesh_digest(mesh), len(mesh.vertices), path)
        except InputError as error:
            say(f"{error}: the features are found anew")
        else:
            say(f"the features are those of the last time ({path})")
            with contextlib.suppress(OSError):
                os.utime(path)
            return found
    found = find()
    try:
        make_folder(path.parent)
        save_features(path, found)
    except InputError as error:
        say(f"the features are not kept for the next time: {error}")
    else:
        _forget(path)
    return found


def _forget(newest: Path) -> None:
    """Make room for the next ones."""
    remove_leftovers(newest.parent, _STALE_S)
    left = MOST_BYTES
    with contextlib.suppress(OSError):  # another process does the same
        others = [path for path in newest.parent.glob("*.safetensors") if path != newest]
        for path in [newest, *sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)]:
            left -= path.stat().st_size
            if left < 0 and path != newest:
                path.unlink()


@functools.cache
def _code() -> str:
    """A digest of this geodistill, which may find other features than another one."""
    package = Path(__file__).parents[1]
    return _digest([path.read_bytes() for path in sorted(package.rglob("*.py"))])


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()[:32]


def _add(digest: Any, value: Any) -> None:
    """Tell a value from any other: of tensors their numbers, of dataclasses their fields."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {tuple(plain.shape)} ".encode())
        digest.update(plain.numpy().tobytes())
    elif dataclasses.is_dataclass(value):
        _add(digest, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        _add(digest, list(value.items()))
    elif isinstance(value, (list, tuple)):
        digest.update(f"{len(value)} of ".encode())
        for item in value:
            _add(digest, item)
    else:
        digest.update(f"{value!r} ".encode())
