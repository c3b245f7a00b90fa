"""Pages of docs/ of which a benchmark writes a part."""

from __future__ import annotations

from pathlib import Path

from geodistill.checks import InputError
from geodistill.runs import atomic_write

DOCS = Path(__file__).resolve().parent.parent / "docs"


def markers(name: str) -> tuple[str, str]:
    """The lines before and after a part."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def write_between_markers(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of a page, or begin a page.

    Raises:
        InputError: the page has no markers.
    """
    before, after = markers(name)
    page = path.read_text(encoding="utf-8") if path.exists() else f"{before}\n{after}\n"
    head, begin, rest = page.partition(before)
    _, end, tail = rest.partition(after)
    if not (begin and end):
        raise InputError(f"{path} lacks the lines {before} and {after}: add them")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, f"{head}{before}\n\n{text}\n{after}{tail}".encode())
