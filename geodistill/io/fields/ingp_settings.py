"""What instant-ngp wants in a snapshot beside the field: training settings and an (empty) data set.

Values are those of instant-ngp's own default for NeRFs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geodistill.io.fields.arrays import FieldArrays

_DIRECTION = {
    "otype": "Composite",
    "nested": [
        {"otype": "SphericalHarmonics", "n_dims_to_encode": 3, "degree": 4},
        {"otype": "Identity"},
    ],
}


def _decaying(start: int, interval: int, nested: dict[str, Any]) -> dict[str, Any]:
    return {
        "otype": "ExponentialDecay",
        "decay_start": start,
        "decay_interval": interval,
        "decay_base": 0.33,
        "nested": nested,
    }


def _adam(rate: float, epsilon: float, regularisation: float) -> dict[str, Any]:
    return {
        "otype": "Adam",
        "learning_rate": rate,
        "beta1": 0.9,
        "beta2": 0.99,
        "epsilon": epsilon,
        "l2_reg": regularisation,
    }


def _averaged(decay: float, nested: dict[str, Any]) -> dict[str, Any]:
    return {"otype": "Ema", "decay": decay, "nested": nested}


_TRAINING: dict[str, Any] = {
    "loss": {"otype": "Huber"},
    "optimizer": _averaged(0.95, _decaying(20000, 10000, _adam(1e-2, 1e-15, 1e-6))),
    "envmap": {
        "loss": {"otype": "RelativeL2"},
        "optimizer": _averaged(0.99, _decaying(10000, 5000, _adam(1e-2, 1e-10, 1e-10))),
    },
    "distortion_map": {
        "resolution": [32, 32],
        "optimizer": _decaying(10000, 5000, _adam(1e-4, 1e-8, 0.0)),
    },
}
_KEPT = ("up_dir", "background_color", "exposure", "sun_dir", "camera", "training_step", "loss")


def kept_of_snapshot(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What a reader keeps for the writer"""
    return {key: snapshot[key] for key in _KEPT if key in snapshot}


def settings_of(field: FieldArrays) -> dict[str, Any]:
    """Settings of training and the description of the direction's encoding."""
    own = field["extra"].get("config", {})
    training = {key: own.get(key, value) for key, value in _TRAINING.items()}
    return {**training, "dir_encoding": _DIRECTION}


def scene_of(
    field: FieldArrays, aabb_scale: int, scale: float, offset: np.ndarray, rotation: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data set, and further entries of the snapshot: the file's own where it lies the same."""
    mitsuba = bool(np.array_equal(rotation, np.eye(3)))
    place: dict[str, Any] = {
        "aabb_scale": aabb_scale,
        "scale": float(scale),
        "offset": [float(v) for v in offset],
        "from_mitsuba": mitsuba,
        "n_extra_learnable_dims": 0,
    }
    own = field["extra"].get("dataset", {})
    if _alike(own, place):
        return {**own, **place}, field["extra"].get("snapshot", {})
    up = [float(v) for v in rotation @ [0.0, 0.0, 1.0]]
    low, high = 0.5 - aabb_scale / 2, 0.5 + aabb_scale / 2
    dataset = {
        "n_images": 0,
        "paths": [],
        "render_aabb": {"min": [low] * 3, "max": [high] * 3},
        "render_aabb_to_local": np.eye(3).tolist(),
        "up": up,
        "envmap_resolution": [0, 0],
        "is_hdr": False,
        "wants_importance_sampling": True,
        **place,
    }
    return dataset, {"up_dir": up}


def _alike(own: dict[str, Any], place: dict[str, Any]) -> bool:
    """Whether the data set a field was read with still describes where it lies"""
    return (
        bool(own)
        and own.get("aabb_scale") == place["aabb_scale"]
        and bool(own.get("from_mitsuba")) == place["from_mitsuba"]
        and bool(np.allclose(own["offset"], place["offset"]))
        and math.isclose(own["scale"], place["scale"], rel_tol=1e-6)
    )
