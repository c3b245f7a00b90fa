"""What is in the wheel."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = "geodistill/viewer/page/index.html"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is made of, with the page that this checkout has."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy2(ROOT / name, folder / name)
    without = shutil.ignore_patterns("node_modules", "dist", "__pycache__", "*.so", "*.safetensors")
    for name in ("geodistill", "viewer"):
        shutil.copytree(ROOT / name, folder / name, ignore=without)
    return folder


def wheel_of(checkout: Path, folder: Path, path: str) -> tuple[list[str], str]:
    """Names in its wheel, and what the build says; without a compiler, to be quick."""
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(folder)]
    environment = {**os.environ, "CXX": "no-compiler-here", "PATH": path}
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist(), done.stderr


def test_the_wheel_has_the_page(checkout: Path, tmp_path: Path) -> None:
    if not (ROOT / PAGE).exists():
        pytest.skip("the viewer's page was not built when this checkout was installed")
    setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    assert setup["is_current"](ROOT / PAGE), "the page is older than viewer/: install again"
    names, _ = wheel_of(checkout, tmp_path, os.environ["PATH"])
    assert PAGE in names and "geodistill/viewer/server.py" in names
    assert not [name for name in names if "node_modules" in name or name.startswith("viewer")]


def test_without_npm_there_is_a_wheel_without_the_page(checkout: Path, tmp_path: Path) -> None:
    (checkout / PAGE).unlink(missing_ok=True)
    shutil.rmtree(checkout / "build", ignore_errors=True)
    names, said = wheel_of(checkout, tmp_path, path="")
    assert PAGE not in names and "geodistill/viewer/server.py" in names
    assert "geodistill: the viewer's page was not built: npm was not found" in said


def test_the_lock_names_no_registry() -> None:
    text = (ROOT / "viewer" / "package-lock.json").read_text("utf-8")
    assert '"integrity"' in text and "http://" not in text
    hosts = {line.split('"')[3] for line in text.splitlines() if '"resolved"' in line}
    assert all(host.startswith("https://registry.npmjs.org/") for host in hosts)
