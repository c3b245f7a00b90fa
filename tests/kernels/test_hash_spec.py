"""Table layouts against published parameter counts, and the index rule written out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, UsageError
from geodistill.kernels import HashSpec, hash_encode


@pytest.mark.parametrize(
    ("spec", "entries"),
    [
        # instant-ngp's log for 16 levels x 2, T = 2^19, 16 -> 2048: 12,196,240 floats.
        (HashSpec(), 12_196_240 // 2),
        # torch-ngp's table for 14 levels, 16 -> 2048: 5,303,704 rows.
        (HashSpec(levels=14, convention="torch-ngp"), 5_303_704),
        # tiny-cuda-nn issue 148: 10,495,120 parameters of which 3,072 are an MLP.
        (HashSpec(max_resolution=512), (10_495_120 - 3_072) // 2),
        (HashSpec(convention="nerfstudio"), 16 * 2**19),
    ],
)
def test_parameter_counts_that_others_report(spec: HashSpec, entries: int) -> None:
    assert spec.entries == entries


def test_another_machines_rounding_is_found_from_the_parameter_count() -> None:
    # The same issue: 31,328 parameters more on another machine, from 32 -> 33 and 64 -> 65 nodes.
    entries = (10_526_448 - 3_072) // 2
    spec = HashSpec(max_resolution=512).fitting(entries)
    assert spec.entries == entries
    assert [n for n in spec.strides if n] == [16, 21, 26, 33, 41, 51, 65]


def test_a_count_that_rounding_cannot_explain_is_an_error() -> None:
    with pytest.raises(InputError, match="has 6098120 entries, not 6098121"):
        HashSpec().fitting(6_098_121)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"convention": "tccn"}, "unknown hash convention 'tccn' .did you mean 'tcnn'"),
        ({"levels": 65}, "^levels is 65; it must be at most 64"),
        ({"levels": 0}, "^levels is 0"),
        ({"log2_size": 40}, "^log2_size is 40"),
        ({"max_resolution": 8}, "^max_resolution is 8"),
        ({"resolutions": (16, 17)}, "has 2 values for 16 levels"),
    ],
)
def test_impossible_layouts_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HashSpec(**change)  # pyright: ignore[reportArgumentType]


def entry_of(node: tuple[int, int, int], size: int, nodes_per_axis: int) -> int:
    """The index rule as the CUDA implementations write it, with 32-bit arithmetic."""
    stride, index = 1, 0
    for axis in range(3):
        if stride > size:
            break
        index += node[axis] * stride
        stride *= nodes_per_axis
    if stride > size:
        index = 0
        for value, prime in zip(node, (1, 2654435761, 805459861), strict=True):
            index ^= (value * prime) & 0xFFFFFFFF
    return index % size


@pytest.mark.parametrize("convention", ["tcnn", "torch-ngp"])
def test_encoding_follows_the_index_rule(convention: str) -> None:
    spec = HashSpec(
        levels=5,
        log2_size=10,
        base_resolution=5,
        max_resolution=77,
        convention=convention,  # pyright: ignore[reportArgumentType]
    )
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(spec.entries, 2, generator=generator, dtype=torch.float64)
    points = torch.rand(20, 3, generator=generator, dtype=torch.float64)
    points = torch.cat([points, torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0.5]])])
    for x, code in zip(points.tolist(), hash_encode(points, table, spec), strict=True):
        for level in range(spec.levels):
            resolution = math.ceil(spec.scales[level]) + 1
            per_axis = resolution + (convention == "torch-ngp")
            rows = table[spec.offsets[level] : spec.offsets[level + 1]]
            place = [v * spec.scales[level] + 0.5 for v in x]
            total = torch.zeros(2, dtype=torch.float64)
            for corner in itertools.product((0, 1), repeat=3):
                weight, node = 1.0, []
                for p, bit in zip(place, corner, strict=True):
                    weight *= p - int(p) if bit else 1 - (p - int(p))
                    node.append(int(p) + bit)
                entry = entry_of((node[0], node[1], node[2]), spec.sizes[level], per_axis)
                total += weight * rows[entry]
            torch.testing.assert_close(code[2 * level : 2 * level + 2], total)


def test_nerfstudio_hashes_every_level_and_does_not_shift() -> None:
    spec = HashSpec(
        levels=2, log2_size=6, base_resolution=2, max_resolution=4, convention="nerfstudio"
    )
    assert (spec.scales, spec.shift, spec.strides) == ((2.0, 4.0), 0.0, (0, 0))
    table = torch.arange(128.0)[:, None].repeat(1, 2)
    code = hash_encode(torch.tensor([[0.5, 0.5, 1.0]]), table, spec)
    entries = [(x ^ (y * 2654435761) ^ (z * 805459861)) % 64 for x, y, z in ((1, 1, 2), (2, 2, 4))]
    assert code[0, ::2].tolist() == [entries[0], 64 + entries[1]]


@pytest.mark.parametrize("levels, base, finest", [(16, 16, 2048), (14, 16, 2048), (3, 17, 64)])
def test_nerfstudio_rounds_in_single_precision(levels: int, base: int, finest: int) -> None:
    growth = np.exp((np.log(finest) - np.log(base)) / (levels - 1))
    cells = torch.floor(base * growth ** torch.arange(levels))
    spec = HashSpec(levels, 2, 19, base, finest, "nerfstudio")
    assert list(spec.scales) == cells.tolist()
    assert spec.strides == (0,) * levels


def test_nerfstudios_default_ends_one_cell_early() -> None:
    assert HashSpec(convention="nerfstudio").scales[-1] == 2047


def test_a_stated_ratio_of_levels() -> None:
    spec = HashSpec(levels=4, base_resolution=8, max_resolution=27, level_scale=1.5)
    assert [s + 1 for s in spec.scales] == [8.0, 12.0, 18.0, 27.0]
    assert spec.growth == 1.5
    torch_ngp = HashSpec(
        levels=4, base_resolution=8, max_resolution=27, level_scale=1.5, convention="torch-ngp"
    )
    assert torch_ngp.sizes == tuple(-(-((n + 1) ** 3) // 8) * 8 for n in (8, 12, 18, 27))


@pytest.mark.parametrize("level_scale", [0.5, 1e30, math.inf, math.nan])
def test_a_ratio_that_cannot_be(level_scale: float) -> None:
    with pytest.raises(UsageError, match="level_scale"):
        HashSpec(levels=16, level_scale=level_scale)


def test_fitting_gives_up_soon() -> None:
    """Levels that all have one resolution leave more combinations than can be tried."""
    with pytest.raises(InputError, match="entries"):
        HashSpec(levels=64, max_resolution=16).fitting(7)
