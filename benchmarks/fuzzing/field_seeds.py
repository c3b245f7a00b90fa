"""Small whole files of fields, and runs of nerfstudio, by the tests' samples."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Files = dict[str, bytes]
"""A scene: the file to be read comes first."""


def run(method: str, state: dict[str, Any], model: dict[str, Any], main: str = "") -> Files:
    """A run of nerfstudio with its files in one folder, the checkpoint or `main` first."""
    from tests.io import nerfstudio_samples as samples

    frame = (samples.turn(1), np.array([0.1, 0.2, -0.3]), 0.7)
    with tempfile.TemporaryDirectory() as folder:
        samples.write_run(Path(folder), state, samples.settings(method, model), frame)
        paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        files = {path.name: path.read_bytes() for path in paths}
    first = main or next(name for name in files if name.endswith(".ckpt"))
    return {first: files.pop(first), **files}


def tensorf() -> Iterator[Files]:
    import torch

    from tests.io.tensorf_samples import CUBE, checkpoint

    for number, options in enumerate(
        (
            {"mask": True},
            {"shading": "MLP_PE", "point": True},
            {"shading": "SH", "density": "relu", "aabb": CUBE},
            {"kind": "cp", "ranks": ((6, 6, 6), (7, 7, 7)), "mask": True},
        )
    ):
        out = io.BytesIO()
        old = number == 1  # the layout before PyTorch 1.6
        torch.save(checkpoint(**options), out, _use_new_zipfile_serialization=not old)
        yield {"a.th": out.getvalue()}


def svox2() -> Iterator[Files]:
    from tests.io.test_field_svox2 import grid

    for save in (np.savez, np.savez_compressed):
        for coefficients in (1, 9):
            out = io.BytesIO()
            save(out, **grid((6, 7, 8), coefficients))
            yield {"a.npz": out.getvalue()}


def ingp(packed: bool) -> Iterator[Files]:
    from geodistill.io.fields.msgpack import pack
    from tests.io.ingp_models import Snapshot

    small: dict[str, Any] = {"levels": 3, "growth": 1.5, "log2_size": 6}
    for options in (
        {},
        {"half": False, "mitsuba": True, "outputs": 17, "alignment": 8},
        {"extras": 2, "latents": [[0.1, 0.2]], "degree": 3, "features": 2},
    ):
        snapshot = Snapshot(**small, **options)
        snapshot.grid = np.full_like(snapshot.grid, 0.04)[:, : 0 if options else None]
        content = b"".join(pack(snapshot.content()))
        yield {"a.ingp": gzip.compress(content)} if packed else {"a.msgpack": content}


def torch_ngp() -> Iterator[Files]:
    import torch

    from tests.io.torch_ngp_models import Cp, Hash, Network, Vm, Voxels

    for number, model in enumerate(
        (
            Hash(levels=3, log2_size=8, bound=2.0),
            Hash(levels=14, log2_size=5),
            Vm(nodes=(8, 9, 10), bound=2.0, box=(-1.0, -1.5, -0.5, 1.25, 2.0, 0.75)),
            Vm(nodes=(8, 8, 8), pvd=True),
            Cp(nodes=(8, 9, 10)),
            Network(depth=3, width=8),
            Voxels(degree=1),
        )
    ):
        del model.state["density_grid"]
        side = 8**3 * model.cascades // 8
        model.state["density_bitfield"] = torch.full((side,), 0x5A, dtype=torch.uint8)
        out = io.BytesIO()
        old = number == 1  # the layout before PyTorch 1.6
        torch.save(model.checkpoint(), out, _use_new_zipfile_serialization=not old)
        yield {"a.pth": out.getvalue()}


def nerfstudio(main: str = "") -> Iterator[Files]:
    from tests.io import test_field_nerfstudio as samples

    for flat in (False, True):
        state = samples.hash_state(flat)
        yield run("nerfacto", state, samples.MODEL, main)
        bounded = {**samples.MODEL, "disable_scene_contraction": True}
        state = samples.hash_state(flat, samples.LONG_BOX, 0) | samples.grid_state(2, 4)
        yield run("instant-ngp", state, bounded, main)
    for encoding in ("vm", "cp", "triplane"):
        yield run("tensorf", samples.tensor_state(encoding), {}, main)
    yield run("vanilla-nerf", samples.mlp_state(), {}, main)
