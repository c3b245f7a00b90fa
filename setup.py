"""Builds the kernel library into the package; without a C++ compiler the install is pure Python."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "geodistill" / "kernels" / "src"
SUFFIX = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
LIBRARY = Path("geodistill", "kernels", f"_kernels.{SUFFIX}")

# No -march=native: the sources carry clones per instruction set. No -ffast-math: linking with it
# switches denormals off for the whole process.
FLAGS = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
]


def compilers() -> list[list[str]]:
    if "CXX" in os.environ:
        return [shlex.split(os.environ["CXX"])]
    return [[name] for name in ("g++", "clang++", "c++") if shutil.which(name)]


def attempt(compiler: list[str], openmp: bool, target: Path, folder: Path) -> None:
    """Compile and link. The OpenMP runtime is left out of the link where that is possible.

    Its symbols are then found in the runtime that torch has loaded, whatever that one is called,
    and no second runtime comes into the process. clang on Linux calls and links one of its own.
    """
    flags = [*FLAGS, *(["-fopenmp"] if openmp else [])]
    objects = []
    for source in sorted(SOURCES.glob("*.cpp")):
        objects.append(str(folder / source.with_suffix(".o").name))
        command = [*compiler, *flags, "-c", str(source), "-o", objects[-1]]
        subprocess.run(command, check=True, capture_output=True, text=True)
    shared = ["-dynamiclib", "-undefined", "dynamic_lookup"] if SUFFIX == "dylib" else ["-shared"]
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout
    runtime = ["-fopenmp"] if openmp and "clang" in version and SUFFIX == "so" else []
    target.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: a running process may have the old file mapped.
    fresh = target.with_name(target.name + ".new")
    command = [*compiler, *shared, *runtime, *objects, "-o", str(fresh)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    fresh.replace(target)


def compile_library(target: Path) -> bool:
    """Write the library to `target`; False, and a line that says why, where that is impossible."""
    reason = "no C++ compiler was found"
    for compiler in compilers():
        for openmp in (True, False):
            try:
                with tempfile.TemporaryDirectory() as folder:
                    attempt(compiler, openmp, target, Path(folder))
                return True
            except (OSError, subprocess.CalledProcessError) as error:
                reason = str(getattr(error, "stderr", None) or error).strip()
    print(f"geodistill: the kernels will run in pure torch: {reason}", file=sys.stderr)
    return False


class BuildPy(build_py):
    """Adds the library to what is built; an editable install gets it in the source tree."""

    def run(self) -> None:
        super().run()
        compile_library((ROOT if self.editable_mode else Path(self.build_lib)) / LIBRARY)


class Wheel(bdist_wheel):
    """One wheel per platform for every Python: the library does not know the Python ABI."""

    def finalize_options(self) -> None:
        super().finalize_options()
        with tempfile.TemporaryDirectory() as folder:
            self.root_is_pure = not compile_library(Path(folder) / LIBRARY.name)

    def get_tag(self) -> tuple[str, str, str]:
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": Wheel})
