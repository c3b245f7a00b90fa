"""What a run logs, for TensorBoard as well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodistill.io.extras import require


class Board:
    """A folder of TensorBoard's events. Raises InputError where TensorBoard is not installed.

    Args:
        folder: for the files of events.
        after: a step of an interrupted run; TensorBoard leaves out what came later.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        require("tensorboard", "tensorboard", "writing TensorBoard's events")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=after + 1)

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Metrics that are finite numbers."""
        for name, value in metrics.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
