"""Checkpoints of torch-ngp and PVD against a plain reading of what these programs compute."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, UsageError
from geodistill.geometry.fields import load_field, save_field
from geodistill.geometry.fields.foreign import field_from_arrays
from geodistill.io.fields.torch_ngp import read_torch_ngp
from geodistill.io.fields.torch_ngp_write import torch_ngp_files
from tests.io.field_values import directions, mutations, occupied, values, write
from tests.io.torch_ngp_models import Cp, Hash, Model, Network, Vm, Voxels

KINDS = {
    "torch-ngp": lambda: Hash(finest=128),
    "torch-ngp, bound 2": lambda: Hash(bound=2.0, finest=128, seed=1),
    "torch-ngp, bound 1.5": lambda: Hash(bound=1.5, finest=128, levels=6),
    "torch-ngp, unrounded table": lambda: Hash(finest=128, rounded=False),
    "torch-ngp, dense": lambda: Hash(finest=128, levels=3, log2_size=19, base=4, features=1),
    "PVD hash": lambda: Hash(levels=14, finest=128, clip=(-2.0, 7.0), seed=2),
    "VM": lambda: Vm(),
    "VM, cube and bound 2": lambda: Vm(nodes=(8, 8, 8), bound=2.0),
    "VM, shrunk box": lambda: Vm(bound=2.0, box=(-1.0, -1.5, -0.5, 1.25, 2.0, 0.75)),
    "VM, ranks": lambda: Vm(sigma_rank=(1, 3, 2), color_rank=(5, 2, 3)),
    "PVD VM": lambda: Vm(pvd=True, nodes=(8, 8, 8)),
    "PVD VM, bound 2": lambda: Vm(pvd=True, nodes=(8, 8, 8), bound=2.0),
    "CP": lambda: Cp(bound=2.0),
    "PVD network": lambda: Network(bound=1.5),
    "PVD network, no skip": lambda: Network(skip=None, depth=3),
    "PVD voxels": lambda: Voxels(bound=2.0),
    "PVD voxels, LLFF": lambda: Voxels(shape=(9, 11, 8), degree=2),
}
CYCLE = [2, 0, 1]
"""The user's x, y, z out of the program's"""


def points(model: Model, count: int = 60) -> np.ndarray:
    return (np.random.default_rng(5).random((count, 3)) * 2 - 1) * model.bound * 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_program(tmp_path: Path, kind: str) -> None:
    model, path = KINDS[kind](), tmp_path / "ngp.pth"
    model.save(path)
    scale, offset = 0.4, np.array([0.1, -0.2, 0.3])
    arrays = read_torch_ngp(path, scale=scale, offset=offset)
    x, d = points(model), directions(60)
    box = model.state["aabb_train"].double().numpy()
    inside = ((x > box[:3]) & (x < box[3:])).all(1)
    sigma, rgb = model.values(x[inside], d[inside])
    world = ((x - offset) / scale)[:, CYCLE]
    found = values(arrays, world, d[:, CYCLE])
    np.testing.assert_allclose(found[0][inside], sigma * scale, rtol=1e-4)
    np.testing.assert_allclose(found[1][inside], rgb, atol=1e-4)
    assert not found[0][~inside].any()
    expected = [model.occupied(place) for place in x]
    if model.bound != 1.5:
        assert occupied(arrays, world).tolist() == expected
    else:  # whose cascades do not nest: a cell counts where any part of it does
        assert occupied(arrays, world)[expected].all()
        assert not occupied(arrays, world).all()


def test_a_clamp_is_reached() -> None:
    """What the tests of PVD's clamps need to mean something."""
    for kind in ("PVD hash", "PVD VM", "PVD voxels"):
        sigma = KINDS[kind]().values(points(KINDS[kind](), 200), directions(200))[0]
        assert (sigma == math.exp(-2.0)).any()


def test_averaged_weights_are_used(tmp_path: Path) -> None:
    model, path = Hash(finest=128), tmp_path / "ngp.pth"
    buffers = {"encoder.offsets", *[n for n in model.state if n.count(".") == 0]}
    shadow = [tensor * 0.5 for name, tensor in model.state.items() if name not in buffers]
    ema = {"decay": 0.95, "num_updates": 7, "shadow_params": shadow, "collected_params": []}
    torch.save({**model.checkpoint(), "ema": ema}, path)
    arrays = read_torch_ngp(path)
    for name in model.state:
        if name not in buffers:
            model.state[name] = model.state[name] * 0.5
    x, d = points(model), directions(60)
    np.testing.assert_allclose(
        values(arrays, x[:, CYCLE], d[:, CYCLE])[0], model.values(x, d)[0], rtol=1e-4
    )


