"""Detectors in files: safetensors with their settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from geodistill import config
from geodistill.checks import InputError, UsageError
from geodistill.nn.detector import Detector
from geodistill.nn.detector_kinds import SETTINGS, new_detector
from geodistill.runs import is_unfinished, load_tensors, result_file, save_tensors

FORMAT = "geodistill-detector"
NAME = "detector.safetensors"


def save_detector(path: Path, detector: Detector) -> None:
    """Write a detector, atomically."""
    settings = config.to_dict(detector.settings)
    save_tensors(path, detector.state_dict(), {"format": FORMAT, "settings": settings})


def load_detector(path: Path) -> Detector:
    """The detector in a file or in a finished run's folder, in eval mode.

    Raises InputError where it is none.
    """
    path = result_file(path)
    if is_unfinished(path):
        raise InputError(
            f"{path} is a run that is not finished: give its command again, or name a file in it, "
            "such as best.safetensors"
        )
    tensors, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is no detector, but {metadata.get('format', 'something else')}")
    try:
        settings = metadata["settings"]
        detector = new_detector(config.from_dict(SETTINGS[settings["architecture"]], settings))
    except (KeyError, UsageError) as error:
        raise InputError(f"{path} is a detector of another version: {error}") from None
    load_weights(detector, tensors, path)
    return detector.eval()


def load_weights(detector: Detector, tensors: dict, path: Path) -> None:
    """Raises InputError saying which tensors are missing, unknown, of another shape, or not
    finite."""
    own = detector.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(own[name].shape)}"
        for name in own.keys() & tensors.keys()
        if tensors[name].shape != own[name].shape
    ]
    wrong = [
        f"{len(names)} {what} (such as {names[0]})"
        for names, what in (
            (missing, "tensors are missing"),
            (unknown, "are unknown"),
            (sorted(shapes), "have another shape"),
        )
        if names
    ]
    if wrong:
        kind = detector.settings.architecture
        raise InputError(f"{path} does not fit a {kind} detector: {', '.join(wrong)}")
    expect_finite(tensors, path)
    detector.load_state_dict(tensors)


def expect_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises InputError for weights that are NaN or infinite."""
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise InputError(f"{path}: {name} holds NaN or infinite weights: train it again")


def fingerprint(detector: Detector) -> str:
    """The same for the same settings and weights only."""
    digest = hashlib.sha256(repr(config.to_dict(detector.settings)).encode())
    for name, value in sorted(detector.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
