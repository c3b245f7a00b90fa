"""What does not fit is refused with a sentence that names it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from geodistill import kernels
from geodistill.checks import GeodistillError

SPEC = kernels.HashSpec(levels=2, log2_size=5, base_resolution=2, max_resolution=4)
X = torch.rand(4, 3)
PLANES = [torch.rand(3, 3, 2) for _ in range(3)]
LINES = [torch.rand(3, 2) for _ in range(3)]
LINKS = torch.zeros(2, 2, 2, dtype=torch.int32)
OFFSETS = torch.tensor([0, 1, 4])
GRID = torch.ones(2, 2, 2)
ONES = torch.ones(4)
FACES = torch.tensor([[0, 1, 2]])
EYE = torch.eye(3)
MEANS, CONICS = torch.rand(4, 2), torch.tensor([[1.0, 0.0, 1.0]]).expand(4, 3)
BENT = 2 * torch.eye(4, 3).roll(1, 1)
SPLATS = (MEANS, CONICS, ONES)
PLAN = kernels.splat_plan(*SPLATS, ONES, (3, 5))

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "points": (
        lambda: kernels.hash_encode(X[:, :2], torch.zeros(SPEC.entries, 2), SPEC),
        r"x must have shape \[N, 3\], got \[4, 2\]",
    ),
    "table": (
        lambda: kernels.hash_encode(X, torch.zeros(7, 2), SPEC),
        rf"table must have shape \[{SPEC.entries}, 2\], got \[7, 2\]",
    ),
    "planes": (
        lambda: kernels.plane_line(X, PLANES[:2], LINES),
        "planes must hold 3 tensors, one per axis, got 2",
    ),
    "channels": (
        lambda: kernels.plane_line(X, PLANES, [*LINES[:2], torch.rand(3, 5)]),
        r"lines\[2\] must have shape \[_, C\], got \[3, 5\]",
    ),
    "lines": (lambda: kernels.line_product(X, [torch.rand(3)] * 3), r"lines\[0\] must have shape"),
    "links": (
        lambda: kernels.voxel_interp(X, LINKS.long(), ONES[:, None]),
        "links must be int32, got torch.int64: pass links.int",
    ),
    "step": (lambda: kernels.march(X, X, ONES, ONES, 0.0, GRID), "step must be positive, got 0.0"),
    "near": (
        lambda: kernels.march(X, X, ONES[:2], ONES, 0.1, GRID),
        r"near must have shape \[N\], got \[2\]",
    ),
    "samples": (
        lambda: kernels.ray_weights(ONES, ONES[:3], OFFSETS),
        r"dt must have shape \[S\], got \[3\] \(S = 4 from sigma\)",
    ),
    "offsets end": (
        lambda: kernels.ray_weights(ONES[:3], ONES[:3], OFFSETS),
        "offsets end at 4, but there are 3 samples",
    ),
    "offsets dtype": (
        lambda: kernels.segment_sum(ONES, X, OFFSETS.int()),
        "offsets must be int64 of shape",
    ),
    "adam": (
        lambda: kernels.sparse_adam_step(X, X[:2], X, X, 0.1, 0.9, 0.99, 1e-8, 1),
        r"grad must have shape \[4, 3\], got \[2, 3\]",
    ),
    "adam step": (
        lambda: kernels.sparse_adam_step(X, X, X, X, 0.1, 0.9, 0.99, 1e-8, 0),
        "step must be at least 1, got 0",
    ),
    "adam layout": (
        lambda: kernels.sparse_adam_step(X.t(), X.t(), X.t(), X.t(), 0.1, 0.9, 0.99, 1e-8, 1),
        "param must be contiguous",
    ),
    "mlp": (
        lambda: kernels.fused_mlp(X, [torch.rand(5, 3), torch.rand(2, 6)]),
        r"weights\[1\] must have shape \[D2, D1\], got \[2, 6\] \(D1 = 5 from weights\[0\]\)",
    ),
    "splats": (
        lambda: kernels.splat_plan(MEANS, CONICS[:3], ONES, ONES, (3, 5)),
        r"conics must have shape \[N, 3\], got \[3, 3\] \(N = 4 from means_px\)",
    ),
    "splat NaN": (
        lambda: kernels.splat_plan(MEANS * torch.nan, CONICS, ONES, ONES, (3, 5)),
        r"means_px holds 8 NaN or infinite values of 8, the first at index \[0, 0\]",
    ),
    "splat depths": (
        lambda: kernels.splat_plan(MEANS, CONICS, ONES, ONES / 0, (3, 5)),
        "depths holds 4 NaN or infinite values of 4",
    ),
    "splat opacities": (
        lambda: kernels.splat_plan(MEANS, CONICS, torch.tensor([0, 1, 1.5, -1]), ONES, (3, 5)),
        r"opacities holds 2 of 4 that are outside \[0, 1\], the first at index 2",
    ),
    "splat conics": (
        lambda: kernels.splat_plan(
            MEANS, CONICS + 2 * torch.eye(4, 3).roll(1, 1), *[ONES] * 2, (3, 5)
        ),
        "conics holds 1 of 4 that are not positive semi-definite, the first at index 0",
    ),
    "splat size": (
        lambda: kernels.splat_plan(*SPLATS, ONES, (0, 5)),
        r"size must be \(height, width\) of at least 1, got \(0, 5\)",
    ),
    "splat features": (
        lambda: kernels.splat(*SPLATS, torch.rand(5, 2), PLAN),
        r"features must have shape \[N, C\], got \[5, 2\] \(N = 4 from means_px\)",
    ),
    "splat plan": (
        lambda: kernels.splat(*(v[:2] for v in SPLATS), torch.rand(2, 2), PLAN),
        "the plan was made of 4 splats, but means_px holds 2",
    ),
    "splat pixels": (
        lambda: kernels.splat_adjoint(*SPLATS, torch.rand(14, 2), PLAN),
        r"pixels must have shape \[15, C\], got \[14, 2\]",
    ),
    "no layers": (lambda: kernels.fused_mlp(X, []), "fused_mlp needs at least one weight matrix"),
    "faces dtype": (
        lambda: kernels.rasterize(X, FACES.int(), EYE, (4, 4), 0.1),
        "faces must be torch.int64, got torch.int32: pass faces.to",
    ),
    "faces past the points": (
        lambda: kernels.rasterize(X, FACES + 2, EYE, (4, 4), 0.1),
        "faces holds 4, but there are 4 rows to point at",
    ),
    "negative faces": (
        lambda: kernels.rasterize(X, FACES - 1, EYE, (4, 4), 0.1),
        "faces holds -1, but there are 4 rows",
    ),
    "near plane": (
        lambda: kernels.rasterize(X, FACES, EYE, (4, 4), 0.0),
        "near must be positive and finite, got 0.0",
    ),
    "image size": (
        lambda: kernels.rasterize(X, FACES, EYE, (0, 4), 0.1),
        r"size must be \(height, width\) of at least 1, got \(0, 4\)",
    ),
    "intrinsics": (
        lambda: kernels.rasterize(X, FACES, EYE * 2, (4, 4), 0.1),
        r"K must be \[\[fx, s, cx\], \[0, fy, cy\], \[0, 0, 1\]\], got",
    ),
    "index": (
        lambda: kernels.gather(X, torch.full((2, 3), 4, dtype=torch.int32), torch.ones(2, 3)),
        "index holds 4, but there are 4 rows to point at",
    ),
    "index dtype": (
        lambda: kernels.gather(X, FACES, torch.ones(1, 3)),
        "index must be torch.int32, got torch.int64",
    ),
    "weights": (
        lambda: kernels.gather(X, FACES.int(), torch.ones(1, 2)),
        r"weights must have shape \[P, K\], got \[1, 2\] \(K = 3 from index\)",
    ),
    "elements": (
        lambda: kernels.scatter(X[:1], FACES.int(), torch.ones(1, 3), 2),
        "index holds 2, but there are 2 rows to point at",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_error_names_what_is_wrong(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(GeodistillError, match=message):
        call()


@pytest.mark.parametrize("offsets", [[0, 3, 2, 4], [1, 2, 3, 4]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_offsets_that_go_back_are_refused(offsets: list[int], dtype: torch.dtype) -> None:
    ones = torch.ones(4, dtype=dtype)
    with pytest.raises(GeodistillError, match="offsets must start at 0 and never decrease"):
        kernels.ray_weights(ones, ones, torch.tensor(offsets))
