from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.converting import bench, write_scene


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a smoke run has measured everything."""
    root = tmp_path_factory.mktemp("benchmark")
    write_scene(root / "scenes" / "analytic")
    assert bench.main(["--smoke", str(root)]) == 0
    return root
