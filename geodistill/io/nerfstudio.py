"""Runs of nerfstudio: where their parts lie, their settings, and the way back to the user's world.

A run is a folder: `config.yml`, `dataparser_transforms.json` and `nerfstudio_models/step-N.ckpt`.
Its world is `scale * (transform @ [x, 1])` of the user's x. Source: nerfstudio 1.1.5,
engine/trainer.py, data/dataparsers/base_dataparser.py and, of older names, versions from 0.1.19 on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill import log
from geodistill.checks import InputError
from geodistill.config.tagged_yaml import read_tagged_yaml
from geodistill.io.checkpoints import load_checkpoint
from geodistill.io.json_values import json_object, matrix, optional_number
from geodistill.io.posed import load_cameras
from geodistill.io.whole_file import read_start

if TYPE_CHECKING:
    from torch import Tensor

    from geodistill.cameras import Camera, Similarity

CONFIG, MODELS, TRANSFORMS = "config.yml", "nerfstudio_models", "dataparser_transforms.json"
_STEP = re.compile(r"step-(\d+)\.ckpt")
_PREFIX = re.compile(r"(?:module\.)?_model\.(?:module\.)?")
_LONGEST_JSON = 1 << 20
FEWEST_CAMERAS = 3
"""Fewer do not show where a scene is looked at from."""


@dataclass(frozen=True)
class Run:
    """A run and one of its checkpoints.

    folder      where config.yml and dataparser_transforms.json are, if they are
    checkpoint  the newest of the run, or the one that was named
    settings    what config.yml holds, as plain values; empty where it is missing
    """

    folder: Path
    checkpoint: Path
    settings: dict[str, Any]

    @property
    def model(self) -> dict[str, Any]:
        """The settings of the model, empty where they are not known."""
        return _inner(self.settings, "pipeline", "model")

    @property
    def dataparser(self) -> dict[str, Any]:
        """The settings of what read the data set, empty where they are not known."""
        return _inner(self.settings, "pipeline", "datamanager", "dataparser")

    @property
    def method(self) -> str:
        """Its name, "" where it is not known."""
        name = self.settings.get("method_name")
        return name[:60] if isinstance(name, str) else ""


def is_run(path: Path) -> bool:
    """Whether a path names a run: its folder, its config.yml or a checkpoint of it."""
    if path.is_dir():
        return any(newest_checkpoint(place) is not None for place in (path, path / MODELS))
    if path.name == CONFIG:
        return is_run(path.parent)
    return _STEP.fullmatch(path.name) is not None


def checkpoint_of(path: Path) -> Path:
    """The checkpoint that a path means. Raises InputError where a folder has none."""
    if not path.is_dir() and path.name != CONFIG:
        return path
    folder = path if path.is_dir() else path.parent
    found = newest_checkpoint(folder / MODELS) or newest_checkpoint(folder)
    if found is None:
        raise InputError(f"{folder} holds no {MODELS}/step-*.ckpt: it is no run of nerfstudio")
    return found


def files_of_run(path: Path) -> tuple[Path, ...]:
    """The settings and the checkpoint that are read for a path; none where it means no run."""
    if not is_run(path):
        return ()
    checkpoint = checkpoint_of(path)
    files = (_folder_of(checkpoint) / CONFIG, checkpoint)
    return tuple(file for file in files if file.exists())


def _folder_of(checkpoint: Path) -> Path:
    parent = checkpoint.parent
    return parent.parent if parent.name == MODELS else parent


def open_run(path: Path) -> Run:
    """The run that a path means. Raises InputError for settings that cannot be read."""
    checkpoint = checkpoint_of(path)
    folder = _folder_of(checkpoint)
    config = folder / CONFIG
    return Run(folder, checkpoint, read_tagged_yaml(config) if config.is_file() else {})


def load_model(checkpoint: Path) -> dict[str, Tensor]:
    """The model's tensors by their names in it, such as "field.aabb".

    Raises InputError, naming the file, when it is damaged or holds no model of nerfstudio.
    """
    return model_tensors(load_checkpoint(checkpoint, ("pipeline",)), checkpoint)


def model_tensors(content: dict[str, Any], where: Path) -> dict[str, Tensor]:
    """The model's tensors in what a checkpoint holds."""
    import torch

    pipeline = content.get("pipeline")
    if not isinstance(pipeline, dict):
        raise InputError(f"{where} is no checkpoint of nerfstudio: it has no 'pipeline'")
    found: dict[str, Tensor] = {}
    for name, value in pipeline.items():
        begin = _PREFIX.match(name) if isinstance(name, str) else None
        if begin is not None and isinstance(value, torch.Tensor):
            found[name[begin.end() :]] = value
    if not found:
        raise InputError(f"{where} holds no model of nerfstudio: its 'pipeline' has no '_model.*'")
    return found


def user_from_run(folder: Path) -> Similarity:
    """From nerfstudio's world to the user's; the identity, with a line, where it is not known.

    Raises InputError, naming the file, for what is no similarity.
    """
    import torch

    from geodistill.cameras import Similarity

    path = folder / TRANSFORMS
    if not path.exists():
        log.say(f"{folder} has no {TRANSFORMS}: the scene stays in nerfstudio's frame")
        return Similarity.identity()
    values = json_object(read_start(path, _LONGEST_JSON), path)
    scale = optional_number(values, "scale", str(path))
    if scale is None or scale <= 0:
        raise InputError(f"{path} must have a 'scale' above 0, got {scale}")
    transform = torch.from_numpy(matrix(values, "transform", (3, 4), str(path)))
    try:
        turned = Similarity.from_matrix(transform)
        grown = Similarity(torch.eye(3).double(), torch.zeros(3).double(), scale)
        return grown.compose(turned).inverse()
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def cameras_of(run: Run) -> Camera | None:
    """The training cameras of the data set that a run names, in the user's world.

    None where the data set is not there, which a line says, cannot be read, or has too few.
    """
    named = _data_path(run.settings)
    if named is None:
        return None
    # Relative to where nerfstudio was run, which is somewhere above the run's folder.
    above = [Path(), *run.folder.resolve().parents]
    found = next((path for place in above if _is_there(path := place / named)), None)
    if found is None:
        log.say(f"{named}, which {run.folder} was trained on, is not there: viewpoints are guessed")
        return None
    try:
        cameras = load_cameras(found, "train").cameras
    except InputError as error:
        log.say(f"the cameras of {run.folder} are left out: {error}")
        return None
    return cameras if len(cameras) >= FEWEST_CAMERAS else None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, or a folder that may not be read
        return False


def _data_path(settings: dict[str, Any]) -> Path | None:
    manager = _inner(settings, "pipeline", "datamanager")
    for holder in (_inner(manager, "dataparser"), manager, settings):
        parts = holder.get("data")
        parts = [parts] if isinstance(parts, str) else parts
        if isinstance(parts, list) and parts and all(isinstance(p, str) for p in parts):
            return Path(*parts) if not any("\0" in p for p in parts) else None
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a folder."""
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError:
        return None
    steps = {int(found[1]): name for name in names if (found := _STEP.fullmatch(name))}
    return folder / steps[max(steps)] if steps else None


def _inner(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        value = values.get(key)
        values = value if isinstance(value, dict) else {}
    return values
