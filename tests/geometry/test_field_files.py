"""Fields on disk: the round trip is bit-equal, and every kind of damage is one clear sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from geodistill.cameras import Camera, Similarity, sphere_cameras
from geodistill.checks import InputError
from geodistill.geometry.fields import Field, build_field, describe, load_field, save_field
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.files import field_metadata, field_tensors
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import CHANNELS, Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.rays import camera_rays
from geodistill.runs import load_tensors, save_tensors

NGP = NgpConfig(levels=3, log2_size=7, base_resolution=4, max_resolution=16, convention="tcnn")
VM = TensorfConfig(resolution=9, density_rank=2, color_rank=3, floor=-5.5)
TINY = {
    "ngp": NGP,
    "tensorf": VM,
    "tensorf-cp": TensorfCpConfig(resolution=9, density_rank=4, color_rank=5),
    "plenoxels": PlenoxelsConfig(resolution=9),
    "mlp": MlpConfig(depth=3, width=24, octaves=2),
    "composite": CompositeConfig(NGP, VM),
}


def scene(architecture: str) -> Field:
    """A field with a frame, an occupancy grid, cameras and a colour space of its own."""
    field = build_field(architecture, TINY[architecture], seed=5)
    draw = torch.Generator().manual_seed(6)
    if isinstance(field, Plenoxels):
        nodes = torch.rand(9, 9, 9, generator=draw) < 0.4
        field.allocate(nodes, torch.randn(int(nodes.sum()), CHANNELS, generator=draw))
    field.occupancy = torch.rand(11, 11, 11, generator=draw) < 0.5  # 1331 bits: not whole bytes
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    frame = Similarity(turn, torch.tensor([0.1, 1e3, -2.0]).double(), 1 / 3)
    field.world_from_field = frame.matrix()
    field.views = sphere_cameras(5, frame.t, 2.0, 0.7, (30, 40), seed=1)
    field.color_space = "linear"
    return field


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "field.safetensors"
    save_field(scene("tensorf"), path)
    return path


@pytest.mark.parametrize("architecture", list(TINY))
def test_the_round_trip_is_bit_equal(architecture: str, tmp_path: Path) -> None:
    field = scene(architecture)
    save_field(field, tmp_path / "f.safetensors")
    back = load_field(tmp_path / "f.safetensors")
    assert (back.architecture, back.config) == (architecture, TINY[architecture])
    assert back.color_space == "linear"
    assert torch.equal(back.occupancy, field.occupancy)
    assert torch.equal(back.world_from_field, field.world_from_field)
    ours, theirs = dict(field.named_parameters()), dict(back.named_parameters())
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    if isinstance(field, Plenoxels) and isinstance(back, Plenoxels):
        assert torch.equal(field.links, back.links)
    u = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(field.latent(u), back.latent(u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lens", [None, [0.1, -0.02, 0.003, -0.001]])
def test_the_cameras_come_back_exactly(
    dtype: torch.dtype, lens: list[float] | None, tmp_path: Path
) -> None:
    field = scene("tensorf-cp")
    assert field.views is not None
    views = field.views.to(dtype=dtype)
    if lens is not None:
        views = Camera(
            views.K, views.world_from_cam, views.size, torch.tensor([lens] * 5).to(dtype)
        )
    field.views = views
    save_field(field, tmp_path / "f.safetensors")
    back = load_field(tmp_path / "f.safetensors").views
    assert back is not None and back.size == views.size
    assert torch.equal(back.K.double(), views.K.double())
    assert torch.equal(back.world_from_cam.double(), views.world_from_cam.double())
    rays, expected = camera_rays(back[3]), camera_rays(views[3])
    torch.testing.assert_close(
        rays.directions, expected.directions, rtol=0, atol=1e-6, check_dtype=False
    )


def test_a_field_without_cameras_has_none_afterwards(tmp_path: Path) -> None:
    save_field(build_field("tensorf", VM), tmp_path / "f.safetensors")
    assert load_field(tmp_path / "f.safetensors").views is None


def test_saving_what_was_loaded_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_field(load_field(saved), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_a_run_folder_stands_for_its_field(saved: Path) -> None:
    assert load_field(saved.parent).architecture == "tensorf"
    assert load_field(str(saved.parent)).architecture == "tensorf"


def test_a_folder_without_a_field_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no field\.safetensors"):
        load_field(tmp_path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_field(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved: Path, kept: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=str(saved)):
        load_field(saved)


@pytest.mark.parametrize("place", [0.0, 0.003, 0.05, 0.3, 0.6, 0.9, 1.0])
def test_one_flipped_bit_is_refused(saved: Path, place: float) -> None:
    content = bytearray(saved.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    saved.write_bytes(bytes(content))
    with pytest.raises(InputError, match=str(saved)):
        load_field(saved)


class Trap:
    """What a hostile pickle does when it is loaded: here it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save({"state": Trap(str(tmp_path / "sprung"))}, tmp_path / "f.safetensors")
    with pytest.raises(InputError, match="looks like a PyTorch pickle"):
        load_field(tmp_path / "f.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_safetensors_of_other_programs_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "f.safetensors")
    with pytest.raises(InputError, match="geodistill did not write it"):
        load_field(tmp_path / "f.safetensors")


def test_our_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "f.safetensors", {"a": torch.zeros(3)}, {"kind": "splats"})
    with pytest.raises(InputError, match="'splats', not a radiance field"):
        load_field(tmp_path / "f.safetensors")


