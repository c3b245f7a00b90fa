"""Detectors in any file that one is in, for all verbs that take one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.checks import UsageError
from geodistill.cli.options import expect_free

if TYPE_CHECKING:
    from geodistill.nn.detector import Detector
    from geodistill.nn.toolboxes.names import Toolbox

_CHECKPOINTS = (".pth", ".pt", ".ckpt")


def holds_detector(path: Path) -> bool:
    """Whether a file, as `runs.result_file` gives it, holds a detector of whichever kind.

    Raises InputError for a damaged one.
    """
    from geodistill.nn.detector_files import FORMAT
    from geodistill.nn.toolboxes import is_toolbox_checkpoint
    from geodistill.runs import read_metadata

    if not path.is_file():
        return False
    if path.suffix.lower() in _CHECKPOINTS:
        return is_toolbox_checkpoint(path)
    return path.suffix == ".safetensors" and read_metadata(path).get("format") == FORMAT


def open_detector(path: Path) -> Detector:
    """Raises InputError for a damaged one, or one of an unknown architecture."""
    return _opened(path)[0]


def _opened(path: Path) -> tuple[Detector, str]:
    """A detector, and whose file it is in."""
    from geodistill.nn.detector_files import load_detector
    from geodistill.nn.toolboxes import read_detector

    if path.suffix.lower() not in _CHECKPOINTS:
        return load_detector(path), "geodistill"
    found = read_detector(path)
    before = " before 1.0, converted" if found.convention == "mmdet3d-0" else ""
    return found.detector, f"{found.toolbox}{before}"


def describe_detector(path: Path) -> dict[str, Any]:
    """What `info` says of one."""
    from geodistill.nn.anchor_detector import AnchorDetector

    detector, origin = _opened(path)
    settings = detector.settings
    said = {
        "kind": "detector",
        "origin": origin,
        "architecture": settings.architecture,
        "compression": settings.compression,
        "parameters": sum(p.numel() for p in detector.parameters()),
        "classes": [*detector.classes],
        "values": settings.values,
        "bounds": [[*corner] for corner in detector.bounds],
    }
    if not isinstance(detector, AnchorDetector):
        return {**said, "points": settings.points}
    return {
        **said,
        "voxel": [*settings.grid.size],
        "anchors": len(detector.anchors.reshape(-1, 7)),
        "placing": settings.placing,
        "coordinates": settings.coordinates,
        "direction_offset": settings.offset,
    }


def export_detector(
    source: Path, output: Path, toolbox: Toolbox | None, overwrite: bool
) -> dict[str, Any]:
    """Write it in another program's layout, or in this one's."""
    from geodistill.nn.anchor_detector import AnchorDetector
    from geodistill.nn.detector_files import save_detector
    from geodistill.nn.toolboxes import checkpoint_files, write_detector

    endings = (".safetensors", ".onnx") if toolbox is None else (".pth",)
    if output.suffix.lower() not in endings:
        more = "; --toolbox mmdet3d or openpcdet writes NAME.pth" if toolbox is None else ""
        known = " or ".join(f"NAME{ending}" for ending in endings)
        raise UsageError(f"-o {output}: this detector is written as {known}{more}")
    files = [output] if toolbox is None else [*checkpoint_files(output, toolbox)]
    expect_free(overwrite, *files, inputs=(source,))
    detector = open_detector(source)
    settings = detector.settings
    checked: dict[str, Any] = {}
    if output.suffix.lower() == ".safetensors":
        save_detector(output, detector)
    elif not isinstance(detector, AnchorDetector):
        raise UsageError(
            f"-o {output}: a {settings.architecture} detector is written as NAME.safetensors"
        )
    elif toolbox is None:
        from geodistill.nn.detector_onnx import export_onnx

        found = export_onnx(output, detector)
        checked = {
            "largest_difference": found.difference,
            "onnxruntime_ms": found.onnx_ms,
            "torch_ms": found.torch_ms,
        }
    else:
        write_detector(output, detector, toolbox)
    return {
        "output": str(output),
        **({"config": str(files[1])} if toolbox else {}),
        "architecture": settings.architecture,
        "compression": settings.compression,
        "classes": [*detector.classes],
        **checked,
        "bytes": sum(path.stat().st_size for path in files),
    }
