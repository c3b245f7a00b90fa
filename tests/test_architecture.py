"""The house rules that a machine can check: the direction of imports, and a few forbidden words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import geodistill

ROOT = Path(geodistill.__file__).parent

# A room may import the rooms named before it, never one named after it.
ROOMS = (
    "checks",
    "config",
    "log",
    "runs",
    "dist",
    "kernels",
    "cameras",
    "rays",
    "io",
    "footprint",
    "geometry",
    "render",
    "shade",
    "lift",
    "detect",
    "nn",
    "teachers",
    "convert",
    "simulate",
    "metrics",
    "train",
    "fit",
    "distill",
    "deform",
    "viewer",
    "cli",
)

LONGEST_FILE = 400


def sources() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room of a file; the package's own __init__ and __main__ stand outside every room."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first in ("__init__", "__main__") else first


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported anywhere in a file, functions included.

    Texts such as "geodistill.fit.field" count too: tables of modules are imports that come later.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.split(":")[0]
            if re.fullmatch(r"geodistill(\.\w+)+", name):
                yield node.lineno, name


def climbing(text: str, path: Path) -> list[str]:
    """What a file imports against the direction of the house."""
    room = room_of(path)
    if not room:
        return []
    if room not in ROOMS:
        return [f"{path.name}: unknown room '{room}': name it in ROOMS and in the design"]
    package = ".".join(("geodistill", *path.relative_to(ROOT).parent.parts))
    found = []
    for line, name in imported(ast.parse(text), package):
        parts = name.split(".")
        if parts[0] != "geodistill" or parts[1:] == ["__version__"]:
            continue
        where = f"{path.relative_to(ROOT)}:{line}"
        other = parts[1] if len(parts) > 1 else ""
        if other not in ROOMS:
            found.append(f"{where} imports '{name}', which is in no room")
        elif ROOMS.index(other) > ROOMS.index(room):
            found.append(f"{where} climbs: {room} imports {other}")
    return found


def forbidden(text: str, path: Path) -> list[str]:
    """Words that no file may hold, whatever they are for."""
    where = path.relative_to(ROOT)
    found = []
    if (length := text.count("\n")) > LONGEST_FILE:
        found.append(f"{where} has {length} lines: make it a folder of the same name")
    tree = ast.parse(text)
    for line, name in imported(tree, ""):
        root = name.split(".")[0]
        if root in ("pickle", "dill", "cloudpickle", "shelve"):
            found.append(f"{where}:{line} imports {root}: nothing here unpickles")
        if root == "yaml" and room_of(path) != "config":
            found.append(f"{where}:{line} imports yaml: the YAML code is in config")
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        name = ast.unparse(node.func)
        if node.func.attr == "cuda":
            found.append(f"{where}:{node.lineno} calls .cuda(): pass a device")
        if name == "torch.load" and not is_true(options.get("weights_only")):
            found.append(f"{where}:{node.lineno} calls torch.load without weights_only=True")
        if is_true(options.get("allow_pickle")):
            found.append(f"{where}:{node.lineno} allows pickle")
    return found


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def test_imports_go_one_way() -> None:
    found = [line for path in sources() for line in climbing(path.read_text("utf-8"), path)]
    assert not found, "\n".join(found)


def test_forbidden_words() -> None:
    found = [line for path in sources() for line in forbidden(path.read_text("utf-8"), path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "file, text, complaint",
    [
        ("fit/x.py", "import geodistill.cli", "climbs: fit imports cli"),
        ("fit/x.py", "from geodistill.distill import pvd", "climbs: fit imports distill"),
        ("fit/x.py", "from geodistill import distill", "climbs: fit imports distill"),
        ("fit/x.py", "def f():\n    from geodistill.distill.pvd import g", "fit/x.py:2 climbs"),
        ("fit/x.py", "from ..distill import pvd", "climbs: fit imports distill"),
        ("fit/x.py", "from .. import distill", "climbs: fit imports distill"),
        ("fit/x.py", "if TYPE_CHECKING:\n    from geodistill.cli import main", "climbs"),
        ("fit/x.py", "TABLE = {'a': 'geodistill.distill.pvd:convert'}", "climbs"),
        ("fit/x.py", "from geodistill import load_field", "which is in no room"),
        ("fit/x.py", "import geodistill", "which is in no room"),
        ("fit/x.py", "import geodistill.models", "'geodistill.models', which is in no room"),
        ("checks.py", "from geodistill.config import load", "climbs: checks imports config"),
        ("models/x.py", "", "unknown room 'models'"),
    ],
)
def test_a_climbing_import_is_found(file: str, text: str, complaint: str) -> None:
    found = climbing(text, ROOT / file)
    assert len(found) == 1 and complaint in found[0]


@pytest.mark.parametrize(
    "file, text",
    [
        (
            "fit/x.py",
            "from geodistill.geometry.fields import Field\nfrom . import growth\nimport torch",
        ),
        ("cli/x.py", "def f():\n    from geodistill.distill.convert import run_convert"),
        ("runs/x.py", "from geodistill import __version__\nfrom geodistill import config"),
        ("__init__.py", "TABLE = {'Field': 'geodistill.geometry.fields:Field'}"),
    ],
)
def test_a_proper_import_is_allowed(file: str, text: str) -> None:
    assert climbing(text, ROOT / file) == []


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("x = model.cuda()", "calls .cuda()"),
        ("x = torch.load(path)", "without weights_only=True"),
        ("x = torch.load(path, weights_only=False)", "without weights_only=True"),
        ("x = np.load(path, allow_pickle=True)", "allows pickle"),
        ("def f():\n    import pickle", "imports pickle"),
        ("import yaml", "the YAML code is in config"),
        ("x = 1\n" * 401, "has 401 lines"),
    ],
)
def test_a_forbidden_word_is_found(text: str, complaint: str) -> None:
    found = forbidden(text, ROOT / "fit" / "x.py")
    assert len(found) == 1 and complaint in found[0]


def test_allowed_words() -> None:
    text = "torch.cuda.is_available()\ntorch.load(p, weights_only=True)\nnp.load(p)\n"
    assert forbidden(text, ROOT / "fit" / "x.py") == []


# What an import costs


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


HEAVY = "[name for name in ('torch', 'numpy', 'rich', 'PIL', 'yaml') if name in sys.modules]"


def test_import_geodistill_is_light() -> None:
    code = f"import sys, time, geodistill; print({HEAVY}); print(time.process_time())"
    heavy, seconds = run(code)
    assert heavy == "[]"
    assert float(seconds) < 0.1


@pytest.mark.parametrize("argv", [["--help"], ["convert", "--help"], ["fit", "--help"]])
def test_help_is_light(argv: list[str]) -> None:
    code = (
        "import sys, time; from geodistill.cli import main; "
        f"main({argv}); print({HEAVY}); print(time.process_time())"
    )
    *_, heavy, seconds = run(code)
    assert heavy == "[]"
    assert float(seconds) < 0.3


# The public names


def test_public_names_do_not_hide_rooms() -> None:
    assert set(geodistill.__all__).isdisjoint(ROOMS)
    assert len(geodistill.__all__) <= 40


@pytest.mark.parametrize("name", geodistill._PUBLIC)
def test_public_name_resolves(name: str) -> None:
    module, attribute = geodistill._PUBLIC[name].split(":")
    assert getattr(geodistill, name) is getattr(import_module(module), attribute)
    assert name in dir(geodistill)


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        geodistill.nonsense  # noqa: B018


def test_one_version() -> None:
    text = (ROOT.parent / "pyproject.toml").read_text("utf-8")
    assert f'\nversion = "{geodistill.__version__}"\n' in text
