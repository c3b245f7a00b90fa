from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from geodistill.checks import (
    ABOVE_ZERO,
    GeodistillError,
    InputError,
    ShapeError,
    UsageError,
    check,
    check_finite,
    choose,
    expect_within,
    holds_at_most,
    shown,
    suggest,
)


def test_family() -> None:
    for kind in (InputError, UsageError, ShapeError):
        assert issubclass(kind, GeodistillError)
    assert issubclass(GeodistillError, ValueError)


@pytest.mark.parametrize(
    "pattern, shape",
    [
        ("N 3", (5, 3)),
        ("N", (0,)),
        ("", ()),
        ("... 3", (3,)),
        ("... 3", (2, 4, 3)),
        ("_ _", (1, 9)),
    ],
)
def test_check_accepts(pattern: str, shape: tuple[int, ...]) -> None:
    check(x=(torch.zeros(shape), pattern))


def test_check_accepts_shared_names() -> None:
    check(means=(torch.zeros(4, 3), "N 3"), feats=(torch.zeros(4, 7), "N C"))


@pytest.mark.parametrize(
    "pattern, shape, message",
    [
        ("N 3", (5, 4), "x must have shape [N, 3], got [5, 4]"),
        ("N 3", (5,), "x must have shape [N, 3], got [5]"),
        ("N N", (5, 4), "x must have shape [N, N], got [5, 4] (N = 5 from x)"),
        ("... 3 3", (3,), "x must have shape [..., 3, 3], got [3]"),
        ("", (1,), "x must have shape [], got [1]"),
    ],
)
def test_check_refuses(pattern: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        check(x=(torch.zeros(shape), pattern))
    assert str(caught.value) == message


def test_check_says_where_a_size_comes_from() -> None:
    with pytest.raises(ShapeError) as caught:
        check(verts=(torch.zeros(10, 3), "V 3"), feat=(torch.zeros(9, 64), "V D"))
    assert str(caught.value) == "feat must have shape [V, D], got [9, 64] (V = 10 from verts)"


def test_check_finite() -> None:
    check_finite(x=torch.ones(3), ids=torch.arange(3), empty=torch.zeros(0))
    bad = torch.ones(3, 4)
    bad[1, 2] = float("nan")
    bad[2, 0] = float("-inf")
    with pytest.raises(InputError) as caught:
        check_finite(fine=torch.ones(2), weights=bad)
    message = "weights holds 2 NaN or infinite values of 12, the first at index [1, 2]"
    assert str(caught.value) == message


@dataclass
class Numbers:
    part: float | None = 0.5
    ends: tuple[float, float] = (1.0, 2.0)


@pytest.mark.parametrize(
    ("numbers", "limits", "message"),
    [
        (Numbers(-0.1), {"part": (0, 1)}, "part must be from 0 to 1, got -0.1"),
        (Numbers(math.nan), {"part": (0, 1)}, "part must be from 0 to 1, got nan"),
        (Numbers(10**400), {"part": (0, math.inf)}, f"part must be at least 0, got {10**400}"),
        (Numbers(0.0), {"part": ABOVE_ZERO}, "part must be above 0, got 0.0"),
        (Numbers(math.inf), {"part": (1, math.inf)}, "part must be at least 1, got inf"),
        (Numbers(), {"ends": (0, 1)}, "ends must be from 0 to 1, got (1.0, 2.0)"),
        (
            Numbers(ends=(0.0, -math.inf)),
            {"part": (0, 1), "ends": (-math.inf, math.inf)},
            "ends must be finite, got (0.0, -inf)",
        ),
    ],
    ids=range(7),
)
def test_numbers_outside_of_their_limits(numbers, limits, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        expect_within(numbers, **limits)
    assert str(caught.value) == message


def test_limits_are_within_and_none_is_not_looked_at() -> None:
    numbers = Numbers(None)
    with pytest.raises(UsageError, match=r"^ends must be from 1 to 1\.9, "):
        expect_within(numbers, part=(3, 4), ends=(1, 1.9))
    with pytest.raises(UsageError, match=r"^part must be at least 0\.6, "):
        expect_within(Numbers(), ends=(1, 2), part=(0.6, math.inf))


def test_suggest() -> None:
    assert suggest("tensorff", ["ngp", "tensorf"]) == " (did you mean 'tensorf'?)"
    assert suggest("TensoRF", ["ngp", "tensorf"]) == " (did you mean 'tensorf'?)"
    assert suggest("zebra", ["ngp", "tensorf"]) == ""
    assert suggest("x", []) == ""


def test_choose() -> None:
    table = {"ngp": 1, "mlp": 2}
    assert choose("field architecture", "mlp", table) == 2
    with pytest.raises(UsageError) as caught:
        choose("field architecture", "ngpp", table)
    message = "unknown field architecture 'ngpp' (did you mean 'ngp'?); known: ngp, mlp"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "value, words",
    [
        ("a\nb", r"'a\nb'"),
        ("x" * 99, "'" + "x" * 40 + "'"),
        (2.5, "2.5"),
        (None, "None"),
        (7, "7"),
        (16**5000, "an integer of many digits"),
        ([[1]], "a list"),
        ({}, "a dict"),
    ],
    ids=lambda value: "",
)
def test_what_a_file_held_is_shown_in_short(value: object, words: str) -> None:
    assert shown(value) == words


def test_items_count_wherever_they_are_referred_to() -> None:
    inner = [1, 2]
    value = {"a": inner, "b": (inner, inner)}  # a, b, the two of b, and three times two
    assert holds_at_most(value, 10) and not holds_at_most(value, 9)
    assert holds_at_most(7, 0) and holds_at_most("abc", 0) and holds_at_most([], 0)
    for _ in range(60):
        inner = [inner, inner]
    assert not holds_at_most(inner, 10_000)
    inner.append(inner)
    assert not holds_at_most(inner, 10_000)
