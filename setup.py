"""Builds the kernel library and the viewer's page into the package, each where its tools are there:
without a C++ compiler the install is pure Python, without npm it has no `geodistill view`."""

from __future__ import annotations

import atexit
import hashlib
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
KERNELS = Path("geodistill", "kernels")
SOURCES = ROOT / KERNELS / "src"
SUFFIX = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
LIBRARY = KERNELS / f"_kernels.{SUFFIX}"
VIEWER = ROOT / "viewer"
PAGE = Path("geodistill", "viewer", "page", "index.html")

# No -march=native: the sources carry clones per instruction set. No -ffast-math: linking with it
# switches denormals off for the whole process. Loops are aligned, or else the speed of a short one
# would depend on the code before it.
FLAGS = [
    "-std=c++17",
    "-O3",
    "-falign-loops=32",
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


def run(command: list[str], folder: Path | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)


def build(compiler: list[str], folder: Path) -> Path:
    """Compile and link in `folder`. No OpenMP flag: the library is given torch's threads later."""
    digest = runpy.run_path(str(ROOT / KERNELS / "digest.py"))["digest"](SOURCES)
    flags = [*FLAGS, f"-DGEODISTILL_DIGEST={digest}u"]
    objects = {source: folder / f"{source.stem}.o" for source in sorted(SOURCES.glob("*.cpp"))}
    commands = [[*compiler, *flags, "-c", str(s), "-o", str(o)] for s, o in objects.items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, commands))
    library = folder / LIBRARY.name
    run([*compiler, "-shared", *map(str, objects.values()), "-o", str(library)])
    return library


def compile_library(folder: Path) -> Path | None:
    """The library, built in `folder`; None, and a line that says why, where that is impossible."""
    reason = "no C++ compiler was found"
    for compiler in compilers():
        try:
            return build(compiler, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = str(getattr(error, "stderr", None) or error).strip()
    print(f"geodistill: the kernels will run in pure torch: {reason}", file=sys.stderr)
    return None


@cache
def compiled() -> Path | None:
    """The library, built once for all the commands of one run of this file."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return compile_library(folder)


def place(target: Path) -> None:
    """Put the library there, or make sure that no older one is left."""
    library = compiled()
    if library is None:
        target.unlink(missing_ok=True)
        return
    # Renamed into place: a running process may have the old file mapped.
    fresh = target.with_name(target.name + ".new")
    shutil.copy2(library, fresh)
    fresh.replace(target)


def page_sources() -> bytes:
    """The digest that viewer/build.mjs writes into the page: what it was made of."""
    sources = [path for path in (VIEWER / "src").rglob("*") if path.is_file()]
    sources += [VIEWER / "build.mjs", VIEWER / "package-lock.json"]
    found = hashlib.sha256()
    for name, path in sorted((path.relative_to(VIEWER).as_posix(), path) for path in sources):
        content = path.read_bytes()
        found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()[:16].encode()


def is_current(page: Path) -> bool:
    mark = b'<meta name="sources" content="%s">' % page_sources()
    return page.is_file() and mark in page.read_bytes()


def build_page(target: Path) -> None:
    """Build the viewer's page there, unless it is there and up to date; without npm none is left,
    and a line says why."""
    if is_current(target):
        return
    if is_current(ROOT / PAGE):  # of a source distribution, or built before
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / PAGE, target)
        return
    npm, node = shutil.which("npm"), shutil.which("node")
    reason = "npm was not found"
    if npm and node:
        try:
            for command in ([npm, "ci", "--no-audit", "--no-fund"], [node, "build.mjs", "page"]):
                run(command, VIEWER)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(VIEWER / "dist" / "index.html", target)
            return
        except (OSError, subprocess.CalledProcessError) as error:
            reason = str(getattr(error, "stderr", None) or error).strip()
    target.unlink(missing_ok=True)
    print(f"geodistill: the viewer's page was not built: {reason}", file=sys.stderr)


class BuildPy(build_py):
    """Adds library and page to what is built; an editable install gets them in the source tree."""

    def run(self) -> None:
        super().run()
        base = ROOT if self.editable_mode else Path(self.build_lib)
        place(base / LIBRARY)
        build_page(base / PAGE)


class Wheel(bdist_wheel):
    """One wheel per platform for every Python: the library does not know the Python ABI."""

    def run(self) -> None:
        self.root_is_pure = compiled() is None
        # Decides between purelib and platlib; there are no extension modules to ask.
        self.distribution.has_ext_modules = lambda: not self.root_is_pure
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildPy, "bdist_wheel": Wheel})
