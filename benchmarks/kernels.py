"""Times every kernel against the best pure-torch form of the same thing, side by side in one run.

    python benchmarks/kernels.py [--json] [--threads 1] [--repeats 7] [--only hash,composite]

Each row is the median CPU time of interleaved repeats; ratios compare with the fastest torch form.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import reference
from geodistill.kernels.hashspec import PRIMES
from geodistill.kernels.reference import LINE_AXES, PLANE_AXES

Outputs = tuple[Tensor, ...]
Form = Callable[[], object]


@dataclass
class Case:
    """One kernel at one size: `ours` and torch `forms` compute the same outputs."""

    name: str
    ours: Form
    forms: Mapping[str, Form]
    learned: list[Tensor] = field(
        default_factory=list
    )  # what receives gradients; none: forward only


def hash_case() -> Case:
    """16 levels, 2^19 entries, 2^18 uniform points, gradient to the table."""
    spec = kernels.HashSpec()
    x = torch.rand(2**18, 3)
    table = torch.randn(spec.entries, spec.features, requires_grad=True)

    def by_level(look_up: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        parts = []
        for level in range(spec.levels):
            rows = table[spec.offsets[level] : spec.offsets[level + 1]]
            parts.append(look_up(rows, *corners_of(x, spec, level)))
        return torch.cat(parts, dim=1)

    return Case(
        "hash_encode 16x2^19, 2^18 points",
        lambda: kernels.hash_encode(x, table, spec),
        {
            "reference": lambda: reference.hash_encode(x, table, spec),
            "indexing": lambda: by_level(lambda t, e, w: (t[e] * w[..., None]).sum(1)),
            "index_select": lambda: by_level(
                lambda t, e, w: torch.einsum(
                    "ncf,nc->nf", t.index_select(0, e.flatten()).view(*e.shape, -1), w
                )
            ),
            "embedding": lambda: by_level(
                lambda t, e, w: torch.bmm(w[:, None], F.embedding(e, t)).squeeze(1)
            ),
            "embedding_bag": lambda: by_level(
                lambda t, e, w: F.embedding_bag(e, t, per_sample_weights=w, mode="sum")
            ),
        },
        [table],
    )


def corners_of(x: Tensor, spec: kernels.HashSpec, level: int) -> tuple[Tensor, Tensor]:
    """Entries and weights [N, 8] of one level, computed for all corners at once."""
    position = x * spec.scales[level] + spec.shift
    cell = position.floor()
    fraction = position - cell
    pair = torch.stack([1 - fraction, fraction], dim=-1)
    weights = (
        pair[:, 0, :, None, None] * pair[:, 1, None, :, None] * pair[:, 2, None, None, :]
    ).flatten(1)
    nodes = cell.long()[:, :, None] + torch.arange(2)
    stride = spec.strides[level]
    if stride:
        i, j, k = nodes[:, 0], nodes[:, 1] * stride, nodes[:, 2] * stride**2
        entries = i[:, :, None, None] + j[:, None, :, None] + k[:, None, None, :]
        entries = entries % spec.sizes[level]
    else:
        i, j, k = (nodes[:, axis] * PRIMES[axis] for axis in range(3))
        entries = i[:, :, None, None] ^ j[:, None, :, None] ^ k[:, None, None, :]
        entries = entries & (spec.sizes[level] - 1)
    return entries.flatten(1), weights


def composite_case(fused: bool) -> Case:
    """8192 rays of about 48 samples: weights, colour, depth and opacity."""
    rays = 8192
    counts = torch.randint(16, 81, (rays,))
    offsets = F.pad(counts.cumsum(0), (1, 0))
    total = int(offsets[-1])
    sigma = torch.rand(total).mul_(5).requires_grad_()
    rgb = torch.rand(total, 3, requires_grad=True)
    t, dt = torch.rand(total), torch.full((total,), 0.01)
    ones = torch.ones(total)

    def one_pass() -> Outputs:
        seen = kernels.composite(sigma, dt, (rgb, t[:, None]), offsets)
        return *seen.sums, seen.opacity

    def separate() -> Outputs:
        weights = kernels.ray_weights(sigma, dt, offsets)
        parts = (rgb, t[:, None], ones[:, None])
        return tuple(kernels.segment_sum(weights, part, offsets) for part in parts)

    # Samples differ from step to step, so every form starts from the offsets.
    def weights_by_cumsum() -> tuple[Tensor, Tensor]:
        owner = kernels.ray_index(offsets)
        tau = sigma * dt
        after = tau.cumsum(0)
        before = after - tau
        return owner, torch.exp(before[offsets[:-1]][owner] - before) * -torch.expm1(-tau)

    def one_index_add() -> Outputs:
        owner, w = weights_by_cumsum()
        values = torch.cat([rgb, t[:, None], ones[:, None]], 1)
        return (torch.zeros(rays, 5).index_add(0, owner, w[:, None] * values),)

    def three_index_adds() -> Outputs:
        owner, w = weights_by_cumsum()
        color = torch.zeros(rays, 3).index_add(0, owner, w[:, None] * rgb)
        return color, *(torch.zeros(rays).index_add(0, owner, v) for v in (w * t, w))

    def segment_reduce() -> Outputs:
        _, w = weights_by_cumsum()
        parts = (w[:, None] * rgb, w * t, w)
        return tuple(torch.segment_reduce(p, "sum", offsets=offsets, axis=0) for p in parts)

    def padded() -> Outputs:
        width = int(counts.max())
        owner = kernels.ray_index(offsets)
        cells = torch.arange(total) + (torch.arange(rays) * width - offsets[:-1])[owner]
        tau = torch.zeros(rays * width).index_copy(0, cells, sigma * dt).view(rays, width)
        before = tau.cumsum(1) - tau
        weights = torch.exp(-before) * -torch.expm1(-tau)
        color = torch.zeros(rays * width, 3).index_copy(0, cells, rgb).view(rays, width, 3)
        depth = torch.zeros(rays * width).index_copy(0, cells, t).view(rays, width, 1)
        sums = [torch.bmm(weights[:, None], part).squeeze(1) for part in (color, depth)]
        return *sums, weights.sum(1)

    def by_reference() -> Outputs:
        weights = reference.ray_weights(sigma, dt, offsets)
        parts = (rgb, t[:, None], ones[:, None])
        return tuple(reference.segment_sum(weights, part, offsets) for part in parts)

    forms = {
        "cumsum + one index_add": one_index_add,
        "cumsum + three index_adds": three_index_adds,
        "cumsum + segment_reduce": segment_reduce,
        "padded cumsum + bmm": padded,
        "reference": by_reference,
    }
    name, ours = ("composite", one_pass) if fused else ("ray_weights + segment_sum", separate)
    return Case(f"{name}, 8192 rays x 48", ours, forms, [sigma, rgb])


def plane_line_case(channels: int) -> Case:
    """TensoRF VM at 300^3, 2^16 points."""
    res, x = 300, torch.rand(2**16, 3) * 2 - 1
    planes = [torch.randn(res, res, channels, requires_grad=True) for _ in range(3)]
    lines = [torch.randn(res, channels, requires_grad=True) for _ in range(3)]

    def grid_sample() -> Tensor:
        parts = []
        for plane, line, (a, b), c in zip(planes, lines, PLANE_AXES, LINE_AXES, strict=True):
            at_plane = x[:, [a, b]].view(1, -1, 1, 2)
            at_line = torch.stack([torch.zeros(len(x)), x[:, c]], 1).view(1, -1, 1, 2)
            image, column = plane.permute(2, 0, 1)[None], line.t()[None, :, :, None]
            first = F.grid_sample(image, at_plane, align_corners=True)
            second = F.grid_sample(column, at_line, align_corners=True)
            parts.append((first * second).view(channels, -1).t())
        return torch.stack(parts, 1)

    def bags() -> Tensor:
        parts = []
        for plane, line, (a, b), c in zip(planes, lines, PLANE_AXES, LINE_AXES, strict=True):
            u, v, w = ((x[:, axis] + 1) * (0.5 * (res - 1)) for axis in (a, b, c))
            i, j, k = (p.floor().clamp(max=res - 2) for p in (u, v, w))
            fu, fv, fw = u - i, v - j, w - k
            low = (j * res + i).long()
            rows = torch.stack([low, low + 1, low + res, low + res + 1], 1)
            weights = torch.stack([(1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv], 1)
            first = F.embedding_bag(
                rows, plane.view(-1, channels), per_sample_weights=weights, mode="sum"
            )
            ends = torch.stack([k.long(), k.long() + 1], 1)
            second = F.embedding_bag(
                ends, line, per_sample_weights=torch.stack([1 - fw, fw], 1), mode="sum"
            )
            parts.append(first * second)
        return torch.stack(parts, 1)

    forms = {
        "indexing": lambda: reference.plane_line(x, planes, lines),
        "grid_sample": grid_sample,
        "embedding_bag": bags,
    }
    ours = lambda: kernels.plane_line(x, planes, lines)  # noqa: E731
    return Case(f"plane_line 300^2 x {channels}, 2^16 points", ours, forms, [*planes, *lines])


def line_product_case(channels: int) -> Case:
    """TensoRF CP at 300, 2^16 points."""
    res, x = 300, torch.rand(2**16, 3) * 2 - 1
    lines = [torch.randn(res, channels, requires_grad=True) for _ in range(3)]

    def bags() -> Tensor:
        out = torch.ones(())
        for line, axis in zip(lines, LINE_AXES, strict=True):
            p = (x[:, axis] + 1) * (0.5 * (res - 1))
            low = p.floor().clamp(max=res - 2)
            ends = torch.stack([low.long(), low.long() + 1], 1)
            weights = torch.stack([1 - (p - low), p - low], 1)
            out = out * F.embedding_bag(ends, line, per_sample_weights=weights, mode="sum")
        return out

    forms = {"indexing": lambda: reference.line_product(x, lines), "embedding_bag": bags}
    ours = lambda: kernels.line_product(x, lines)  # noqa: E731
    return Case(f"line_product 300 x {channels}, 2^16 points", ours, forms, lines)


def voxel_case() -> Case:
    """Plenoxels: a shell in 256^3 links, 28 channels, 2^17 points in cells that exist."""
    links = torch.full((256, 256, 256), -1, dtype=torch.int32)
    grid = torch.linspace(-1, 1, 256)
    radius = (grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid**2).sqrt()
    shell = (radius - 0.7).abs() < 0.02
    links[shell] = torch.arange(int(shell.sum()), dtype=torch.int32)
    values = torch.randn(int(shell.sum()), 28, requires_grad=True)
    nodes = shell.nonzero()
    x = nodes[torch.randint(len(nodes), (2**17,))] + torch.rand(2**17, 3)
    x = x.clamp(0, 255)

    def bag() -> Tensor:
        low = x.floor().clamp(max=254)
        fraction = x - low
        pair = torch.stack([1 - fraction, fraction], -1)
        weights = pair[:, 0, :, None, None] * pair[:, 1, None, :, None] * pair[:, 2, None, None, :]
        i, j, k = (low[:, axis].long()[:, None] + torch.arange(2) for axis in range(3))
        found = links[i[:, :, None, None], j[:, None, :, None], k[:, None, None, :]].flatten(1)
        weights = weights.flatten(1) * (found >= 0)
        return F.embedding_bag(
            found.clamp(min=0).long(), values, per_sample_weights=weights, mode="sum"
        )

    forms = {
        "indexing": lambda: reference.voxel_interp(x, links, values),
        "embedding_bag": bag,
    }
    ours = lambda: kernels.voxel_interp(x, links, values)  # noqa: E731
    return Case(f"voxel_interp {len(values)} x 28, 2^17 points", ours, forms, [values])


def march_case() -> Case:
    """4096 rays through a 128^3 grid that holds a thin shell, step 1/256 of the side."""
    rays = 4096
    grid = torch.linspace(-1, 1, 128)
    radius = (grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid**2).sqrt()
    occupancy = (radius - 0.7).abs() < 0.03
    origins = F.normalize(torch.randn(rays, 3), dim=1) * 2.5
    directions = F.normalize(torch.rand(rays, 3) - 0.5 - origins, dim=1)
    bounds = (torch.full((rays,), 0.5), torch.full((rays,), 4.5))
    arguments = (origins, directions, *bounds, 2 / 256, occupancy, torch.rand(rays), 256)
    forms = {"reference": lambda: reference.march(*arguments)}
    return Case("march 4096 rays, 128^3", lambda: kernels.march(*arguments), forms)


def adam_case() -> Case:
    """A hash table of 6.1 M rows of which a fifth was touched."""
    spec = kernels.HashSpec()
    shape = (spec.entries, spec.features)
    touched = (torch.rand(spec.entries, 1) < 0.2).float()
    gradient = torch.randn(shape) * touched
    param, grad, exp_avg, exp_avg_sq = (torch.zeros(shape) for _ in range(4))
    rates = (1e-2, 0.9, 0.99, 1e-15, 10)
    learned = torch.nn.Parameter(torch.zeros(shape))
    dense = torch.optim.Adam([learned], fused=True)
    learned.grad = torch.zeros(shape)

    def step(run: Callable[..., None]) -> None:
        grad.copy_(gradient)
        run(param, grad, exp_avg, exp_avg_sq, *rates)

    def fused() -> None:
        assert learned.grad is not None
        learned.grad.copy_(gradient)
        dense.step()

    forms = {"reference": lambda: step(reference.sparse_adam_step), "dense fused Adam": fused}
    return Case("sparse_adam_step 6.1 M x 2", lambda: step(kernels.sparse_adam_step), forms)


def mlp_case(widths: Sequence[int]) -> Case:
    """2^17 points, gradients to the points and all weights."""
    x = torch.randn(2**17, widths[0], requires_grad=True)
    pairs = itertools.pairwise(widths)
    weights = [torch.randn(b, a).div_(a**0.5).requires_grad_() for a, b in pairs]
    ours = lambda: kernels.fused_mlp(x, weights)  # noqa: E731
    forms = {"linear + relu": lambda: reference.fused_mlp(x, weights)}
    return Case(f"fused_mlp {'-'.join(map(str, widths))}, 2^17 points", ours, forms, [x, *weights])


CASES: dict[str, Callable[[], Case]] = {
    "hash": hash_case,
    "composite": lambda: composite_case(fused=True),
    "rays": lambda: composite_case(fused=False),
    "plane16": lambda: plane_line_case(16),
    "plane48": lambda: plane_line_case(48),
    "line96": lambda: line_product_case(96),
    "line288": lambda: line_product_case(288),
    "voxel": voxel_case,
    "march": march_case,
    "adam": adam_case,
    "mlp2": lambda: mlp_case((32, 64, 16)),
    "mlp3": lambda: mlp_case((32, 64, 64, 3)),
}


FAR = 1.5


def cpu_ms(run: Form) -> float:
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start)


def medians(forms: dict[str, Form], repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of each form, the forms taking turns.

    A torch form that is far from the best after its first turns is not repeated any further.
    """
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(repeats + 1):
        best = min(
            (min(spent) for name, spent in times.items() if spent and name != "ours"), default=0
        )
        for name, run in forms.items():
            spent = times[name]
            if name != "ours" and len(spent) >= 2 and min(spent) > FAR * best:
                continue
            milliseconds = cpu_ms(run)
            if turn:
                spent.append(milliseconds)
    return {name: statistics.median(spent) for name, spent in times.items()}


