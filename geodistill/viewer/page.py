"""The page: one HTML file, built from viewer/; served, or with a scene inside it."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

from geodistill.checks import InputError, UsageError
from geodistill.runs.files import atomic_write
from geodistill.viewer.scene import SceneDescription

PAGE = Path(__file__).parent / "page" / "index.html"
MARK = b"<!--scene-->"
"""Where a scene goes."""


def load_page() -> bytes:
    """The built page. Raises InputError, which says how to build it, where it is missing."""
    try:
        page = PAGE.read_bytes()
    except FileNotFoundError:
        raise InputError(
            "the viewer's page was not built when geodistill was installed: install Node.js 20 or "
            "newer with npm, then install geodistill again"
        ) from None
    if page.count(MARK) != 1:
        raise InputError(f"{PAGE} is damaged: install geodistill again")
    return page


def save_html(path: Path, description: SceneDescription) -> int:
    """Write one file with the page and the scene in it, which opens without a server or a network.

    Returns its size in bytes. Raises UsageError for a field, which the page cannot draw; InputError
    where the page is missing or the file cannot be written.
    """
    if description.kind == "field":
        raise UsageError(
            "a radiance field is rendered by the server and cannot be in a file by itself: convert "
            "it to splats or a mesh first"
        )
    before, after = load_page().split(MARK)
    # "<" in a name must not end the element.
    manifest = json.dumps(description.manifest(), allow_nan=False).replace("<", "\\u003c")
    parts = [before, f'<script type="application/json" id="scene">{manifest}</script>\n'.encode()]
    for sha, array in description.by_digest().items():
        packed = base64.b64encode(zlib.compress(array.data, 6))
        opening = f'<script type="application/octet-stream" id="blob-{sha}">'
        parts += [opening.encode(), packed, b"</script>\n"]
    content = b"".join([*parts, after])
    atomic_write(path, content)
    return len(content)
