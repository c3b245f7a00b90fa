"""nerfstudio's fields, read as ours, give what their definition gives, in the user's world."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import InputError
from geodistill.geometry.fields.foreign import field_from_arrays
from geodistill.io.fields import FieldArrays, read_field
from geodistill.io.fields.flat_networks import flat_shapes, flat_size
from geodistill.io.fields.nerfstudio_harmonics import from_harmonics
from geodistill.io.fields.nerfstudio_occupancy import cells_of_levels
from geodistill.kernels import HashSpec
from tests.io import nerfstudio_oracle as oracle
from tests.io.nerfstudio_samples import BLENDER_DATA, NERFSTUDIO_DATA, settings, turn, write_run

FRAME = (turn(2), np.array([0.3, -0.2, 0.5]), 0.4)
BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
LONG_BOX = torch.tensor([[-1.0, -0.5, -1], [1.5, 1, 0.7]])
GRID: dict[str, Any] = {"levels": 5, "base": 4, "finest": 64, "log2_size": 9}
SIZES = {**GRID, "width": 32, "width_color": 16, "contraction": True, "density": 0.01}
MODEL = {"base_res": 4, "hidden_dim": 32, "hidden_dim_color": 16, "average_init_density": 0.01}


def draw(*shape: int, std: float = 0.5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + seed)
    return std * torch.randn(*shape, generator=generator)


def layers(prefix: str, *widths: int) -> dict[str, torch.Tensor]:
    state = {}
    for i in range(len(widths) - 1):
        std = (2 / widths[i]) ** 0.5
        state[f"{prefix}layers.{i}.weight"] = draw(widths[i + 1], widths[i], std=std, seed=i)
        state[f"{prefix}layers.{i}.bias"] = draw(widths[i + 1], std=0.2, seed=i)
    return state


def hash_state(flat: bool, box: torch.Tensor = BOX, channels: int = 32) -> dict[str, torch.Tensor]:
    state = {
        "field.aabb": box,
        "field.max_res": torch.tensor(GRID["finest"]),
        "field.num_levels": torch.tensor(GRID["levels"]),
        "field.log2_hashmap_size": torch.tensor(GRID["log2_size"]),
        "proposal_networks.0.mlp_base.params": torch.zeros(9),
    }
    if channels:
        state["field.embedding_appearance.embedding.weight"] = 0.3 + draw(6, channels)
    seen, rows = 31 + channels, 2 ** GRID["log2_size"]
    if flat:
        spec = HashSpec(5, 2, 9, 4, 64, "tcnn")
        net = [draw(32, 16, std=0.4), draw(16, 32, std=0.3)]  # 10 features, padded to 16
        table = draw(spec.entries, 2)
        params = torch.cat([part.reshape(-1) for part in (*net, table)])
        state["field.mlp_base.model.params"] = params
        padded = -(-seen // 16) * 16
        head = [draw(16, padded, std=0.3), draw(16, 16), draw(16, 16)]
        params = torch.cat([part.reshape(-1) for part in head])
        state["field.mlp_head.tcnn_encoding.params"] = params
        state["field.direction_encoding.tcnn_encoding.params"] = torch.zeros(0)
    else:
        state["field.mlp_base.model.0.hash_table"] = draw(5 * rows, 2)
        state |= layers("field.mlp_base.model.1.", 10, 32, 16)
        state |= layers("field.mlp_head.", seen, 16, 16, 3)
    return state


def tensor_state(encoding: str, box: torch.Tensor = BOX) -> dict[str, torch.Tensor]:
    state = {"field.aabb": box}
    for name, rank in (("density", 4), ("color", 5)):
        if encoding != "cp":
            state[f"field.{name}_encoding.plane_coef"] = draw(3, rank, 9, 9, seed=1)
        if encoding != "triplane":
            state[f"field.{name}_encoding.line_coef"] = draw(3, rank, 9, 1, std=1.0)
    state["field.B.weight"] = draw(27, 15 if encoding == "vm" else 5)
    state |= layers("field.mlp_head.", 150, 24, 24)
    return state | {
        "field.field_output_rgb.net.weight": draw(3, 24),
        "field.field_output_rgb.net.bias": draw(3),
    }


def mlp_state() -> dict[str, torch.Tensor]:
    state = layers("field_fine.mlp_base.", 63, *[20] * 8)
    name = "field_fine.mlp_base.layers.4.weight"
    state[name] = torch.cat([draw(20, 63, std=0.2), state[name]], dim=1)
    state |= layers("field_fine.mlp_head.", 47, 12, 12)
    for key, width, outputs in (("field_output_density", 20, 1), ("field_heads.0", 12, 3)):
        state[f"field_fine.{key}.net.weight"] = draw(outputs, width)
        state[f"field_fine.{key}.net.bias"] = draw(outputs)
    coarse = {k.replace("fine", "coarse"): v + 1 for k, v in state.items()}
    return state | coarse


def expect_same(
    folder: Path, theirs: Any, span: float, inside: float = 0.05, frame: Any = FRAME
) -> FieldArrays:
    """Compare with `theirs(x, d)`, densities and colours in nerfstudio's world."""
    R, t, s = frame
    rng = np.random.default_rng(0)
    x, d = rng.uniform(-span, span, (600, 3)), rng.normal(size=(600, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    arrays = read_field(folder)
    field = field_from_arrays({**arrays, "occupancy": np.ones((8, 8, 8), bool)}, "x")
    with torch.no_grad():
        mine = torch.from_numpy((x / s - t) @ R), torch.from_numpy(d @ R)
        density, color = field.density(mine[0]).numpy() / s, field.color(*mine).numpy()
    expected, seen = theirs(x, d)
    within = density > 0
    assert within.mean() > inside and expected[within].std() > 1e-4
    assert np.abs(density - expected)[within].max() < 1e-4 * expected[within].max()
    assert np.abs(color - seen)[within].max() < 1e-4
    return arrays


# Hash fields


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("average", [False, True])
def test_nerfacto(tmp_path: Path, flat: bool, average: bool) -> None:
    state = hash_state(flat)
    model = {**MODEL, "use_average_appearance_embedding": average}
    write_run(tmp_path, state, settings("nerfacto", model), FRAME)
    shown = state["field.embedding_appearance.embedding.weight"].double().numpy()
    shown = shown.mean(axis=0) * average
    arrays = expect_same(
        tmp_path, lambda x, d: oracle.hash_field(state, x, d, SIZES, flat, shown), 4.0
    )
    assert arrays["contraction"] == "linf" and arrays["occupancy"] is None


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("box", [BOX, LONG_BOX])
def test_nerfacto_in_its_box(tmp_path: Path, flat: bool, box: torch.Tensor) -> None:
    state = hash_state(flat, box, channels=0)
    model = {**MODEL, "disable_scene_contraction": True}
    write_run(tmp_path, state, settings("nerfacto", model), FRAME)
    sizes, none = {**SIZES, "contraction": False}, np.zeros(0)
    arrays = expect_same(
        tmp_path, lambda x, d: oracle.hash_field(state, x, d, sizes, flat, none), 1.6
    )
    assert arrays["contraction"] == "none" and (len(arrays["config"]["box"]) == 6) == (
        box is LONG_BOX
    )


@pytest.mark.parametrize("flat", [False, True])
def test_instant_ngp_shows_no_appearance(tmp_path: Path, flat: bool) -> None:
    state = hash_state(flat) | grid_state(2, 16)
    write_run(
        tmp_path, state, settings("instant-ngp", {**MODEL, "average_init_density": None}), FRAME
    )
    sizes = {**SIZES, "density": 1.0}
    arrays = expect_same(
        tmp_path, lambda x, d: oracle.hash_field(state, x, d, sizes, flat, np.zeros(32)), 4.0
    )
    assert arrays["occupancy"] is not None


@pytest.mark.parametrize("version", ["0.1.19", "0.3.4", "1.0"])
def test_names_of_older_versions(tmp_path: Path, version: str) -> None:
    state = hash_state(True)
    base, head = "field.mlp_base.model.params", "field.mlp_head.tcnn_encoding.params"
    old = dict(state)
    if version == "0.1.19":
        old["field.mlp_base.params"] = old.pop(base)
        old["field.mlp_head.params"] = old.pop(head)
    elif version == "0.3.4":
        joint = old.pop(base)
        for a, b in (("mlp_base_mlp.", "mlp_base_grid."), ("mlp_base.1.", "mlp_base.0.")):
            old[f"field.{a}tcnn_encoding.params"] = joint[: 2 * 16 * 32]
            old[f"field.{b}tcnn_encoding.params"] = joint[2 * 16 * 32 :]
    write_run(tmp_path / "new", state, settings("nerfacto", MODEL), FRAME)
    write_run(tmp_path / "old", old, settings("nerfacto", MODEL), FRAME)
    new, found = read_field(tmp_path / "new"), read_field(tmp_path / "old")
    assert new["config"] == found["config"]
    for name, values in new["parameters"].items():
        np.testing.assert_array_equal(found["parameters"][name], values)


def test_torch_names_of_older_versions(tmp_path: Path) -> None:
    state = hash_state(False)
    old = {
        name.replace("mlp_base.model.0.", "mlp_base_grid.").replace(
            "mlp_base.model.1.", "mlp_base_mlp."
        ): value
        for name, value in state.items()
    }
    write_run(tmp_path / "new", state, settings("nerfacto", MODEL), FRAME)
    write_run(tmp_path / "old", old, settings("nerfacto", MODEL), FRAME)
    new, found = read_field(tmp_path / "new"), read_field(tmp_path / "old")
    for name, values in new["parameters"].items():
        np.testing.assert_array_equal(found["parameters"][name], values)


def test_published_counts() -> None:
    base = flat_shapes(32, 64, 1, 16, 16)
    assert HashSpec().entries * 2 + flat_size(base) == 12_199_312
    assert flat_size(flat_shapes(63, 64, 2, 3, 16)) == 9_216


def test_directions_become_our_harmonics() -> None:
    d = np.random.default_rng(1).normal(size=(50, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    np.testing.assert_allclose(
        oracle.harmonics(d) @ from_harmonics().T, oracle.harmonics_torch(d), atol=1e-12
    )


def without(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key != name}


def no_grid(*shape: int) -> dict[str, torch.Tensor]:
    empty = torch.zeros(shape, dtype=torch.bool)
    return {"occupancy_grid.aabbs": torch.zeros(1, 6), "occupancy_grid.binaries": empty}


HASH_DAMAGE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no grid": (
        without(hash_state(True), "field.mlp_base.model.params"),
        {},
        "lacks the hash grid of its field",
    ),
    "no head": (
        without(hash_state(True), "field.mlp_head.tcnn_encoding.params"),
        {},
        "lacks field.mlp_head.layers.0.weight",
    ),
    "no levels": (without(hash_state(False), "field.num_levels"), {}, "lacks field.num_levels"),
    "no box": (
        without(hash_state(False), "field.aabb"),
        {"disable_scene_contraction": True},
        "lacks field.aabb",
    ),
    "flat box": (
        hash_state(False) | {"field.aabb": torch.zeros(2, 3)},
        {"disable_scene_contraction": True},
        "its field.aabb is a box",
    ),
    "table": (
        hash_state(False) | {"field.mlp_base.model.0.hash_table": torch.zeros(9, 2)},
        {},
        "hash_table has shape",
    ),
    "params": (
        hash_state(True) | {"field.mlp_base.model.params": torch.zeros(999)},
        {},
        "holds 999 numbers in its field.mlp_base",
    ),
    "head params": (
        hash_state(True) | {"field.mlp_head.tcnn_encoding.params": torch.zeros(999)},
        {},
        "holds 999 numbers in its field.mlp_head",
    ),
    "layer": (
        hash_state(False) | {"field.mlp_head.layers.1.weight": torch.zeros(16, 15)},
        {},
        "do not lead from",
    ),
    "bias": (
        hash_state(False) | {"field.mlp_head.layers.1.bias": torch.zeros(15)},
        {},
        r"bias has shape \[15\]",
    ),
    "levels": (
        hash_state(False) | {"field.num_levels": torch.tensor(100)},
        {},
        "hash grid that cannot be",
    ),
    "half a level": (
        hash_state(False) | {"field.num_levels": torch.tensor(4.5)},
        {},
        "no whole number",
    ),
    "nan": (
        hash_state(False) | {"field.mlp_head.layers.1.bias": torch.full((16,), torch.nan)},
        {},
        "NaN or infinite",
    ),
    "embedding": (
        hash_state(False) | {"field.embedding_appearance.embedding.weight": torch.zeros(32)},
        {},
        "embedding.weight has shape",
    ),
    "width": (hash_state(True), {"hidden_dim": 64}, "but its settings ask for"),
    "text": (hash_state(True), {"hidden_dim": "wide"}, "which is not a whole number"),
    "huge": (hash_state(True), {"hidden_dim": 10**9}, "which is not a whole number"),
    "flag": (hash_state(True), {"disable_scene_contraction": "no"}, "is not true or false"),
    "density": (hash_state(True), {"average_init_density": 0.0}, "is not above 0"),
    "old": (hash_state(True), {"contraction_type": [1]}, "nerfstudio before 0.1.20"),
    "binaries": (
        hash_state(False) | no_grid(1, 2, 3, 2),
        {},
        "occupancy_grid.binaries is torch.bool",
    ),
    "binaries of another type": (
        hash_state(False) | {**no_grid(1), "occupancy_grid.binaries": torch.ones(1).bfloat16()},
        {},
        r"occupancy_grid.binaries is torch.bfloat16 \[1\]",
    ),
    "aabbs": (
        hash_state(False) | no_grid(1, 2, 2, 2),
        {},
        "are no boxes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HASH_DAMAGE)
def test_damaged_hash_fields(tmp_path: Path, case: str) -> None:
    state, model, words = HASH_DAMAGE[case]
    write_run(tmp_path, state, settings("nerfacto", {**MODEL, **model}))
    refused(tmp_path, words)


def test_the_settings_are_needed(tmp_path: Path) -> None:
    write_run(tmp_path, hash_state(False), None)
    refused(tmp_path, r"needs the config.yml of its run")


# Occupancy


def grid_state(levels: int, side: int, box: torch.Tensor = BOX) -> dict[str, torch.Tensor]:
    half, middle = (box[1] - box[0]) / 2, (box[1] + box[0]) / 2
    boxes = [torch.cat([middle - half * 2**i, middle + half * 2**i]) for i in range(levels)]
    draws = torch.Generator().manual_seed(1)
    binaries = torch.rand(levels, side, side, side, generator=draws) > 0.97
    return {
        "occupancy_grid.resolution": torch.tensor([side] * 3),
        "occupancy_grid.aabbs": torch.stack(boxes),
        "occupancy_grid.occs": torch.zeros(levels * side**3),
        "occupancy_grid.binaries": binaries,
    }


def is_occupied(state: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    """The finest level whose box holds a place says it."""
    found = np.zeros(len(x), bool)
    known = np.zeros(len(x), bool)
    for grid, box in zip(
        state["occupancy_grid.binaries"].numpy(), state["occupancy_grid.aabbs"].numpy(), strict=True
    ):
        p = (x - box[:3]) / (box[3:] - box[:3])
        inside = ((p >= 0) & (p < 1)).all(axis=1) & ~known
        cell = np.floor(p[inside] * len(grid)).astype(int)
        found[inside] = grid[tuple(cell.T)]
        known |= inside
    return found


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("box", [BOX, LONG_BOX])
def test_what_is_occupied_stays_so(tmp_path: Path, contraction: bool, box: torch.Tensor) -> None:
    state = hash_state(False, box) | grid_state(3, 16, box)
    model = {**MODEL, "disable_scene_contraction": not contraction}
    write_run(tmp_path, state, settings("instant-ngp", model))
    arrays = read_field(tmp_path)
    cells = arrays["occupancy"]
    assert cells is not None and 0.01 < cells.mean() < 0.5
    x = np.random.default_rng(0).uniform(-5, 5, (200_000, 3))
    if contraction:
        u = 2 * oracle.contracted(x) - 1
    else:
        frame = arrays["world_from_field"]
        u = (x - frame[:3, 3]) / frame[0, 0]
    inside = (np.abs(u) < 1).all(axis=1)
    told = cells[tuple(np.floor((u[inside] + 1) / 2 * len(cells)).astype(int).T)]
    truly = is_occupied(state, x[inside])
    assert told[truly].all() and truly.any()
    assert told.mean() < 4 * truly.mean() + 0.05


def test_a_grid_of_the_whole_cube_is_kept_as_it_is() -> None:
    grid = np.random.default_rng(0).random((1, 128, 128, 128)) > 0.9
    boxes = np.array([[[-2.0, -2, -2], [2, 2, 2]]])
    found = cells_of_levels(grid, boxes, np.diag([2.0, 2, 2, 1]), contracted=False)
    np.testing.assert_array_equal(found, grid[0])


def test_the_finest_level_that_holds_a_place_says_it() -> None:
    grids = np.zeros((2, 16, 16, 16), bool)
    grids[1] = True
    boxes = np.array([[[-0.5] * 3, [0.5] * 3], [[-1.0] * 3, [1.0] * 3]])
    found = cells_of_levels(grids, boxes, np.eye(4), contracted=False)
    inside = np.zeros_like(found)
    inside[32:96, 32:96, 32:96] = True
    np.testing.assert_array_equal(found, ~inside)


# tensorf and vanilla-nerf


@pytest.mark.parametrize("encoding", ["vm", "cp", "triplane"])
@pytest.mark.parametrize("box", [1.5 * BOX, LONG_BOX])
def test_tensorf(tmp_path: Path, encoding: str, box: torch.Tensor) -> None:
    state = tensor_state(encoding, box)
    write_run(tmp_path, state, settings("tensorf", {}, BLENDER_DATA), FRAME)
    arrays = expect_same(tmp_path, lambda x, d: oracle.tensor_field(state, x, d), 0.9)
    assert arrays["architecture"] == ("tensorf-cp" if encoding == "cp" else "tensorf")


@pytest.mark.parametrize("data, half", [(BLENDER_DATA, 1.5), (NERFSTUDIO_DATA, 7.0)])
def test_vanilla_nerf(tmp_path: Path, data: str, half: float) -> None:
    state = mlp_state()
    write_run(tmp_path, state, settings("vanilla-nerf", {}, data), FRAME)
    arrays = expect_same(tmp_path, lambda x, d: oracle.mlp_field(state, x, d), 0.8)
    np.testing.assert_allclose(arrays["world_from_field"][:3, :3], half / 0.4 * FRAME[0].T)


TENSOR_DAMAGE: dict[str, tuple[Any, str]] = {
    "no basis": (without(tensor_state("vm"), "field.B.weight"), "lacks field.B.weight"),
    "basis": (tensor_state("vm") | {"field.B.weight": torch.zeros(27, 5)}, r"not \[.., 15\]"),
    "lines": (
        tensor_state("vm") | {"field.density_encoding.line_coef": torch.zeros(3, 4, 8, 1)},
        "planes and lines of its field.density_encoding do not fit",
    ),
    "planes": (
        tensor_state("vm") | {"field.density_encoding.plane_coef": torch.zeros(3, 4, 9, 8)},
        "are not square",
    ),
    "modes": (
        tensor_state("cp") | {"field.color_encoding.line_coef": torch.zeros(2, 5, 9, 1)},
        "not \\[3, C, R, ..\\]",
    ),
    "sizes": (
        tensor_state("cp") | {"field.color_encoding.line_coef": torch.zeros(3, 5, 10, 1)},
        "are of different kinds",
    ),
    "kinds": (
        tensor_state("vm") | {"field.color_encoding.line_coef": torch.zeros(3, 15, 9, 1)},
        "do not fit",
    ),
    "head": (
        tensor_state("vm") | {"field.mlp_head.layers.0.weight": torch.zeros(24, 149)},
        "do not lead from 150",
    ),
    "box": (tensor_state("vm") | {"field.aabb": torch.zeros(6)}, "field.aabb has shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSOR_DAMAGE)
def test_damaged_tensorf(tmp_path: Path, case: str) -> None:
    state, words = TENSOR_DAMAGE[case]
    write_run(tmp_path, state, settings("tensorf", {}))
    refused(tmp_path, words)


MLP_DAMAGE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "skip": (
        mlp_state() | {"field_fine.mlp_base.layers.4.weight": torch.zeros(20, 20)},
        {},
        "not of a NeRF",
    ),
    "first": (
        mlp_state() | {"field_fine.mlp_base.layers.0.weight": torch.zeros(20, 60)},
        {},
        "not of a NeRF",
    ),
    "density": (
        mlp_state() | {"field_fine.field_output_density.net.weight": torch.zeros(1, 9)},
        {},
        r"not \[1, 20\]",
    ),
    "no color": (
        without(mlp_state(), "field_fine.field_heads.0.net.weight"),
        {},
        "lacks field_fine.field_heads.0.net.weight",
    ),
    "time": (
        mlp_state() | {"temporal_distortion.mlp.layers.0.weight": torch.zeros(1, 9)},
        {},
        "changes with time",
    ),
    "far": (mlp_state(), {"collider_params": {"far_plane": -7.0}}, "bounds no scene"),
}  # fmt: skip


@pytest.mark.parametrize("case", MLP_DAMAGE)
def test_damaged_vanilla_nerf(tmp_path: Path, case: str) -> None:
    state, model, words = MLP_DAMAGE[case]
    config = settings("vanilla-nerf", {})
    if model:
        config = config.replace("far_plane: 6.0", "far_plane: -7.0")
    write_run(tmp_path, state, config)
    refused(tmp_path, words)


def test_other_methods_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, {"field.sdf_net.weight": torch.zeros(3)}, settings("neus-facto", {}))
    refused(tmp_path, "holds a model of neus-facto, which is not read: nerfacto, instant-ngp")


@pytest.mark.parametrize("seed", range(50))
def test_mutations(tmp_path: Path, seed: int) -> None:
    """One line or a field that can be built; never another error, or more memory than the file."""
    rng = random.Random(seed)
    state = [hash_state(False), hash_state(True), tensor_state("vm"), mlp_state()][seed % 4]
    method = ["nerfacto", "nerfacto", "tensorf", "vanilla-nerf"][seed % 4]
    folder = write_run(tmp_path, state, settings(method, MODEL), FRAME)
    checkpoint = folder / "nerfstudio_models/step-000029999.ckpt"
    path = rng.choice((checkpoint, folder / "config.yml", folder / "dataparser_transforms.json"))
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.randrange(min(len(data), 4000))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.choice((1, 9))]
            case 2:
                data[at:at] = bytes(rng.randrange(256) for _ in range(3))
            case 3:
                data[at : at + 4] = rng.choice((b"\xff" * 4, b"\xff\xff\xff\x7f", b"9999"))
    path.write_bytes(data)
    try:
        arrays = read_field(folder)
        field_from_arrays({**arrays, "occupancy": np.ones((8, 8, 8), bool)}, str(folder))
    except InputError as error:
        assert "\n" not in str(error) and str(tmp_path) in str(error)


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_field(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
