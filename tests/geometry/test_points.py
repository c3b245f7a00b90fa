"""Clouds: state, files, neighbourhoods, cleaning, and the way to Open3D and back."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.geometry.points import (
    Points,
    bounds,
    cleaned,
    diagonal,
    estimated_normals,
    from_open3d,
    load_points,
    nearest_spacing,
    neighbours,
    points_digest,
    save_points,
    to_open3d,
)
from geodistill.io.clouds import FORMATS


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def some_points(count: int = 30, seed: int = 0) -> Points:
    generator = draw(seed)
    return Points(
        torch.randn(count, 3, generator=generator, dtype=torch.float64),
        torch.randint(0, 256, (count, 4), generator=generator, dtype=torch.uint8),
        unit(torch.randn(count, 3, generator=generator)),
        {
            "intensity": torch.randn(count, generator=generator),
            "feature": torch.randn(count, 5, generator=generator),
        },
    )


def assert_same(found: Points, wanted: Points) -> None:
    assert torch.equal(found.positions, wanted.positions)
    for a, b in ((found.colors, wanted.colors), (found.normals, wanted.normals)):
        assert (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))
    assert found.attributes.keys() == wanted.attributes.keys()
    assert all(torch.equal(v, wanted.attributes[k]) for k, v in found.attributes.items())


@pytest.mark.parametrize("suffix", FORMATS)
def test_round_trip(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    for wanted in (some_points(), Points(some_points().positions), some_points(1)):
        save_points(path, wanted)
        found = load_points(path)
        assert_same(found, wanted)
        assert points_digest(found) == points_digest(wanted)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_normals_of_a_file_get_unit_length_or_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("x y z nx ny nz\n1 2 3 0 0 2\n4 5 6 0 3 4\n")
    normals = load_points(path).normals
    assert normals is not None
    torch.testing.assert_close(normals, torch.tensor([[0, 0, 1], [0, 0.6, 0.8]]))
    for hole in ("0 0 0", "nan 0 1"):
        path.write_text(f"x y z nx ny nz\n1 2 3 0 0 2\n4 5 6 {hole}\n")
        assert load_points(path).normals is None
        assert "1 of 2 normals have no length; left out all" in capsys.readouterr().err


P = torch.zeros(4, 3, dtype=torch.float64)
BAD: dict[str, tuple[dict[str, object], type[Exception], str]] = {
    "shape": ({"positions": P[:, :2]}, ShapeError, r"positions must have shape \[N, 3\]"),
    "type": ({"positions": P.float()}, UsageError, "positions must be torch.float64"),
    "empty": ({"positions": P[:0]}, InputError, "at least one point"),
    "nan": ({"positions": P / 0}, InputError, "positions holds 12 NaN or infinite"),
    "colours": ({"colors": torch.zeros(4, 3, dtype=torch.uint8)}, ShapeError, r"\[N, 4\]"),
    "colour type": ({"colors": torch.zeros(4, 4)}, UsageError, "colors must be torch.uint8"),
    "normals": ({"normals": torch.zeros(3, 3)}, ShapeError, "normals must have shape"),
    "normal type": ({"normals": P}, UsageError, "normals must be torch.float32"),
    "length": ({"normals": torch.ones(4, 3)}, InputError, "normals must be unit vectors"),
    "attribute": ({"attributes": {"a": torch.zeros(3)}}, ShapeError, r"'a' must have shape \[4\]"),
    "attribute type": ({"attributes": {"a": P}}, UsageError, "'a' must be torch.float32"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_cloud_is_refused(case: str) -> None:
    arguments, error, complaint = BAD[case]
    with pytest.raises(error, match=complaint):
        Points(**{"positions": P, **arguments})  # type: ignore[arg-type]


def test_indexing_keeps_columns_together() -> None:
    points = some_points()
    assert_same(points[torch.arange(30)], points)
    some = points[points.positions[:, 0] > 0]
    assert 0 < len(some) < 30
    assert torch.equal(
        some.attributes["feature"], points.attributes["feature"][points.positions[:, 0] > 0]
    )
    with pytest.raises(InputError, match="at least one point"):
        points[:0]


def test_saving_refuses_names_that_mean_something_else(tmp_path: Path) -> None:
    for name in ("positions", "colors", "red"):
        with pytest.raises(UsageError, match=f"cannot be named '{name}'"):
            save_points(tmp_path / "a.npz", Points(P, attributes={name: torch.zeros(4)}))
    with pytest.raises(UsageError, match=r"unknown point cloud format '\.las'"):
        save_points(tmp_path / "a.las", Points(P))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failed_write_leaves_the_old_file(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    save_points(path, some_points())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="no space left on the disk to write"):
        save_points(path, some_points(seed=1))
    monkeypatch.undo()
    assert_same(load_points(path), some_points())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with pytest.raises(InputError, match="does not exist"):
        save_points(tmp_path / "no" / path.name, some_points())


def test_a_digest_sees_every_bit_but_no_attribute() -> None:
    points = some_points()
    digests = {points_digest(points), points_digest(some_points(seed=1)), points_digest(points[1:])}
    moved = points.positions.clone()
    moved[-1, 2] = torch.nextafter(moved[-1, 2], moved[-1, 2] + 1)
    digests |= {
        points_digest(Points(moved, points.colors, points.normals)),
        points_digest(Points(points.positions, points.colors)),
        points_digest(Points(points.positions, None, points.normals)),
    }
    assert len(digests) == 6 and all(len(digest) == 16 for digest in digests)
    bare = Points(points.positions, points.colors, points.normals)
    assert points_digest(bare) == points_digest(points)


def test_neighbours_match_all_distances() -> None:
    points = some_points(200)
    near = neighbours(points, 7)
    distances = torch.cdist(points.positions, points.positions)
    distances.fill_diagonal_(torch.inf)
    assert torch.equal(near, distances.topk(7, largest=False, sorted=True).indices)


def test_neighbours_of_coincident_points_are_others() -> None:
    points = Points(torch.cat([P, P + 1.0]))
    near = neighbours(points, 5)
    rows = torch.arange(8)[:, None]
    assert not (near == rows).any() and all(len(set(row)) == 5 for row in near.tolist())
    assert ((near[:, :3] < 4) == (rows < 4)).all()
    for k in (0, 8):
        with pytest.raises(UsageError, match=f"8 points have no {k} neighbours each"):
            neighbours(points, k)


def lattice(side: int, step: float) -> torch.Tensor:
    axis = torch.arange(side, dtype=torch.float64) * step
    return torch.cartesian_prod(axis, axis, axis)


def test_extent_and_spacing_of_a_lattice() -> None:
    points = Points(lattice(6, 0.25) + torch.tensor([1.0, 2, 3]))
    low, high = bounds(points)
    assert low.tolist() == [1, 2, 3] and high.tolist() == [2.25, 3.25, 4.25]
    assert diagonal(points) == pytest.approx(1.25 * 3**0.5)
    assert nearest_spacing(points) == pytest.approx(0.25)
    twice = Points(points.positions.repeat(3, 1))
    assert nearest_spacing(twice) == pytest.approx(0.25)
    with pytest.raises(InputError, match="single place"):
        nearest_spacing(Points(P))


def test_spacing_of_a_large_cloud_is_that_of_a_sample() -> None:
    points = Points(torch.rand(60_000, 3, generator=draw(), dtype=torch.float64))
    found = nearest_spacing(points)
    # The median nearest distance at density n: (ln 2 / (4/3 pi n))^(1/3) for a Poisson process.
    assert found == pytest.approx((np.log(2) / (4 / 3 * np.pi * 60_000)) ** (1 / 3), rel=0.03)
    assert found == nearest_spacing(points)


def test_normals_of_a_sphere_point_where_they_shall() -> None:
    outward = unit(torch.randn(1500, 3, generator=draw(), dtype=torch.float64))
    points = Points(2 * outward + 5)
    far = points.positions + outward
    normals = estimated_normals(points, 12, far)
    assert normals.dtype == torch.float32
    assert (normals.double() * outward).sum(dim=1).min() > 0.98
    centre = torch.full((3,), 5.0)
    torch.testing.assert_close(estimated_normals(points, 12, centre), -normals)
    turned = Points(points.positions @ rotation().T)
    torch.testing.assert_close(
        estimated_normals(turned, 12, far @ rotation().T), normals @ rotation().float().T
    )


def rotation() -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw(1), dtype=torch.float64))
    return q * torch.linalg.det(q)


def test_normals_of_chunks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    points = some_points(100)
    whole = estimated_normals(points, 6, torch.ones(3)), cleaned(points, 6, 1.0).positions
    monkeypatch.setattr("geodistill.geometry.points._CHUNK", 17)
    assert torch.equal(estimated_normals(points, 6, torch.ones(3)), whole[0])
    assert torch.equal(cleaned(points, 6, 1.0).positions, whole[1])


def test_normals_refuse_what_has_no_plane() -> None:
    with pytest.raises(UsageError, match="at least 2 neighbours, got 1"):
        estimated_normals(some_points(), 1, torch.ones(3))
    with pytest.raises(ShapeError, match=r"towards must be \[3\] or \[30, 3\]"):
        estimated_normals(some_points(), 5, torch.ones(4, 3))


def test_cleaning_removes_outliers_with_their_columns() -> None:
    positions = torch.cat([lattice(8, 0.1), torch.tensor([[5.0, 5, 5], [-4, 0, 9]])])
    points = Points(positions, attributes={"row": torch.arange(514.0)})
    clean = cleaned(points)
    assert clean.attributes["row"].tolist() == [*range(512)]
    assert torch.equal(clean.positions, positions[:512])


@pytest.mark.parametrize("deviations", [0.3, 1.0, 2.0])
def test_cleaning_matches_its_definition_on_all_distances(deviations: float) -> None:
    points = some_points(500)
    distances = torch.cdist(points.positions, points.positions).sort(dim=1).values
    mean = distances[:, 1:8].mean(dim=1)
    kept = mean <= mean.mean() + deviations * mean.std()
    assert 5 < int((~kept).sum()) < 250
    assert_same(cleaned(points, 7, deviations), points[kept])


def test_thinning_keeps_one_point_a_voxel() -> None:
    points = some_points(400)
    thin = cleaned(points, deviations=100.0, voxel=0.5)
    cells = torch.floor((points.positions - points.positions.amin(dim=0)) / 0.5)
    different, of_cell = torch.unique(cells, dim=0, return_inverse=True)
    assert len(thin) == len(different) < 400
    rows = [int((points.positions == p).all(dim=1).nonzero()) for p in thin.positions]
    assert rows == sorted(rows)
    assert_same(points[torch.tensor(rows)], thin)
    for row in rows:
        mates = points.positions[of_cell == of_cell[row]]
        distances = (mates - mates.mean(dim=0)).norm(dim=1)
        assert (points.positions[row] - mates.mean(dim=0)).norm() <= distances.min() + 1e-12


def test_cleaning_refuses_nonsense() -> None:
    for arguments in ({"deviations": 0.0}, {"voxel": -1.0}, {"voxel": float("nan")}):
        with pytest.raises(UsageError, match="cleaning needs deviations > 0 and a voxel >= 0"):
            cleaned(some_points(), **arguments)


def test_results_do_not_depend_on_threads() -> None:
    points = some_points(3000)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append((neighbours(points, 9), estimated_normals(points, 9, torch.ones(3)),
                          cleaned(points, 9, 0.5, 0.2).positions))  # fmt: skip
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# A stand-in for the package, with those of its names that are used: `geometry.PointCloud`, whose
# columns are empty at first, and `utility.Vector3dVector`, which takes float64 [N, 3].


class FakeCloud:
    def __init__(self) -> None:
        self.points = self.colors = self.normals = np.empty((0, 3))


def fake_vector(array: np.ndarray) -> np.ndarray:
    assert array.dtype == np.float64 and array.shape[1:] == (3,)
    return array


def fake_open3d() -> ModuleType:
    module = ModuleType("open3d")
    module.geometry = SimpleNamespace(PointCloud=FakeCloud)  # type: ignore[attr-defined]
    module.utility = SimpleNamespace(Vector3dVector=fake_vector)  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("itself", [False, True], ids=["stand-in", "open3d itself"])
def test_conversion_to_open3d_and_back(itself: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if itself:
        pytest.importorskip("open3d", reason="the package open3d is not installed")
    else:
        monkeypatch.setitem(sys.modules, "open3d", fake_open3d())
    points = some_points()
    assert points.colors is not None
    opaque = torch.cat([points.colors[:, :3], torch.full((30, 1), 255, dtype=torch.uint8)], dim=1)
    assert_same(from_open3d(to_open3d(points)), Points(points.positions, opaque, points.normals))
    assert_same(from_open3d(to_open3d(Points(points.positions))), Points(points.positions))
    cloud = to_open3d(points[:2])
    colors = np.array([[0.999, 0.001, 0.4], [1.7, -0.2, 1.0]])
    cloud.colors = import_module("open3d").utility.Vector3dVector(colors)
    found = from_open3d(cloud).colors
    assert found is not None and found.tolist() == [[255, 0, 102, 255], [255, 0, 255, 255]]


def test_without_open3d_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(InputError, match=r"pip install 'geodistill\[open3d\]'"):
        to_open3d(some_points())


def test_real_lidar_scans() -> None:
    """Two scans of one street, shipped with small-gicp: their known transform brings the surfaces
    of one onto those of the other."""
    cache = Path(os.environ.get("GEODISTILL_CACHE", "~/.cache/geodistill")).expanduser()
    folders = sorted((cache / "assets").glob("small-gicp-1.0.1-*/small_gicp-1.0.1/data"))
    if not folders:
        pytest.skip(f"the scans of small-gicp 1.0.1 are not in {cache}/assets")
    spatial = pytest.importorskip("scipy.spatial")
    source, target = (load_points(folders[0] / f"{name}.ply") for name in ("source", "target"))
    assert (len(source), len(target)) == (69792, 69088)
    assert source.attributes["scalar_intensity"].shape == (69792,)
    # Thinned, since the nearest points of a scan lie on one line, which has no plane.
    source, target = (cleaned(points, 6, 3.0, 0.3) for points in (source, target))
    normals = estimated_normals(target, 12, torch.zeros(3)).double()
    transform = torch.from_numpy(np.loadtxt(folders[0] / "T_target_source.txt"))
    moved = source.positions @ transform[:3, :3].T + transform[:3, 3]
    off = []
    for positions in (source.positions, moved):
        nearest = spatial.cKDTree(target.positions.numpy()).query(positions.numpy())[1]
        from_plane = ((positions - target.positions[nearest]) * normals[nearest]).sum(dim=1)
        off.append(float(from_plane.abs().median()))
    assert off[1] < 0.04 < 0.09 < off[0]  # metres