def test_averages_that_do_not_fit_are_left(tmp_path: Path, capsys) -> None:
    model, path = Hash(finest=128), tmp_path / "ngp.pth"
    torch.save({**model.checkpoint(), "ema": {"shadow_params": [torch.zeros(2)]}}, path)
    arrays = read_torch_ngp(path)
    assert "do not fit" in capsys.readouterr().err
    assert arrays["parameters"]["branch.table"].any()


def test_weights_alone_and_weights_of_several_processes(tmp_path: Path) -> None:
    model = Cp()
    torch.save(model.state, tmp_path / "a.pth")
    torch.save({"model": {f"module.{n}": t for n, t in model.state.items()}}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        assert read_torch_ngp(tmp_path / name)["architecture"] == "tensorf-cp"


def test_half_precision(tmp_path: Path) -> None:
    model, path = Hash(finest=128), tmp_path / "ngp.pth"
    model.state["encoder.embeddings"] = model.state["encoder.embeddings"].half()
    model.save(path)
    expected = model.state["encoder.embeddings"].float().numpy()
    np.testing.assert_array_equal(read_torch_ngp(path)["parameters"]["branch.table"], expected)


def test_occupancy_of_densities(tmp_path: Path) -> None:
    """Where a file has no bits, the densities decide; -1 is what was never seen."""
    model, path = Cp(bound=2.0), tmp_path / "ngp.pth"
    bits = read_with(model, path)
    del model.state["density_bitfield"]
    assert np.array_equal(read_with(model, path), bits)
    model.state["density_grid"][:] = -1.0
    model.save(path)
    assert read_torch_ngp(path)["occupancy"] is None
    del model.state["density_grid"]
    model.save(path)
    assert read_torch_ngp(path)["occupancy"] is None


def read_with(model: Model, path: Path) -> np.ndarray:
    model.save(path)
    occupancy = read_torch_ngp(path)["occupancy"]
    assert occupancy is not None
    return occupancy


def test_a_default_says_what_the_file_cannot(tmp_path: Path, capsys) -> None:
    Cp().save(tmp_path / "ngp.pth")
    frame = read_torch_ngp(tmp_path / "ngp.pth")["world_from_field"]
    assert "scale" in capsys.readouterr().err
    np.testing.assert_array_equal(frame[:3, :3], np.eye(3)[CYCLE])


def test_a_background_is_left_out(tmp_path: Path, capsys) -> None:
    model = Cp()
    model.state["bg_net.0.weight"] = torch.zeros(64, 24)
    model.save(tmp_path / "ngp.pth")
    read_torch_ngp(tmp_path / "ngp.pth")
    assert "background" in capsys.readouterr().err


def changed(model: Model, **tensors: torch.Tensor | None) -> Model:
    for name, tensor in tensors.items():
        name = name.replace("__", ".")
        if tensor is None:
            del model.state[name]
        else:
            model.state[name] = tensor
    return model


HASH = lambda **tensors: changed(Hash(finest=128), **tensors)  # noqa: E731
REFUSED = {
    "no weights": (lambda: changed(Cp(), sigma_vec__0=None, sigma_vec__1=None), "no field of"),
    "a fused network": (lambda: HASH(sigma_net__weights=torch.zeros(9)), "--tcnn or --ff"),
    "no box": (lambda: HASH(aabb_infer=None), "aabb_infer"),
    "no cube": (lambda: HASH(aabb_infer=torch.tensor([-1.0, -1, -1, 1, 1, 2])), "no cube"),
    "NaN": (lambda: HASH(sigma_net__0__weight=torch.full((64, 32), math.nan)), "NaN"),
    "another shape": (lambda: HASH(sigma_net__0__weight=torch.zeros(64, 30)), "not float"),
    "integers": (
        lambda: HASH(sigma_net__0__weight=torch.zeros(64, 32, dtype=torch.int32)),
        "int32",
    ),
    "a missing layer": (lambda: HASH(sigma_net__1__weight=None), "layers"),
    "four colours": (lambda: HASH(color_net__2__weight=torch.zeros(4, 64)), "colours"),
    "a net that moves it": (lambda: HASH(deform_net__0__weight=torch.zeros(4, 4)), "deform_net"),
    "offsets that end early": (
        lambda: HASH(encoder__offsets=torch.tensor([0, 8, 16], dtype=torch.int32)),
        "damaged",
    ),
    "offsets that are no numbers": (lambda: HASH(encoder__offsets=torch.zeros(0)), "damaged"),
    "three features": (
        lambda: HASH(encoder__embeddings=torch.zeros(Hash(finest=128).offsets[-1], 3)),
        "3 features",
    ),
    "unknown resolutions": (lambda: Hash(finest=100.0, levels=5, log2_size=19), "fit no"),
    "bits of another bound": (
        lambda: HASH(density_bitfield=torch.ones(128**3 // 4, dtype=torch.uint8)),
        "density grid",
    ),
    "lines of another grid": (
        lambda: changed(Vm(), sigma_vec__0=torch.zeros(1, 3, 7, 1)),
        "planes",
    ),
    "lines of unlike ranks": (
        lambda: changed(Cp(), color_vec__0=torch.zeros(1, 3, 13, 1)),
        "belong",
    ),
    "a box beyond the bound": (lambda: Vm(box=(-1.0, -1.0, -3.0, 1.0, 1.0, 1.0)), "within"),
    "no encoding": (
        lambda: changed(Network(), nerf_mlp__0__weight=torch.zeros(24, 26)),
        "encoding",
    ),
    "odd harmonics": (
        lambda: changed(Voxels(), tensor_volume__0=torch.zeros(1, 27, 8, 8, 8)),
        "27",
    ),
    "a wild bound": (lambda: HASH(aabb_infer=torch.tensor([-0.1] * 3 + [0.1] * 3)), "bound"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    make().save(tmp_path / "ngp.pth")
    with pytest.raises(InputError, match=words) as caught:
        read_torch_ngp(tmp_path / "ngp.pth")
    assert "\n" not in str(caught.value) and "ngp.pth" in str(caught.value)


def test_weights_without_names(tmp_path: Path) -> None:
    path = tmp_path / "ngp.pth"
    torch.save({"model": {0: torch.ones(2)}}, path)
    with pytest.raises(InputError, match="holds no weights of a model"):
        read_torch_ngp(path)


def test_a_damaged_file_is_refused_or_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    model = Hash(finest=128, levels=3, log2_size=8)
    del model.state["density_grid"]
    model.save(file)
    path, outcomes = tmp_path / "ngp.pth", set()
    for content in mutations(file.getvalue(), 50):
        path.write_bytes(content)
        try:
            field_from_arrays(read_torch_ngp(path), "it")
            outcomes.add("read")
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes


def test_counts_that_lie_inside_a_whole_file(tmp_path: Path) -> None:
    """A file that is a checkpoint, whose tensors are of other sizes and kinds than they should."""
    path = tmp_path / "ngp.pth"
    makers = [KINDS[kind] for kind in KINDS if kind != "torch-ngp, dense"]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        model = makers[seed % len(makers)]()
        name = list(model.state)[int(rng.integers(len(model.state)))]
        tensor = model.state[name]
        kind = seed // len(makers)
        if kind == 0:
            model.state[name] = tensor.flatten()[: int(rng.integers(tensor.numel()))]
        elif kind == 1:
            model.state[name] = tensor.new_zeros(tensor.shape)
        elif kind == 2:
            model.state[name] = tensor.long() * 3
        else:
            model.state[name] = tensor[..., None].expand(*tensor.shape, 2).contiguous()
        model.save(path)
        try:
            arrays = read_torch_ngp(path)
            values({**arrays}, points(model, 3), directions(3))
        except InputError as error:
            assert "\n" not in str(error)


# Writing


WRITTEN = {
    "torch-ngp": lambda: Hash(log2_size=19, bound=2.0),
    "PVD hash": lambda: Hash(log2_size=19, levels=14, clip=(-2.0, 7.0)),
    "VM": lambda: Vm(sigma_rank=(16, 16, 16), color_rank=(48, 48, 48), bound=2.0),
    "VM, shrunk box": lambda: Vm(
        sigma_rank=(16,) * 3,
        color_rank=(48,) * 3,
        bound=2.0,
        box=(-1.0, -1.5, -0.5, 1.25, 2.0, 0.75),
    ),
    "PVD VM": lambda: Vm(pvd=True, sigma_rank=(16,) * 3, color_rank=(48,) * 3),
    "CP": lambda: Cp(sigma_rank=96, color_rank=288),
    "PVD network": lambda: Network(bound=2.0),
    "PVD voxels": lambda: Voxels(),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_written_is_what_was_read(tmp_path: Path, kind: str) -> None:
    """Names, shapes, types and numbers of the state are the program's own."""
    model, path = WRITTEN[kind](), tmp_path / "ngp.pth"
    model.save(path)
    arrays = read_torch_ngp(path, scale=0.5, offset=(0.1, 0.2, 0.3))
    back = write(torch_ngp_files(arrays, path), tmp_path / "back.pth")
    stored = torch.load(back, weights_only=True)
    state = stored["model"]
    assert list(state) == list(model.state)
    for name, tensor in model.state.items():
        assert state[name].shape == tensor.shape and state[name].dtype == tensor.dtype, name
        if name not in ("density_grid", "density_bitfield", "step_counter"):
            np.testing.assert_allclose(state[name], tensor, rtol=1e-6, atol=1e-6, err_msg=name)
    seen = state["density_grid"] > min(stored["mean_density"], 10.0)
    packed = np.packbits(seen.numpy().reshape(-1), bitorder="little")
    assert np.array_equal(state["density_bitfield"], packed)
    assert torch.equal(seen[0], model.bits[0])
    again = read_torch_ngp(back)
    assert again["config"] == arrays["config"]
    np.testing.assert_allclose(again["world_from_field"], arrays["world_from_field"])
    assert np.array_equal(again["occupancy"], arrays["occupancy"])
    for name, values_ in arrays["parameters"].items():
        np.testing.assert_allclose(again["parameters"][name], values_, rtol=1e-6, atol=1e-7)


def test_the_arguments_are_told(tmp_path: Path, capsys) -> None:
    model, path = Cp(bound=2.0, sigma_rank=96, color_rank=288), tmp_path / "ngp.pth"
    model.save(path)
    torch_ngp_files(read_torch_ngp(path, scale=0.5, offset=(0.1, 0.2, 0.3)), path)
    assert "--bound 2 --scale 0.5 --offset 0.1 0.2 0.3" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["torch-ngp, bound 1.5", "VM, shrunk box", "PVD VM", "PVD voxels"])
def test_our_own_file_keeps_it_all(tmp_path: Path, kind: str) -> None:
    """What these fields need beyond our own is stored with them."""
    KINDS[kind]().save(tmp_path / "ngp.pth")
    field = load_field(tmp_path / "ngp.pth")
    save_field(field, tmp_path / "own.safetensors")
    again = load_field(tmp_path / "own.safetensors")
    assert again.config == field.config
    x, d = torch.from_numpy(points(KINDS[kind]())), torch.from_numpy(directions(60))
    assert torch.equal(again.density(x), field.density(x)) and field.density(x).any()
    assert torch.equal(again.color(x, d), field.color(x, d))


@pytest.mark.parametrize("architecture", ["ngp", "tensorf", "mlp"])
def test_our_own_fields_are_written(tmp_path: Path, architecture: str, capsys) -> None:
    """In the sizes of PVD, whose latent and colour network are ours."""
    from geodistill.config import from_dict
    from geodistill.geometry.fields import ARCHITECTURES, build_field

    sizes = {"ngp": {}, "tensorf": {"resolution": 16, "density_rank": 15}, "mlp": {"bf16": False}}
    config = from_dict(ARCHITECTURES[architecture].config, sizes[architecture])
    field = build_field(architecture, config, seed=3)
    field.world_from_field[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    save_field(field, tmp_path / "own.pth")
    assert "PVD" in capsys.readouterr().err
    again = load_field(tmp_path / "own.pth")
    x = torch.from_numpy(np.random.default_rng(0).random((50, 3)) * 1.9 - 0.95 + [1, 2, 3])
    d = torch.from_numpy(directions(50))
    torch.testing.assert_close(again.density(x), field.density(x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(again.color(x, d), field.color(x, d), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "ngp.pth"

    def refused(words: str, make: Model, **config) -> None:
        make.save(path)
        arrays = read_torch_ngp(path)
        arrays["config"] = {**arrays["config"], **config}
        with pytest.raises(UsageError, match=words) as caught:
            torch_ngp_files(arrays, path)
        assert "\n" not in str(caught.value)

    refused("--set log2_size=19", Hash(finest=128))
    refused("density_rank", Vm(sigma_rank=(17,) * 3))
    refused("bound|half side", Vm(), decoder={"density_scale": 0.1})
    refused("clamp", Hash(log2_size=19, levels=16), limits=(-2.0, 7.0))
    refused("hidden", Network(), hidden=(64, 64))
    refused("frequencies", Network(), frequencies=(1.0, 3.0))
    refused("floor", Vm(sigma_rank=(16,) * 3, color_rank=(48,) * 3), floor=-8.0)
    refused("nodes", Voxels(), nodes="centres")
    Cp(sigma_rank=96, color_rank=288).save(path)
    arrays = read_torch_ngp(path)
    with pytest.raises(UsageError, match="contracted"):
        torch_ngp_files({**arrays, "contraction": "linf"}, path)
