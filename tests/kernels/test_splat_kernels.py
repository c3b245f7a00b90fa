"""Compositing of Gaussians: against a loop over pixels, in extreme cases, and both ways."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from kernel_cases import assert_close, conics_of, draw, splat_case, splat_geometry
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import SplatPlan, library, reference

FLOAT = torch.float32
SIZE = (37, 53)
BOTH = pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
COMPILED = pytest.mark.skipif(library.LIBRARY is None, reason=kernels.library_status())
Scene = tuple[Tensor, Tensor, Tensor, Tensor]


def by_hand(scene: Scene, features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The published loop, pixel after pixel, over all Gaussians and without tiles."""
    means, conics, opacities, depths = (v.double() for v in scene)
    order = torch.sort(depths, stable=True).indices.tolist()
    out = torch.zeros(size[0] * size[1], features.shape[1], dtype=torch.float64)
    total = torch.zeros(size[0] * size[1], dtype=torch.float64)
    for pixel in range(size[0] * size[1]):
        light = 1.0
        center = torch.tensor([pixel % size[1] + 0.5, pixel // size[1] + 0.5], dtype=torch.float64)
        dx, dy = (center - means).unbind(1)
        a, b, c = conics.unbind(1)
        gaussian = torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)
        for i, alpha in zip(order, (opacities * gaussian)[order].tolist(), strict=True):
            alpha = min(alpha, 0.99)
            if alpha < 1 / 255:
                continue
            if light * (1 - alpha) < 1e-4:
                break
            out[pixel] += light * alpha * features[i].double()
            total[pixel] += light * alpha
            light *= 1 - alpha
    return out, total


def drawn(module: ModuleType | Any, scene: Scene, features: Tensor, size: tuple[int, int]) -> Any:
    plan = module.splat_plan(*scene, size)
    return module.splat(*scene[:3], features, plan)


def blob(opacity: float, deviation: float, depth: float = 1.0, at: float = 8.0) -> Scene:
    """One round Gaussian on the diagonal."""
    conics = torch.tensor([[deviation**-2, 0.0, deviation**-2]])
    return torch.full((1, 2), at), conics, torch.tensor([opacity]), torch.tensor([depth])


def together(*scenes: Scene) -> Scene:
    means, conics, opacities, depths = (torch.cat(parts) for parts in zip(*scenes, strict=True))
    return means, conics, opacities, depths


@BOTH
def test_the_loop_over_pixels(module: ModuleType) -> None:
    size = (21, 33)
    scene, features = splat_geometry(150, FLOAT, size), draw(0, FLOAT)(150, 3)
    found = drawn(module, scene, features, size)
    pixels, opacity = by_hand(scene, features, size)
    torch.testing.assert_close(found.pixels.double(), pixels, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.opacity.double(), opacity, rtol=0, atol=1e-5)


@COMPILED
@pytest.mark.parametrize("channels", [1, 3, 17, 64, 384])
def test_every_channel_count_agrees(channels: int) -> None:
    case = splat_case(200, FLOAT, channels)
    found = case.outputs_and_gradients(kernels)
    assert_close(found, case.outputs_and_gradients(reference), 2e-5)


@COMPILED
@pytest.mark.parametrize("channels", [0, 1, 3, 17, 64, 384])
def test_the_adjoint_agrees(channels: int) -> None:
    *geometry, depths = splat_geometry(200, FLOAT, SIZE)
    pixels = draw(0, FLOAT)(SIZE[0] * SIZE[1], channels)
    plan = kernels.splat_plan(*geometry, depths, SIZE)
    found = kernels.splat_adjoint(*geometry, pixels, plan)
    assert_close([found], [reference.splat_adjoint(*geometry, pixels, plan)], 1e-6)


@BOTH
def test_the_adjoint_is_the_gradient_of_the_features(module: Any) -> None:
    *geometry, depths = splat_geometry(90, FLOAT, SIZE)
    plan = module.splat_plan(*geometry, depths, SIZE)
    features = draw(0, FLOAT)(90, 5).requires_grad_()
    pixels = draw(1, FLOAT)(SIZE[0] * SIZE[1], 5)
    seen = module.splat(*geometry, features, plan).pixels
    (expected,) = torch.autograd.grad(seen, features, pixels)
    found = module.splat_adjoint(*geometry, pixels, plan)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def same_plan(a: SplatPlan, b: SplatPlan) -> bool:
    return torch.equal(a.offsets, b.offsets) and torch.equal(a.elements, b.elements)


@COMPILED
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 15), (100, 7)])
def test_plans_agree_and_miss_nothing(size: tuple[int, int]) -> None:
    scene = splat_geometry(400, FLOAT, size)
    found = kernels.splat_plan(*scene, size)
    assert same_plan(found, reference.splat_plan(*scene, size))
    columns = -(-size[1] // 16)
    rows = torch.arange(size[0] * size[1])
    tile = rows // size[1] // 16 * columns + rows % size[1] // 16
    means, conics, opacities, _ = scene
    dx = (rows % size[1] + 0.5)[:, None] - means[:, 0]
    dy = (rows // size[1] + 0.5)[:, None] - means[:, 1]
    a, b, c = conics.unbind(1)
    alpha = opacities * torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)
    needed = torch.zeros(len(found.offsets) - 1, 400, dtype=torch.int32)
    needed.index_add_(0, tile, (alpha >= 1 / 255).int())
    listed = torch.zeros_like(needed)
    listed[kernels.ray_index(found.offsets), found.elements.long()] = 1
    assert not ((needed > 0) & (listed == 0)).any()
    assert listed.sum() < 1.2 * (needed > 0).sum() + 5


@BOTH
def test_nothing_is_drawn_of_nothing(module: ModuleType) -> None:
    scene = splat_geometry(0, FLOAT, SIZE)
    found = drawn(module, scene, torch.zeros(0, 4), SIZE)
    assert found.pixels.shape == (SIZE[0] * SIZE[1], 4) and not found.pixels.any()
    assert not found.opacity.any()


@BOTH
def test_what_is_off_the_image_or_faint_is_not_drawn(module: Any) -> None:
    scene = together(*(blob(1.0, 2.0, at=at) for at in (-1e6, -40.0, 70.0, 3e9)), blob(0.0039, 5.0))
    plan = module.splat_plan(*scene, (32, 32))
    assert len(plan.elements) == 0
    given = [v.clone().requires_grad_() for v in scene[:3]]
    features = torch.ones(5, 2, requires_grad=True)
    seen = module.splat(*given, features, plan)
    assert not seen.pixels.any() and not seen.opacity.any()
    found = torch.autograd.grad(seen.pixels.sum() + seen.opacity.sum(), [*given, features])
    assert not any(grad.any() for grad in found)


@BOTH
def test_nearer_ones_hide_what_is_behind(module: ModuleType) -> None:
    walls = [blob(0.95, 1e4, depth) for depth in (3.0, 1.0, 5.0, 2.0, 4.0)]
    found = drawn(module, together(*walls), torch.eye(5), (9, 20))
    # The fourth would leave less than STOP of the light: it is not drawn, nor what is behind it.
    expected = 0.95 * torch.tensor([0.05**2, 1.0, 0.0, 0.05, 0.0])
    torch.testing.assert_close(found.pixels, expected.expand(180, 5), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.opacity, expected.sum().expand(180))


@BOTH
def test_equal_depths_keep_their_order(module: ModuleType) -> None:
    scene = together(blob(0.5, 1e4), blob(0.5, 1e4))
    found = drawn(module, scene, torch.eye(2), (2, 2))
    torch.testing.assert_close(found.pixels, torch.tensor([0.5, 0.25]).expand(4, 2))


@BOTH
def test_order_in_memory_does_not_matter(module: ModuleType) -> None:
    scene, features = splat_geometry(300, FLOAT, SIZE), draw(0, FLOAT)(300, 3)
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    moved = tuple(v[shuffle] for v in scene)
    a = drawn(module, scene, features, SIZE)
    b = drawn(module, moved, features[shuffle], SIZE)  # pyright: ignore[reportArgumentType]
    assert torch.equal(a.pixels, b.pixels) and torch.equal(a.opacity, b.opacity)


@BOTH
def test_one_channel_of_ones_is_the_opacity(module: ModuleType) -> None:
    scene = splat_geometry(300, FLOAT, SIZE)
    seen = drawn(module, scene, torch.ones(300, 1), SIZE)
    torch.testing.assert_close(seen.pixels[:, 0], seen.opacity, rtol=1e-6, atol=1e-7)
    assert seen.opacity.max() <= 1


@COMPILED
def test_one_channel_of_ones_is_the_opacity_to_the_bit() -> None:
    scene = splat_geometry(300, FLOAT, SIZE)
    seen = drawn(kernels, scene, torch.ones(300, 7), SIZE)
    assert torch.equal(seen.pixels, seen.opacity[:, None].expand(-1, 7))


def flat() -> dict[str, Tensor]:
    """Conics that float32 cannot invert."""
    turned = torch.tensor([0.7])
    return {
        "everywhere": torch.zeros(1, 3),
        "a band": torch.tensor([[0.5, 0.0, 0.0]]),
        "a diagonal band": torch.tensor([[0.25, -0.25, 0.25]]),
        "a needle": conics_of(torch.tensor([[0.6, 1e5]]), turned),
        "one that rounding bent": torch.tensor([[1.0, -1.000004, 1.0]]),
        "one of infinite sharpness": torch.tensor([[1e30, 0.0, 1e30]]),
    }


@BOTH
@pytest.mark.parametrize("name", flat())
def test_degenerate_gaussians(module: Any, name: str) -> None:
    scene = torch.tensor([[20.5, 15.5]]), flat()[name], torch.tensor([0.5]), torch.zeros(1)
    seen = drawn(module, scene, torch.ones(1, 1), SIZE).opacity.view(SIZE)
    expected = {"everywhere": 37 * 53, "one of infinite sharpness": 1}.get(name)
    share = int((seen > 0).sum())
    assert share == expected if expected else 60 < share < 600
    assert seen.max() == 0.5 and seen[15, 20] == 0.5
    if name == "a needle":
        along = torch.tensor([math.cos(0.7 + math.pi / 2), math.sin(0.7 + math.pi / 2)]) * 12
        x, y = (along + torch.tensor([20.5, 15.5])).floor().int().tolist()
        assert seen[y, x] > 0.3


@COMPILED
@pytest.mark.parametrize("name", flat())
def test_degenerate_gaussians_agree(name: str) -> None:
    """With one another and with ordinary ones around them, gradients included."""
    case = splat_case(60, FLOAT)
    means, conics, opacities, features = case.inputs
    conics = torch.cat([conics[:-1], flat()[name]])
    found = type(case)(case.run, (means, conics, opacities, features))
    a, b = found.outputs_and_gradients(kernels), found.outputs_and_gradients(reference)
    assert all(v.isfinite().all() for v in a)
    assert_close(a, b, 1e-4)


@COMPILED
@pytest.mark.parametrize("opacity", [0.98, 0.995, 1.0])
def test_opaque_gaussians_agree(opacity: float) -> None:
    case = splat_case(300, FLOAT)
    means, conics, opacities, features = case.inputs
    opaque = type(case)(case.run, (means, conics, torch.full_like(opacities, opacity), features))
    found = opaque.outputs_and_gradients(kernels)
    assert_close(found, opaque.outputs_and_gradients(reference), 1e-4)


@COMPILED
def test_more_splats_in_a_tile_than_any_block() -> None:
    """Faint ones, so that light gets through all of them."""
    case = splat_case(3000, FLOAT, channels=3, size=(16, 16))
    means, conics, opacities, features = case.inputs
    faint = type(case)(case.run, (means, conics, 0.02 * opacities, features))
    found = faint.outputs_and_gradients(kernels)
    assert_close(found, faint.outputs_and_gradients(reference), 1e-4)


@COMPILED
def test_parts_of_the_gradient_are_the_same_as_all_of_it() -> None:
    case = splat_case(200, FLOAT)
    every = case.outputs_and_gradients(kernels)[2:]
    for wanted in ([0], [2], [3], [1, 3]):
        inputs = [v.clone().requires_grad_(i in wanted) for i, v in enumerate(case.inputs)]
        outputs = case.run(kernels, *inputs)
        generator = torch.Generator().manual_seed(1)
        grads = [torch.randn(o.shape, generator=generator) for o in outputs]
        found = torch.autograd.grad(outputs, [inputs[i] for i in wanted], grads)
        assert all(torch.equal(a, every[i]) for a, i in zip(found, wanted, strict=True))
