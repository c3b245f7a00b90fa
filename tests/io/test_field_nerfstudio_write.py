"""Hash fields written as runs of nerfacto: its definition gives what they give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import UsageError
from geodistill.geometry.contraction import expand
from geodistill.geometry.fields import build_field, save_field
from geodistill.geometry.fields.base import Field
from geodistill.geometry.fields.decoder import DecoderConfig
from geodistill.geometry.fields.foreign import field_from_arrays
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.tensorf import TensorfConfig
from geodistill.io.fields import read_field
from geodistill.io.fields.nerfstudio_write import DENSE, NODES, THIN
from geodistill.io.nerfstudio import load_model, open_run
from tests.io import nerfstudio_oracle as oracle
from tests.io.nerfstudio_samples import turn

GRID: dict[str, Any] = {
    "levels": 4, "log2_size": 9, "base_resolution": 4, "max_resolution": 40, "hidden": 32,
    "convention": "nerfstudio",
}  # fmt: skip
PLACED = np.eye(4)
PLACED[:3, :3], PLACED[:3, 3] = 2.5 * turn(5), (1.0, -2.0, 0.5)


def field_of(config: NgpConfig, contraction: Any = "none") -> Field:
    field = build_field("ngp", config)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in field.named_parameters():
            std = 0.7 if "table" in name else 1.5 * parameter.shape[-1] ** -0.5
            parameter.copy_(std * torch.randn(parameter.shape, generator=draw))
    field.contraction = contraction
    field.world_from_field = torch.from_numpy(PLACED)
    cells = (torch.arange(128) + 0.5) / 64 - 1
    x, y, z = torch.meshgrid(cells, cells, cells, indexing="ij")
    field.occupancy = (x - 0.2) ** 2 + y**2 + (z / 1.3) ** 2 < 0.2
    return field


CASES: dict[str, tuple[NgpConfig, str]] = {
    "plain": (NgpConfig(**GRID), "none"),
    "of others": (
        NgpConfig(
            **GRID,
            features=4,
            bias=True,
            box=(-1.0, -0.5, -1.0, 0.8, 1.0, 0.25),
            decoder=DecoderConfig(density_scale=0.3, density_shift=0.5, width=16, bias=True),
        ),
        "none",
    ),
    "contracted": (NgpConfig(**GRID, decoder=DecoderConfig(width=16, bias=True)), "linf"),
}


@pytest.fixture(params=CASES, scope="module")
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Field, Path]:
    field, folder = field_of(*CASES[request.param]), tmp_path_factory.mktemp("run")
    save_field(field, folder / "config.yml")
    return field, folder


def places(field: Field, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the run's world, and unit directions."""
    draw = np.random.default_rng(1)
    u = draw.uniform(-0.99, 0.99, (count, 3))
    d = draw.normal(size=(count, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    return expand(torch.from_numpy(u), field.contraction).numpy(), d


def test_its_definition_gives_the_field(written: tuple[Field, Path]) -> None:
    field, folder = written
    state, model = load_model(open_run(folder).checkpoint), open_run(folder).model
    assert model["implementation"] == "torch" and not model["use_appearance_embedding"]
    settings = {
        "levels": model["num_levels"],
        "base": model["base_res"],
        "finest": model["max_res"],
        "log2_size": model["log2_hashmap_size"],
        "contraction": not model["disable_scene_contraction"],
        "density": model["average_init_density"],
    }
    x, d = places(field)
    sigma, rgb = oracle.hash_field(state, x, d, settings, False, np.zeros(0))
    with torch.no_grad():
        u = field._unit(field.frame.apply(torch.from_numpy(x)))
        mine = field.sigma(u).double().numpy()
        color = field.rgb_of(field.latent(u), torch.from_numpy(d).float()).double().numpy()
    assert (mine > 0).mean() > 0.2
    assert np.abs(mine - sigma).max() < 1e-4 * sigma.max()
    assert np.abs(color - rgb)[mine > 0].max() < 1e-4


def test_read_back(written: tuple[Field, Path]) -> None:
    field, folder = written
    occupancy = np.ones((2, 2, 2), bool)
    found = field_from_arrays({**read_field(folder), "occupancy": occupancy}, "x")
    assert found.contraction == field.contraction
    x, d = places(field)
    world = field.frame.apply(torch.from_numpy(x))
    turned = torch.from_numpy(d) @ field.frame.R.T
    with torch.no_grad():
        theirs = found.density(world) * field.occupied(field._unit(world))
        mine = field.density(world)
        inside = mine > 0
        assert (mine - theirs).abs().max() < 1e-4 * mine.max() and inside.float().mean() > 0.02
        colors = field.color(world, turned)[inside] - found.color(world, turned)[inside]
    assert colors.abs().max() < 1e-4


def test_the_frame_leads_from_the_users_world(written: tuple[Field, Path]) -> None:
    field, folder = written
    table = json.loads((folder / "dataparser_transforms.json").read_text())
    x, _ = places(field)
    world = field.frame.apply(torch.from_numpy(x)).numpy()
    transform = np.array(table["transform"])
    back = table["scale"] * (world @ transform[:, :3].T + transform[:, 3])
    np.testing.assert_allclose(back, x, atol=1e-9 * np.abs(x).max())


def test_the_proposal_network_finds_what_is_occupied(written: tuple[Field, Path]) -> None:
    field, folder = written
    state, model = load_model(open_run(folder).checkpoint), open_run(folder).model
    settings = model["proposal_net_args_list"][0]
    assert settings["use_linear"] and model["use_same_proposal_network"]
    box = state["proposal_networks.0.aabb"].double().numpy()
    p = np.random.default_rng(0).random((4000, 3))
    table = state["proposal_networks.0.encoding.hash_table"].double().numpy()
    raw = oracle.hash_features_torch(p, table, 1, NODES, NODES, settings["log2_hashmap_size"])
    density = model["average_init_density"] * np.exp(raw[:, 0])
    u = torch.from_numpy(box[0] + (box[1] - box[0]) * p)
    x = expand(u, field.contraction)
    stretch = (
        (x.abs().amax(dim=1).clamp_min(1.0) ** 2).numpy() if field.contraction == "linf" else 1
    )
    occupied = field.occupied(u.float()).numpy()
    assert occupied.sum() > 50
    assert (density * stretch)[occupied].min() > 0.5 * DENSE
    assert np.median((density * stretch)[~occupied]) < 2 * THIN


def test_the_data_set_of_one_picture(written: tuple[Field, Path]) -> None:
    _, folder = written
    table = json.loads((folder / "geodistill_data/transforms.json").read_text())
    (frame,) = table["frames"]
    assert (folder / "geodistill_data" / frame["file_path"]).is_file()
    pose = np.array(frame["transform_matrix"])
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.dot(pose[:3, 3], -pose[:3, 2]) < 0  # it looks along -z of its own, at the middle
    assert open_run(folder).dataparser["orientation_method"] == "none"


REFUSED: dict[str, tuple[Any, str]] = {
    "convention": (NgpConfig(**{**GRID, "convention": "tcnn"}), "--set convention=nerfstudio"),
    "layers": (NgpConfig(**GRID, layers=2), "--set layers=1"),
    "density": (
        NgpConfig(**GRID, decoder=DecoderConfig(density="softplus")),
        "--set decoder.density=exp",
    ),
    "head": (
        NgpConfig(**GRID, decoder=DecoderConfig(head="frequencies")),
        "--set decoder.head=harmonics",
    ),
    "features": (
        NgpConfig(**GRID, decoder=DecoderConfig(features=7)),
        "--set decoder.features=15",
    ),
    "depth": (NgpConfig(**GRID, decoder=DecoderConfig(layers=3)), "--set decoder.layers=2"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_nerfacto_cannot_be(tmp_path: Path, case: str) -> None:
    config, words = REFUSED[case]
    with pytest.raises(UsageError, match=words):
        save_field(field_of(config), tmp_path / "config.yml")
    assert not list(tmp_path.iterdir())


def test_other_contractions_architectures_and_names(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    with pytest.raises(UsageError, match="contracted by the largest coordinate, this field by l2"):
        save_field(field_of(NgpConfig(**GRID), "l2"), path)
    boxed = NgpConfig(**GRID, box=(-1.0, -1.0, -1.0, 1.0, 1.0, 0.0))
    with pytest.raises(UsageError, match="a contracted nerfacto has no box"):
        save_field(field_of(boxed, "linf"), path)
    small = TensorfConfig(resolution=8, density_rank=2, color_rank=2)
    with pytest.raises(UsageError, match="this one is tensorf: convert it with --to ngp"):
        save_field(build_field("tensorf", small), path)
    with pytest.raises(UsageError, match=r"named by its settings, FOLDER/config\.yml"):
        save_field(field_of(NgpConfig(**GRID)), tmp_path / "other.yml")
    assert not list(tmp_path.iterdir())


def test_every_cell_counts_where_none_is_known(tmp_path: Path) -> None:
    field = field_of(NgpConfig(**GRID))
    save_field(field, tmp_path / "config.yml")
    arrays = read_field(tmp_path)
    assert arrays["occupancy"] is None and arrays["extra"]["method"] == "nerfacto"
