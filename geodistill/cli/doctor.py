"""`geodistill doctor`: what works on this machine, and what brings what does not."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geodistill.cli.arguments import Common
from geodistill.cli.report import pairs

EXTRAS = {
    "OpenEXR": ("exr", "EXR images"),
    "imageio_ffmpeg": ("video", "MP4 output"),
    "transformers": ("hub", "Hugging Face teachers"),
    "fast_simplification": ("mesh", "decimated meshes"),
    "skimage": ("mesh", "meshes of fields and splats"),
    "xatlas": ("mesh", "textures of such meshes"),
    "open3d": ("open3d", "conversion to and from Open3D"),
    "onnxruntime": ("onnx", "ONNX files of detectors"),
    "tensorboard": ("tensorboard", "training logs in TensorBoard"),
}


@dataclass(frozen=True, kw_only=True)
class Arguments(Common):
    """Say what works on this machine: versions, devices, kernels, optional packages."""


def run(arguments: Arguments) -> dict[str, Any]:
    import torch

    from geodistill.kernels import backends, library_status, openmp_runtimes
    from geodistill.nn import sparse_spconv
    from geodistill.runs.environment import environment

    implementations = backends()
    # Not asked without a GPU: spconv's build for CPUs brings an OpenMP runtime of its own.
    has_spconv = torch.cuda.is_available() and sparse_spconv.is_for_gpus()
    on_gpus = "spconv" if has_spconv else "reference"
    implementations["sparse_convolution"] = {"cpu": "reference", "cuda": on_gpus}
    found = environment()
    del found["threads"], found["cuda"]
    return {
        **found,
        "threads": torch.get_num_threads(),
        "devices": _devices(),
        "kernels": implementations,
        "library": library_status(),
        "openmp": [Path(file).name for file in openmp_runtimes()],
        "extras": _extras(),
        "free_disk_gb": round(shutil.disk_usage(os.getcwd()).free / 1e9, 1),
    }


def report(result: dict[str, Any]) -> str:
    kernels = {
        kernel: ", ".join(f"{device}: {name}" for device, name in by_device.items())
        for kernel, by_device in result["kernels"].items()
    }
    notes = []
    if len(result["openmp"]) > 1:
        notes.append("more than one OpenMP runtime is loaded: threads may compete; reinstall torch")
    return "\n".join([pairs({**result, "kernels": kernels}), *notes])


def _devices() -> dict[str, str]:
    import torch

    devices = {"cpu": torch.backends.cpu.get_cpu_capability()}
    for index in range(torch.cuda.device_count()):
        devices[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    return devices


def _extras() -> dict[str, str]:
    return {
        module: "installed"
        if find_spec(module)
        else f"pip install 'geodistill[{extra}]' for {what}"
        for module, (extra, what) in EXTRAS.items()
    }
