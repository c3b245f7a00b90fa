"""Neighbours in clouds of points, by the C++ library."""

from __future__ import annotations

from ctypes import c_double

import torch
from torch import Tensor

from geodistill.kernels.library import call


def farthest_points(points: Tensor, count: int) -> Tensor:
    clouds, held, _ = points.shape
    taken = torch.empty(clouds, count, dtype=torch.int32)
    call("gd_farthest_points", points.detach().contiguous(), clouds, held, count, taken)
    return taken


def ball_query(points: Tensor, centers: Tensor, radius: float, most: int) -> Tensor:
    clouds, held, _ = points.shape
    balls = centers.shape[1]
    found = torch.empty(clouds, balls, most, dtype=torch.int32)
    inputs = (points.detach().contiguous(), clouds, held, centers.detach().contiguous(), balls)
    call("gd_ball_query", *inputs, c_double(radius * radius), most, found)
    return found


def nearest_neighbors(points: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    clouds, held, _ = points.shape
    asked = queries.shape[1]
    found = torch.empty(clouds, asked, count, dtype=torch.int32)
    squares = torch.empty(clouds, asked, count)
    inputs = (points.detach().contiguous(), clouds, held, queries.detach().contiguous(), asked)
    call("gd_nearest_neighbors", *inputs, count, found, squares)
    return found, squares
