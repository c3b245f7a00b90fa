"""Random splats as a format's arrays, and damaged files that a reader must refuse or understand."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from geodistill.checks import InputError
from geodistill.io.splats import SplatArrays, read_splats
from geodistill.io.splats.arrays import COEFFICIENTS


def some_arrays(count: int = 300, degree: int = 1, seed: int = 0) -> SplatArrays:
    draw = np.random.default_rng(seed)
    quaternions = draw.normal(size=(count, 4))
    sh = 0.2 * draw.normal(size=(count, COEFFICIENTS[degree], 3))
    columns = {
        "means": draw.normal(size=(count, 3)),
        "rotations": quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        "log_scales": draw.normal(size=(count, 3)) - 4,
        "opacity_logits": 2 * draw.normal(size=count),
        "sh": sh,
    }
    narrow = {name: values.astype(np.float32) for name, values in columns.items()}
    return SplatArrays(**narrow, attributes={})  # pyright: ignore[reportArgumentType]


def degrees_apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest angle between rotations [N, 4]."""
    a, b = (q / np.linalg.norm(q.astype(float), axis=1, keepdims=True) for q in (a, b))
    chord = np.minimum(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return float(np.degrees(4 * np.arcsin(chord.max() / 2)))


def expect_valid(splats: SplatArrays) -> None:
    count = len(splats["means"])
    shapes = {"means": (3,), "rotations": (4,), "log_scales": (3,), "opacity_logits": ()}
    for name, shape in shapes.items():
        assert splats[name].shape == (count, *shape) and splats[name].dtype == np.float32
        assert np.isfinite(splats[name]).all()
    assert splats["sh"].shape[1] in COEFFICIENTS and np.isfinite(splats["sh"]).all()
    np.testing.assert_allclose(np.linalg.norm(splats["rotations"], axis=1), 1, atol=1e-5)


def mutated(data: bytes, count: int, header: int = 0, seed: int = 0) -> list[bytes]:
    """Flipped, cut, inserted and huge bytes, half of them within the first `header`."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        end = header if header and number % 2 else len(data)
        at, changed = int(draw.integers(end)), bytearray(data)
        match number % 4 if not header else number // 2 % 4:
            case 0:
                changed[at] ^= 1 << int(draw.integers(8))
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = draw.bytes(int(draw.integers(1, 9)))
            case _:
                changed[at : at + 4] = b"\xff" * 4
        found.append(bytes(changed))
    return found


def expect_refused_or_understood(path: Path, data: list[bytes]) -> int:
    """How many were refused, each in one line that names the file, without a warning."""
    refused = 0
    for content in data:
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                expect_valid(read_splats(path))
            except InputError as error:
                refused += 1
                assert "\n" not in str(error) and path.name in str(error)
    return refused
