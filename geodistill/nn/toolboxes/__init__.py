"""PointPillars and SECOND in checkpoints of mmdetection3d and OpenPCDet."""

from geodistill.nn.toolboxes.reading import ToolboxDetector, read_detector
from geodistill.nn.toolboxes.recognition import is_toolbox_checkpoint
from geodistill.nn.toolboxes.writing import checkpoint_files, write_detector

__all__ = [
    "ToolboxDetector",
    "checkpoint_files",
    "is_toolbox_checkpoint",
    "read_detector",
    "write_detector",
]
