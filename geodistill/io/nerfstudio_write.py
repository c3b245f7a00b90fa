"""A run folder that nerfstudio opens: settings, frame, checkpoint, and a data set of one picture.

nerfstudio makes its model only together with a data set, so that the folder brings one whose world
is the model's. Settings leave out what has a plain default in nerfstudio's classes. Source:
nerfstudio 1.1.5, engine/trainer.py, configs/, utils/eval_utils.py, data/datamanagers/.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import UsageError
from geodistill.config.tagged_yaml import Tagged, dump_tagged
from geodistill.io.meshes.textures import encode_png
from geodistill.io.nerfstudio import CONFIG, MODELS, TRANSFORMS, newest_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = f"{MODELS}/step-000000000.ckpt"
_DATA, _PICTURE = "geodistill_data", "images/frame_00001.png"  # a user's own is often in `data`
_CAMERAS = f"{_DATA}/transforms.json"
_SIZE, _FOV_RAD = 64, 0.9


def run_files(
    path: Path,
    method: str,
    datamanager: str,
    model: Tagged,
    state: dict[str, Tensor],
    run_from_user: NDArray[np.float64],
    seen: tuple[NDArray[np.float64], float],
) -> dict[str, bytes]:
    """The files of a run by their names in the folder of its `config.yml`, which `path` names.

    Args:
        method: its name among nerfstudio's.
        datamanager: class of its data manager's settings, "module.Class".
        model: settings of the model.
        state: the model's tensors by their names in it.
        run_from_user: [4, 4] similarity.
        seen: centre [3] and radius, in the run's world, of what the one camera looks at.

    Raises UsageError for another name of the file, or a folder that holds another run.
    """
    import torch

    if path.name != CONFIG:
        raise UsageError(f"{path}: a run of nerfstudio is named by its settings, FOLDER/{CONFIG}")
    _expect_own(path)
    folder = path.resolve().parent
    content = {
        "step": 0,
        "pipeline": {f"_model.{name}": tensor for name, tensor in state.items()},
        "optimizers": {},
        "schedulers": {},
        "scalers": {},
    }
    saved = io.BytesIO()
    torch.save(content, saved)
    scale = float(np.cbrt(np.linalg.det(run_from_user[:3, :3])))
    frame = {"transform": (run_from_user[:3] / scale).tolist(), "scale": scale}
    return {
        f"{_DATA}/{_PICTURE}": encode_png(np.full((_SIZE, _SIZE, 4), 128, np.uint8)),
        _CAMERAS: (json.dumps(_camera(*seen), indent=4) + "\n").encode(),
        CHECKPOINT: saved.getvalue(),
        TRANSFORMS: (json.dumps(frame, indent=4) + "\n").encode(),
        CONFIG: dump_tagged(_settings(folder, method, datamanager, model)).encode(),
    }


def _expect_own(path: Path) -> None:
    """Raise UsageError where writing a run to `path` would replace what is of another run, or would
    lie beside its checkpoints: the newest is read, here as in nerfstudio.

    What a write of ours left when it was interrupted begins with the data set, and is replaced.
    """
    folder = path.parent
    newest = newest_checkpoint(folder / MODELS)
    foreign = [] if newest is None or newest == folder / CHECKPOINT else [newest]
    if not path.exists() and not (folder / _CAMERAS).exists():
        foreign += [there for name in (CHECKPOINT, TRANSFORMS) if (there := folder / name).exists()]
    if foreign:
        raise UsageError(f"{foreign[0]} is of another run: name another folder for {CONFIG}")


def made(name: str, target: str, **values: Any) -> Tagged:
    """Settings "module.Class" of what the class `target` makes, which stands in the same module
    where it names none."""
    module = name.rpartition(".")[0]
    full = target if "." in target else f"{module}.{target}"
    return Tagged(f"object:{name}", {"_target": Tagged(f"name:{full}", ""), **values})


def camera_optimizer() -> Tagged:
    """Settings of cameras that stay as they are."""
    name = "nerfstudio.cameras.camera_optimizers.CameraOptimizerConfig"
    return made(name, "CameraOptimizer", mode="off")


def no_collider() -> dict[str, dict[str, float]]:
    """Settings of every model that have no plain default."""
    losses = {"rgb_loss_coarse": 1.0, "rgb_loss_fine": 1.0}
    return {"collider_params": {"near_plane": 2.0, "far_plane": 6.0}, "loss_coefficients": losses}


def _settings(folder: Path, method: str, datamanager: str, model: Tagged) -> Tagged:
    """Of the whole run. The folder of checkpoints is named in full: what nerfstudio would join from
    its output folder, experiment, method and time need not be this folder."""
    base = "nerfstudio.configs.base_config"
    parser = made(
        "nerfstudio.data.dataparsers.nerfstudio_dataparser.NerfstudioDataParserConfig",
        "Nerfstudio",
        data=_path(folder / _DATA),
        auto_scale_poses=False,
        center_method="none",
        orientation_method="none",
        eval_mode="all",
        downscale_factor=1,
        load_3D_points=False,
    )
    pixels = made("nerfstudio.data.pixel_samplers.PixelSamplerConfig", "PixelSampler")
    data = {"data": _path(folder / _DATA), "dataparser": parser, "pixel_sampler": pixels}
    writer = made(f"{base}.LocalWriterConfig", "nerfstudio.utils.writer.LocalWriter")
    writer.value["stats_to_track"] = Tagged("tuple", [])
    return made(
        "nerfstudio.engine.trainer.TrainerConfig",
        "Trainer",
        method_name=method,
        experiment_name=folder.name,
        output_dir=_path(folder.parent),
        timestamp="geodistill",
        relative_model_dir=_path(folder / MODELS),
        vis="viewer",
        machine=Tagged(f"object:{base}.MachineConfig", {"num_devices": 1}),
        logging=Tagged(
            f"object:{base}.LoggingConfig", {"local_writer": writer, "relative_log_dir": _path(".")}
        ),
        viewer=Tagged(f"object:{base}.ViewerConfig", {"relative_log_filename": "viewer.txt"}),
        optimizers={},
        gradient_accumulation_steps={},
        pipeline=made(
            "nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig",
            "VanillaPipeline",
            datamanager=made(datamanager, datamanager.removesuffix("Config"), **data),
            model=model,
        ),
    )


def _path(path: Path | str) -> Tagged:
    return Tagged("object/apply:pathlib.Path", [Path(path).as_posix()])


def _camera(center: NDArray[np.float64], radius: float) -> dict[str, Any]:
    """transforms.json of one camera that looks at a sphere along +y, with z up."""
    pose = np.eye(4)
    pose[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    pose[:3, 3] = center - np.array([0, radius / np.sin(0.5 * _FOV_RAD), 0])
    focal_px = 0.5 * _SIZE / np.tan(0.5 * _FOV_RAD)
    lens = {"fl_x": focal_px, "fl_y": focal_px, "cx": _SIZE / 2, "cy": _SIZE / 2}
    frames = [{"file_path": _PICTURE, "transform_matrix": pose.tolist()}]
    return {"camera_model": "OPENCV", "w": _SIZE, "h": _SIZE, **lens, "frames": frames}
