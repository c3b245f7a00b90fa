"""How the C++ library is built, found and chosen."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from geodistill import kernels
from geodistill.kernels import library

ROOT = Path(__file__).parents[2]
needs_library = pytest.mark.skipif(library.LIBRARY is None, reason=kernels.library_status())


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@needs_library
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_one_openmp_runtime_serves_torch_and_the_kernels() -> None:
    # Threads have run in both when the map is read.
    code = """
import torch
from geodistill import kernels
torch.set_num_threads(2)
torch.rand(1 << 20).exp()
kernels.fused_mlp(torch.rand(10000, 8), [torch.rand(8, 8)])
print(len(kernels.openmp_runtimes()), kernels.backends()["fused_mlp"]["cpu"])
"""
    assert python(code) == "1 c++"


def test_the_switch_keeps_the_library_out() -> None:
    code = """
from geodistill import kernels
print(set(v["cpu"] for v in kernels.backends().values()), kernels.library_status())
"""
    expected = "{'reference'} switched off by GEODISTILL_KERNELS=reference"
    assert python(code, GEODISTILL_KERNELS="reference") == expected


def test_other_dtypes_run_the_reference() -> None:
    x = torch.rand(5, 3, dtype=torch.float64)
    lines = [torch.rand(3, 2, dtype=torch.float64) for _ in range(3)]
    assert kernels.line_product(x, lines).dtype == torch.float64


def test_backends_names_every_kernel() -> None:
    assert list(kernels.backends()) == list(kernels.KERNELS)
    assert all(set(devices) == {"cpu", "cuda"} for devices in kernels.backends().values())


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names that setup.py defines, without running a command of it."""
    monkeypatch.setattr(sys, "argv", ["setup.py", "--version"])
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "setup.py"))


def test_without_a_compiler_the_build_goes_on(
    build: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    compile_library = build["compile_library"]
    assert callable(compile_library)
    for compiler in ("false", "no-such-compiler-anywhere"):
        monkeypatch.setenv("CXX", compiler)
        assert compile_library(tmp_path) is None
        assert "the kernels will run in pure torch" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@needs_library
def test_a_library_older_than_its_sources_is_not_used(tmp_path: Path) -> None:
    package = tmp_path / "geodistill"
    shutil.copytree(ROOT / "geodistill", package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "kernels" / "src" / "rays.cpp").open("a") as source:
        source.write("// A change.\n")
    code = "from geodistill import kernels; print(kernels.library_status())"
    found = python(code, PYTHONPATH=str(tmp_path))
    assert found == "the C++ library is older than its sources: run pip install -e . again"


@needs_library
def test_without_an_openmp_runtime_everything_runs_on_the_caller() -> None:
    code = """
import torch
from geodistill import kernels
from geodistill.kernels import library
torch.set_num_threads(4)
inputs = torch.rand(10000, 8), [torch.rand(8, 8)]
before = kernels.fused_mlp(*inputs)
library.LIBRARY.gd_use_team(None)
print(torch.equal(before, kernels.fused_mlp(*inputs)))
"""
    assert python(code) == "True"


@needs_library
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_the_kernels_use_as_many_threads_as_torch() -> None:
    code = """
import os
import torch
from geodistill import kernels
x, weights = torch.rand(10000, 8), [torch.rand(8, 8)]
torch.set_num_threads(3)
before = len(os.listdir("/proc/self/task"))
kernels.fused_mlp(x, weights)
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert python(code) == "2"
