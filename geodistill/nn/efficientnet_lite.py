"""EfficientNet-Lite0 (Tan & Le 2019, EfficientNet; Liu 2020, the Lite variants).

MobileNet-v2 blocks with ReLU6 and without squeeze-and-excitation. Parameter names are those of the
published PyTorch weights. They were trained in TensorFlow, whose strided convolutions pad more at
the right and bottom than at the left and top. So padded, what a unit sees is centred on its own
patch of the picture; padded alike on both sides, it would lie half a patch to the upper left.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F


class Stage(NamedTuple):
    """Blocks in a row: the first of them has the stride and changes the channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
HEAD, CLASSES = 1280, 1000
_EPSILON = 1e-3  # of batch normalisation, as in training


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding: ceil(size / stride) outputs, the odd pixel last."""

    def forward(self, input: Tensor) -> Tensor:
        padding: list[int] = []
        for size, kernel, stride in zip(
            input.shape[-2:], self.kernel_size, self.stride, strict=True
        ):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            padding = [total // 2, total - total // 2, *padding]
        return super().forward(F.pad(input, padding))


class Block(nn.Module):
    """Expand by a 1x1 convolution, filter each channel by itself, project back."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = fan_in * expansion
        self.expands = expansion > 1
        self.adds_input = stride == 1 and fan_in == fan_out
        if self.expands:
            self._expand_conv = nn.Conv2d(fan_in, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, _EPSILON)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, _EPSILON)
        self._project_conv = nn.Conv2d(wide, fan_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(fan_out, _EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        if self.expands:
            hidden = F.relu6(self._bn0(self._expand_conv(hidden)))
        hidden = F.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + x if self.adds_input else hidden


class EfficientNetLite0(nn.Module):
    """ImageNet classifier with 16 blocks; `blocks(x, n)` gives the map behind the n-th of them."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, _EPSILON)
        self._blocks = nn.ModuleList()
        fan_in = STEM
        for stage in STAGES:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                self._blocks.append(
                    Block(fan_in, stage.channels, stage.kernel, stride, stage.expansion)
                )
                fan_in = stage.channels
        self._conv_head = nn.Conv2d(fan_in, HEAD, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(HEAD, _EPSILON)
        self._fc = nn.Linear(HEAD, CLASSES)

    def blocks(self, x: Tensor, count: int = 16) -> Tensor:
        """[B, 3, H, W] normalised images -> [B, C, h, w], the output of block `count`, from 1."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks[:count]:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] normalised images -> [B, 1000] logits of ImageNet's classes."""
        x = F.relu6(self._bn1(self._conv_head(self.blocks(x))))
        return self._fc(x.mean(dim=(2, 3)))
