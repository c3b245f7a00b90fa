"""Spinning LiDARs: where their beams point, and how well they see.

Elevations are those of real units' calibrations, rounded to 0.01 degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sensor:
    """Attributes:
    elevations_deg: of the beams, from the highest to the lowest.
    turn: firings of a beam in a turn, at 10 turns a second.
    range_m: beyond which nothing is seen.
    noise_m: standard deviation of a measured range.
    jitter_deg: of a firing's azimuth.
    """

    elevations_deg: tuple[float, ...]
    turn: int
    range_m: float
    noise_m: float = 0.02
    jitter_deg: float = 0.02


SENSORS = {
    "hdl-64e": Sensor(
        (
            *(2.02, 1.68, 1.34, 1.0, 0.66, 0.32, -0.02, -0.36, -0.7, -1.04, -1.38, -1.72, -2.06),
            *(-2.4, -2.74, -3.08, -3.42, -3.76, -4.1, -4.44, -4.78, -5.12, -5.46, -5.8, -6.14),
            *(-6.48, -6.82, -7.16, -7.5, -7.84, -8.18, -8.52, -8.95, -9.46, -9.98, -10.49, -11.0),
            *(-11.51, -12.03, -12.54, -13.05, -13.56, -14.07, -14.58, -15.09, -15.6, -16.11),
            *(-16.62, -17.12, -17.63, -18.14, -18.56, -19.16, -19.67, -20.18, -20.69, -21.2),
            *(-21.71, -22.23, -22.74, -23.25, -23.76, -24.28, -24.71),
        ),
        2083,
        120.0,
    ),
    "hdl-32e": Sensor(
        (
            *(10.67, 9.33, 8.0, 6.67, 5.33, 4.0, 2.67, 1.33, 0.0, -1.33, -2.67, -4.0, -5.33),
            *(-6.67, -8.0, -9.33, -10.67, -12.0, -13.33, -14.67, -16.0, -17.33, -18.67, -20.0),
            *(-21.33, -22.67, -24.0, -25.33, -26.67, -28.0, -29.33, -30.67),
        ),
        2250,
        100.0,
    ),
    "vlp-16": Sensor(tuple(float(15 - 2 * k) for k in range(16)), 1800, 100.0, 0.03),
}


@dataclass(frozen=True, eq=False)
class Rays:
    """One turn's firings, or those of a sector of it, ring by ring from the highest.

    Attributes:
        directions: float64 [R * A, 3], of length 1; x forward, y left, z up.
        elevations: float64 [R] in radians, falling.
        first: azimuth in radians of the first column; they run clockwise seen from above.
        step: between columns, in radians.
        columns: A.
        turn: columns of a whole turn.
    """

    directions: Array
    elevations: Array
    first: float
    step: float
    columns: int
    turn: int


def fire(sensor: Sensor, half_angle_deg: float, random: np.random.Generator) -> Rays:
    """The firings within so many degrees of straight ahead to both sides; 180: of a whole turn."""
    step = 2 * math.pi / sensor.turn
    columns = min(round(2 * math.radians(half_angle_deg) / step), sensor.turn)
    half = step * columns / 2
    elevations = np.radians(sensor.elevations_deg)
    azimuth = half - step * np.arange(columns)
    jitter = random.normal(0, math.radians(sensor.jitter_deg), (len(elevations), columns))
    azimuth = azimuth + jitter
    flat = np.cos(elevations)[:, None]
    up = np.broadcast_to(np.sin(elevations)[:, None], azimuth.shape)
    directions = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), up], -1)
    return Rays(directions.reshape(-1, 3), elevations, half, step, columns, sensor.turn)
