"""A page that is nothing but the place for the scene: tests of the real one need a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodistill.viewer import page


@pytest.fixture
def plain_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(page, "PAGE", tmp_path / "index.html")
    page.PAGE.write_bytes(b"<html><!--scene--><script>start()</script></html>")
    return page.PAGE