def drop_tensor(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    del tensors["param.basis" if "param.basis" in tensors else "param.branch.basis"]


def drop_occupancy(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    del tensors["occupancy"]


def other_shape(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    metadata["config"]["resolution"] = 10


def unknown_architecture(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    metadata["architecture"] = "octree"


def unknown_setting(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    metadata["config"]["colour"] = 8


def no_config(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    del metadata["config"]


def not_finite(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    tensors["param.branch.basis"][0, 0] = float("nan")


def short_occupancy(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    metadata["occupancy_resolution"] = 32


def squeezed_frame(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    tensors["world_from_field"][0] *= 2.0


def broken_cameras(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    tensors["views.K"] = tensors["views.K"][:2].clone()


LIES = [
    drop_tensor,
    drop_occupancy,
    other_shape,
    unknown_architecture,
    unknown_setting,
    no_config,
    not_finite,
    short_occupancy,
    squeezed_frame,
    broken_cameras,
]


@pytest.mark.parametrize("lie", LIES, ids=[lie.__name__ for lie in LIES])
def test_a_file_that_contradicts_itself_is_refused(
    saved: Path, lie: Callable[[dict[str, Tensor], dict[str, Any]], None]
) -> None:
    tensors, metadata = load_tensors(saved)
    lie(tensors, metadata)
    save_tensors(saved, tensors, metadata)
    with pytest.raises(InputError):
        load_field(saved)


def test_voxel_values_must_be_as_many_as_the_nodes(tmp_path: Path) -> None:
    field = scene("plenoxels")
    tensors = field_tensors(field)
    tensors["param.values"] = tensors["param.values"][:-3].clone()
    save_tensors(tmp_path / "f.safetensors", tensors, field_metadata(field))
    with pytest.raises(InputError, match=r"f\.safetensors"):
        load_field(tmp_path / "f.safetensors")


def test_a_file_of_a_newer_version_asks_for_an_update(saved: Path) -> None:
    tensors, metadata = load_tensors(saved)
    save_tensors(saved, tensors, {**metadata, "version": metadata["version"] + 1})
    with pytest.raises(InputError, match="newer geodistill"):
        load_field(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_field_that_is_not_finite_is_not_saved_and_the_old_file_stays(
    saved: Path, value: float
) -> None:
    before = saved.read_bytes()
    field = scene("tensorf")
    next(iter(field.parameters())).data.view(-1)[7] = value
    with pytest.raises(InputError, match="1 NaN or infinite"):
        save_field(field, saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_the_description_is_that_of_the_field(tmp_path: Path) -> None:
    field = scene("plenoxels")
    save_field(field, tmp_path / "f.safetensors")
    told = describe(tmp_path / "f.safetensors")
    assert told["architecture"] == "plenoxels"
    assert told["parameters"] == field.parameter_count()
    assert told["config"] == {"resolution": 9}
    assert (told["views"], told["color_space"]) == (5, "linear")
    # A cube of half width 1/3 about (0.1, 1000, -2), turned by a right angle.
    low, high = told["bounds"]
    assert low == pytest.approx([0.1 - 1 / 3, 1e3 - 1 / 3, -2 - 1 / 3])
    assert high == pytest.approx([0.1 + 1 / 3, 1e3 + 1 / 3, -2 + 1 / 3])
