# ruff: noqa: E501
"""Runs of nerfstudio as its trainer writes them: settings with Python's tags, frame, checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

SETTINGS = """\
!!python/object:nerfstudio.engine.trainer.TrainerConfig
_target: &id001 !!python/name:nerfstudio.engine.trainer.Trainer ''
data: &id002 !!python/object/apply:pathlib.PosixPath
- data
- lego
experiment_name: lego
logging: !!python/object:nerfstudio.configs.base_config.LoggingConfig
  local_writer: !!python/object:nerfstudio.configs.base_config.LocalWriterConfig
    _target: !!python/name:nerfstudio.utils.writer.LocalWriter ''
    stats_to_track: !!python/tuple
    - &id003 !!python/object/apply:nerfstudio.utils.writer.EventName
      - Train Iter (time)
method_name: {method}
optimizers:
  means:
    optimizer: !!python/object:nerfstudio.engine.optimizers.AdamOptimizerConfig
      _target: &id004 !!python/name:torch.optim.adam.Adam ''
      eps: 1.0e-15
      lr: 0.00016
output_dir: !!python/object/apply:pathlib.PosixPath
- outputs
pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig
  datamanager: !!python/object:nerfstudio.data.datamanagers.base_datamanager.VanillaDataManagerConfig
    data: *id002
    dataparser: !!python/object:{dataparser}
      _target: !!python/name:{parser} ''
      auto_scale_poses: true
      scale_factor: {scale_factor}
  model: !!python/object:nerfstudio.models.any.ModelConfig
    _target: !!python/name:nerfstudio.models.any.Model ''
    collider_params:
      far_plane: 6.0
      near_plane: 2.0
{model}timestamp: 2024-05-06_070809
relative_model_dir: !!python/object/apply:pathlib.PosixPath
- nerfstudio_models
"""
NERFSTUDIO_DATA = "nerfstudio.data.dataparsers.nerfstudio_dataparser.NerfstudioDataParserConfig"
BLENDER_DATA = "nerfstudio.data.dataparsers.blender_dataparser.BlenderDataParserConfig"


def settings(
    method: str,
    model: dict[str, Any],
    dataparser: str = NERFSTUDIO_DATA,
    scale_factor: float = 1.0,
) -> str:
    lines = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in model.items())
    return SETTINGS.format(
        method=method,
        model=lines,
        dataparser=dataparser,
        parser=dataparser.removesuffix("DataParserConfig"),
        scale_factor=scale_factor,
    )


def turn(seed: int = 0) -> np.ndarray:
    """A rotation. float64 [3, 3]"""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def write_run(
    folder: Path,
    state: dict[str, torch.Tensor],
    config: str | None,
    frame: tuple[np.ndarray, np.ndarray, float] | None = None,
    step: int = 29999,
    prefix: str = "_model.",
) -> Path:
    """`frame`: rotation, translation and scale of dataparser_transforms.json."""
    models = folder / "nerfstudio_models"
    models.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.yml").write_text(config)
    if frame is not None:
        R, t, scale = frame
        transform = np.concatenate([R, t[:, None]], axis=1).tolist()
        table = json.dumps({"transform": transform, "scale": scale}, indent=4)
        (folder / "dataparser_transforms.json").write_text(table)
    net = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: np.exp(-0.1 * i))
    content = {
        "step": step,
        "pipeline": {
            **{f"{prefix}{name}": value for name, value in state.items()},
            f"{prefix}device_indicator_param": torch.empty(0),
            "datamanager.train_camera_optimizer.pose_adjustment": torch.zeros(4, 6),
        },
        "optimizers": {"fields": adam.state_dict()},
        "schedulers": {"fields": schedule.state_dict()},
        "scalers": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
    }
    torch.save(content, models / f"step-{step:09d}.ckpt")
    return folder
