"""Two processes at one training, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geodistill.runs import load_tensors
from tests.detect.small_kitti import write_kitti
from tests.fit.small_recipe import SMALL_GRID

SETTINGS = (*SMALL_GRID, "detector.momentum=0.1", "batch=2", "augmentation=none")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti"), 6, 2, reach_m=28)


def command(root: Path, out: Path, epochs: int) -> list[str]:
    settings = [word for value in (*SETTINGS, f"epochs={epochs}") for word in ("--set", value)]
    words = ["train", "detector/pillars_small_16x", "--data", str(root), "-o", str(out)]
    return [sys.executable, "-m", "geodistill", *words, *settings]


def ranks(root: Path, out: Path, epochs: int) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            command(root, out, epochs),
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_two_ranks_learn_what_one_does(root: Path, tmp_path: Path) -> None:
    both = ranks(root, tmp_path / "two", 1)
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "parameters" in said[0][0] and said[1] == ("", "")
    alone = subprocess.run(command(root, tmp_path / "one", 1), capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    one, two = (
        load_tensors(tmp_path / name / "detector.safetensors")[0] for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    # Adam turns rounding of tiny gradients into steps: what is compared moves with all of them.
    statistics = "network.backbone.stages.0.1.running_var"
    assert torch.allclose(one[statistics], two[statistics], rtol=2e-3)
    assert not torch.equal(one[statistics], torch.ones_like(one[statistics]))


def test_a_rank_that_is_killed_is_told_by_the_other(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    both = ranks(root, out, 100_000)
    assert both[0].stderr is not None
    for line in both[0].stderr:
        if "steps" in line:
            break
    both[1].send_signal(signal.SIGKILL)
    _, rest = both[0].communicate()
    both[1].communicate()
    assert both[0].returncode == 1
    last = rest.strip().splitlines()[-1]
    assert "lost another rank" in last and "start the command again" in last
    assert "Traceback" not in rest