def without_gradients(run: Form) -> Form:
    def forward() -> object:
        with torch.no_grad():
            return run()

    return forward


def with_gradients(run: Form, learned: list[Tensor]) -> Form:
    """The form and the gradients of a fixed random combination of what it returns."""

    def outputs() -> Outputs:
        result = run()
        return (result,) if isinstance(result, Tensor) else result  # pyright: ignore[reportReturnType]

    grads = [torch.randn_like(output) for output in outputs()]
    return lambda: torch.autograd.grad(outputs(), learned, grads)


def as_columns(result: object) -> Tensor | None:
    """What a form returns as one [N, columns] tensor, to compare forms; None: it works in place."""
    if isinstance(result, kernels.Samples):
        result = result.t
    if isinstance(result, Tensor):
        result = (result,)
    if not isinstance(result, tuple):
        return None
    return torch.cat([part.reshape(len(part), -1) for part in result], 1)


def check_forms(case: Case) -> None:
    """A comparison means something only where all forms compute the same."""
    with torch.no_grad():
        expected = as_columns(case.ours())
        for name, run in case.forms.items():
            found = as_columns(run())
            if expected is None or found is None:
                continue
            if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
                raise RuntimeError(f"{case.name}: {name} computes something else")


def measure(case: Case, repeats: int) -> dict[str, object]:
    check_forms(case)
    everything = {"ours": case.ours, **case.forms}
    result: dict[str, object] = {"kernel": case.name}
    modes = {"forward": {name: without_gradients(run) for name, run in everything.items()}}
    if case.learned:
        modes["forward+backward"] = {
            name: with_gradients(run, case.learned) for name, run in everything.items()
        }
    for mode, forms in modes.items():
        spent = medians(forms, repeats)
        ours = spent.pop("ours")
        best = min(spent, key=lambda name: spent[name])
        result[mode] = {
            "ours_ms": round(ours, 2),
            "torch_ms": {name: round(ms, 2) for name, ms in spent.items()},
            "best_torch": best,
            "ratio": round(spent[best] / ours, 2),
        }
    return result


def report(result: dict[str, object]) -> None:
    print(result["kernel"])
    for mode in ("forward", "forward+backward"):
        numbers = result.get(mode)
        if isinstance(numbers, dict):
            others = ", ".join(f"{name} {ms}" for name, ms in numbers["torch_ms"].items())
            print(
                f"  {mode:17s} ours {numbers['ours_ms']:8.2f} ms  x{numbers['ratio']:<6} {others}"
            )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kernels.keep_memory()  # as training does, for every form alike
    torch.manual_seed(0)
    results = []
    for name in options.only.split(","):
        results.append(measure(CASES[name](), options.repeats))
        if not options.json:
            report(results[-1])
    if options.json:
        print(json.dumps({"threads": options.threads, "cpu_ms": results}, indent=1))


if __name__ == "__main__":
    main()
