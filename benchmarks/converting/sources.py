"""Which code a figure depends on: a fingerprint of all that its entry points import."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import geodistill

ROOT = Path(geodistill.__file__).parent
COMPILED = ("*.cpp", "*.h")
PLUMBING = frozenset({"checks", "config", "log", "runs"})
"""Rooms that cannot change what is measured."""


@cache
def fingerprint(*modules: str) -> str:
    """Eight hex digits that change with the code of these modules or of what they import.

    Comments, docstrings and layout do not count.
    """
    digest = hashlib.sha256()
    for path in sorted(closure(modules)):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{essence(path)}\0".encode())
    return digest.hexdigest()[:8]


def closure(modules: Iterable[str]) -> set[Path]:
    """The files of the package that importing these modules can reach, compiled sources too."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or path in found:
            continue
        found.add(path)
        waiting += [name.rpartition(".")[0], *_imports(path, name)]
        if path.name == "__init__.py":
            found.update(file for kind in COMPILED for file in path.parent.rglob(kind))
    return found


@cache
def essence(path: Path) -> str:
    """The text of a file without what does not run."""
    text = path.read_text(encoding="utf-8")
    return without_prose(text) if path.suffix == ".py" else text


def without_prose(text: str) -> str:
    """Python source without comments, docstrings and layout."""
    return ast.unparse(_DropTexts().visit(ast.parse(text)))


class _DropTexts(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _file_of(name: str) -> Path | None:
    """The file of a module of the package, None for anything else and for plumbing."""
    first, *rest = name.split(".")
    if first != ROOT.name or not rest or rest[0] in PLUMBING:
        return None
    place = ROOT.joinpath(*rest)
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imports(path: Path, name: str) -> Iterator[str]:
    """Full names of everything a file imports; some are attributes rather than modules."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join(filter(None, [*(parents if node.level else []), node.module]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
