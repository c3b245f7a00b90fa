"""PointPillars and SECOND as mmdetection3d and OpenPCDet compute them, written from their formulas:
dense lists of points, dense convolutions with masks, anchors and codes in each one's convention.

Built from the toolboxes' own configs, so that what is written for them can be tried on them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Config = dict[str, Any]


def hard_voxels(scan: Tensor, span: Any, size: Any, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points [V, most, F] padded with zeros, how many each, and z, y, x."""
    cells = [round((span[k + 3] - span[k]) / size[k]) for k in range(3)]
    held: dict[tuple[int, ...], list[Tensor]] = {}
    for point in scan:
        place = [math.floor((float(point[k]) - span[k]) / size[k]) for k in range(3)]
        if all(0 <= place[k] < cells[k] for k in range(3)):
            own = held.setdefault(tuple(place[::-1]), [])
            if len(own) < most:
                own.append(point)
    voxels = scan.new_zeros(len(held), most, scan.shape[1])
    for k, points in enumerate(held.values()):
        voxels[k, : len(points)] = torch.stack(points)
    return voxels, torch.tensor([len(p) for p in held.values()]), torch.tensor([*held])


class Layer(nn.Module):
    """Linear and norm of a pillar's points."""

    def __init__(self, values: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(values, width, bias=False)
        self.norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)


class Pillars(nn.Module):
    def __init__(
        self, values: int, width: int, span: Any, size: Any, most: int, legacy: bool, flat: bool
    ):
        super().__init__()
        self.axes = 2 if flat else 3
        self.pfn_layers = nn.ModuleList([Layer(values + 3 + self.axes, width)])
        self.settings = (span, size, most, legacy)

    def forward(self, scan: Tensor) -> Tensor:
        span, size, most, legacy = self.settings
        features, counts, cells = hard_voxels(scan, span, size, most)
        xyz = features[:, :, :3]
        mean = xyz.sum(1, keepdim=True) / counts[:, None, None]
        cluster = xyz - mean
        center = features[:, :, : self.axes]
        center = center if legacy else center.clone()
        for k in range(self.axes):  # in place: of legacy features the points themselves
            place = cells[:, 2 - k].to(xyz) * size[k] + (size[k] / 2 + span[k])
            center[:, :, k] -= place[:, None]
        x = torch.cat([features, cluster, center], 2)
        x = x * (torch.arange(most)[None, :, None] < counts[:, None, None])
        layer: Any = self.pfn_layers[0]
        x = layer.norm(layer.linear(x).transpose(1, 2)).transpose(1, 2)
        x = F.relu(x).max(1).values
        wide, high = (round((span[k + 3] - span[k]) / size[k]) for k in (0, 1))
        canvas = x.new_zeros(x.shape[1], high * wide)
        canvas[:, cells[:, 1] * wide + cells[:, 2]] = x.T
        return canvas.view(1, -1, high, wide)


class Sparse(nn.Module):
    """A sparse convolution in one of the layouts of its weight."""

    def __init__(self, layout: int, c: int, d: int, kernel: Any, stride: Any, padding: Any):
        super().__init__()
        shape = [(*kernel, c, d), (d, *kernel, c), (*kernel, d, c)][layout]
        self.weight = nn.Parameter(torch.empty(shape))
        self.layout, self.kernel, self.stride, self.padding = layout, kernel, stride, padding

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        order = [(4, 3, 0, 1, 2), (0, 4, 1, 2, 3), (3, 4, 0, 1, 2)][self.layout]
        weight = self.weight.permute(order)
        if self.stride == 1:  # outputs where inputs are
            return F.conv3d(x, weight, padding=1) * mask, mask
        reach = torch.ones(1, 1, *self.kernel, dtype=x.dtype)
        hit = F.conv3d(mask, reach, stride=self.stride, padding=self.padding) > 0
        x = F.conv3d(x, weight, stride=self.stride, padding=self.padding)
        return x, hit.to(x)


def sparse_block(layout: int, c: int, d: int, kernel=(3, 3, 3), stride: Any = 1, padding: Any = 1):
    norm = nn.BatchNorm1d(d, eps=1e-3, momentum=0.01)
    return nn.ModuleList([Sparse(layout, c, d, kernel, stride, padding), norm])


class Encoder(nn.Module):
    """Sparse layers, whose stages are called as a toolbox calls them."""

    def __init__(self, values: int, widths: Any, out: int, layout: int, mmdet3d: bool) -> None:
        super().__init__()
        first = widths[0][0]
        self.conv_input = sparse_block(layout, values, first)
        stages, c = [], first
        for number, own in enumerate(widths):
            blocks = nn.ModuleList()
            for k, d in enumerate(own):
                strided = number > 0 and k == 0
                padding = (0, 1, 1) if number == 3 and strided else 1
                blocks.append(
                    sparse_block(layout, c, d, stride=2 if strided else 1, padding=padding)
                )
                c = d
            stages.append(blocks)
        if mmdet3d:
            self.encoder_layers = nn.Module()
        for number, blocks in enumerate(stages):
            holder = self.encoder_layers if mmdet3d else self
            holder.add_module(f"{'encoder_layer' if mmdet3d else 'conv'}{number + 1}", blocks)
        self.conv_out = sparse_block(layout, c, out, (3, 1, 1), (2, 1, 1), 0)
        self.stages = [stages]  # in a list, so that they have one name

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        blocks = [self.conv_input, *(b for stage in self.stages[0] for b in stage), self.conv_out]
        for conv, norm in blocks:
            x, mask = conv(x, mask)
            affine = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            x = F.relu(F.batch_norm(x, *affine, eps=norm.eps)) * mask
        n, c, d, h, w = x.shape
        return x.view(n, c * d, h, w)


def mean_map(scan: Tensor, span: Any, size: Any, most: int) -> tuple[Tensor, Tensor]:
    """Means of voxels in a dense grid with a layer more on top, and where they are."""
    voxels, counts, cells = hard_voxels(scan, span, size, most)
    shape = [round((span[k + 3] - span[k]) / size[k]) + (k == 2) for k in (2, 1, 0)]
    dense = scan.new_zeros(1, scan.shape[1], *shape)
    z, y, x = cells.T
    dense[0, :, z, y, x] = (voxels.sum(1) / counts[:, None]).T
    mask = scan.new_zeros(1, 1, *shape)
    mask[0, 0, z, y, x] = 1
    return dense, mask


def conv(c: int, d: int, stride: int, padding: int) -> list[nn.Module]:
    layer = nn.Conv2d(c, d, 3, stride, padding, bias=False)
    return [layer, nn.BatchNorm2d(d, eps=1e-3, momentum=0.01), nn.ReLU()]


class Stages(nn.Module):
    """The backbone; with `pad`, as OpenPCDet pads before the first convolution of each stage."""

    def __init__(self, c: int, depths: Any, strides: Any, widths: Any, pad: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for depth, stride, d in zip(depths, strides, widths, strict=True):
            layers = [nn.ZeroPad2d(1), *conv(c, d, stride, 0)] if pad else conv(c, d, stride, 1)
            for _ in range(depth):
                layers += conv(d, d, 1, 1)
            self.blocks.append(nn.Sequential(*layers))
            c = d

    def add_ups(self, module: nn.Module, ins: Any, ups: Any, widths: Any) -> None:
        module.deblocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(c, d, up, up, bias=False),
                nn.BatchNorm2d(d, eps=1e-3, momentum=0.01),
                nn.ReLU(),
            )
            for c, d, up in zip(ins, widths, ups, strict=True)
        )

    def forward(self, x: Tensor, deblocks: Any) -> Tensor:
        found = []
        for block, up in zip(self.blocks, deblocks, strict=True):
            x = block(x)
            found.append(up(x))
        return torch.cat(found, 1)


class Head(nn.Module):
    def __init__(self, c: int, classes: int, anchors: int, codes: str) -> None:
        super().__init__()
        self.conv_cls = nn.Conv2d(c, anchors * classes, 1)
        self.add_module(codes, nn.Conv2d(c, anchors * 7, 1))
        self.conv_dir_cls = nn.Conv2d(c, anchors * 2, 1)
        self.codes, self.classes = codes, classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [A, C], codes [A, 7] and halves [A]."""

        def rows(name: str, each: int) -> Tensor:
            return getattr(self, name)(x)[0].permute(1, 2, 0).reshape(-1, each)

        halves = rows("conv_dir_cls", 2).max(-1).indices
        return rows("conv_cls", self.classes), rows(self.codes, 7), halves


def limit_period(value: Tensor, offset: float, period: float) -> Tensor:
    return value - torch.floor(value / period + offset) * period


class Mmdet3d(nn.Module):
    """By the config's `model`; `old` is before 1.0, `flat` before pillars' centres had a height."""

    def __init__(
        self, model: Config, layout: int = 0, old: bool = False, flat: bool = False
    ) -> None:
        super().__init__()
        self.model, self.old = model, old
        voxels = model["voxel_layer"] if old else model["data_preprocessor"]["voxel_layer"]
        self.voxels = (voxels["point_cloud_range"], voxels["voxel_size"], voxels["max_num_points"])
        encoder, head = model["voxel_encoder"], model["bbox_head"]
        if encoder["type"] == "PillarFeatureNet":
            (width,) = encoder["feat_channels"]
            legacy = encoder.get("legacy", True)
            self.voxel_encoder = Pillars(encoder["in_channels"], width, *self.voxels, legacy, flat)
        else:
            middle = model["middle_encoder"]
            widths, out = middle["encoder_channels"], middle["output_channels"]
            self.middle_encoder = Encoder(middle["in_channels"], widths, out, layout, True)
        backbone, neck = model["backbone"], model["neck"]
        sizes = (backbone["layer_nums"], backbone["layer_strides"], backbone["out_channels"])
        self.backbone = Stages(backbone["in_channels"], *sizes, pad=False)
        self.neck = nn.Module()
        ups = (neck["in_channels"], neck["upsample_strides"], neck["out_channels"])
        self.backbone.add_ups(self.neck, *ups)
        generator = head["anchor_generator"]
        anchors = len(generator["sizes"]) * len(generator["rotations"])
        self.bbox_head = Head(head["feat_channels"], head["num_classes"], anchors, "conv_reg")

    def forward(self, scan: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if hasattr(self, "voxel_encoder"):
            x = self.voxel_encoder(scan)
        else:
            x = self.middle_encoder(*mean_map(scan, *self.voxels))
        return self.bbox_head(self.backbone(x, self.neck.deblocks))

    def anchors(self, high: int, wide: int) -> Tensor:
        """[A, 7] with z of the bottom, sizes as the config has them."""
        generator = self.model["bbox_head"]["anchor_generator"]
        aligned = generator["type"].startswith("Aligned")
        parts = []
        for span, size in zip(generator["ranges"], generator["sizes"], strict=True):

            def places(low: float, top: float, count: int) -> Tensor:
                if not aligned:
                    return torch.linspace(low, top, count)
                edges = torch.linspace(low, top, count + 1)
                return (edges + (edges[1] - edges[0]) / 2)[:count]

            y, x = places(span[1], span[4], high), places(span[0], span[3], wide)
            turns = torch.tensor(generator["rotations"], dtype=torch.float32)
            yy, xx, rr = torch.meshgrid(y, x, turns, indexing="ij")
            fixed = [torch.full_like(xx, v) for v in (span[2], *size)]
            parts.append(torch.stack([xx, yy, *fixed, rr], -1))
        return torch.stack(parts, 2).reshape(-1, 7)  # [H, W, C, R, 7]

    def boxes(self, codes: Tensor, halves: Tensor, anchors: Tensor) -> Tensor:
        """In the convention of mmdetection3d."""
        x, y, z, l, w, h, r = anchors.unbind(-1)  # noqa: E741
        z = z + h / 2
        diagonal = torch.sqrt(l**2 + w**2)
        tx, ty, tz, tl, tw, th, tr = codes.unbind(-1)
        height = th.exp() * h
        sizes = [tl.exp() * l, tw.exp() * w, height]
        parts = [tx * diagonal + x, ty * diagonal + y, tz * h + z - height / 2, *sizes]
        # Before 1.0 the yaws of KITTI came out half a circle off, which the data set undid.
        offset = 0.0 if self.old else self.model["bbox_head"].get("dir_offset", -math.pi / 2)
        yaw = limit_period(tr + r - offset, 1 if self.old else 0, math.pi) + offset
        yaw = yaw + math.pi * halves - (math.pi if self.old else 0)
        return torch.stack([*parts, yaw], -1)


class Openpcdet(nn.Module):
    """By a YAML file's mapping."""

    def __init__(self, config: Config, values: int = 4, layout: int = 1, divided: int = 1) -> None:
        super().__init__()
        self.register_buffer("global_step", torch.zeros(1, dtype=torch.long))
        model, data = config["MODEL"], config["DATA_CONFIG"]
        self.model = model
        (steps,) = (s for s in data["DATA_PROCESSOR"] if s["NAME"] == "transform_points_to_voxels")
        self.voxels = (
            data["POINT_CLOUD_RANGE"],
            steps["VOXEL_SIZE"],
            steps["MAX_POINTS_PER_VOXEL"],
        )
        if model["NAME"] == "PointPillar":
            assert model["VFE"]["USE_ABSLOTE_XYZ"]
            (width,) = model["VFE"]["NUM_FILTERS"]
            self.vfe = Pillars(values, width, *self.voxels, legacy=False, flat=False)
        else:  # `divided` is what is to be changed in the code of VoxelBackBone8x
            widths = [[w // divided] * n for w, n in ((16, 1), (32, 3), (64, 3), (64, 3))]
            self.backbone_3d = Encoder(values, widths, 128 // divided, layout, mmdet3d=False)
        flat, head = model["BACKBONE_2D"], model["DENSE_HEAD"]
        sizes = (flat["LAYER_NUMS"], flat["LAYER_STRIDES"], flat["NUM_FILTERS"])
        channels = model["MAP_TO_BEV"]["NUM_BEV_FEATURES"]
        self.backbone_2d = Stages(channels, *sizes, pad=True)
        joined = flat["NUM_UPSAMPLE_FILTERS"]
        ups = (flat["NUM_FILTERS"], flat["UPSAMPLE_STRIDES"], joined)
        self.backbone_2d.add_ups(self.backbone_2d, *ups)
        own = head["ANCHOR_GENERATOR_CONFIG"]
        anchors = sum(len(one["anchor_rotations"]) for one in own)
        self.dense_head = Head(sum(joined), len(config["CLASS_NAMES"]), anchors, "conv_box")

    def forward(self, scan: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if hasattr(self, "vfe"):
            x = self.vfe(scan)
        else:
            x = self.backbone_3d(*mean_map(scan, *self.voxels))
        return self.dense_head(self.backbone_2d(x, self.backbone_2d.deblocks))

    def anchors(self, high: int, wide: int) -> Tensor:
        """[A, 7], centres."""
        span = self.voxels[0]
        parts = []
        for one in self.model["DENSE_HEAD"]["ANCHOR_GENERATOR_CONFIG"]:
            if one["align_center"]:
                steps = ((span[3] - span[0]) / wide, (span[4] - span[1]) / high)
                shift = (steps[0] / 2, steps[1] / 2)
            else:
                steps = ((span[3] - span[0]) / (wide - 1), (span[4] - span[1]) / (high - 1))
                shift = (0, 0)
            x = torch.arange(span[0] + shift[0], span[3] + 1e-5, steps[0])
            y = torch.arange(span[1] + shift[1], span[4] + 1e-5, steps[1])
            turns = torch.tensor(one["anchor_rotations"], dtype=torch.float32)
            (size,), (bottom,) = one["anchor_sizes"], one["anchor_bottom_heights"]
            yy, xx, rr = torch.meshgrid(y, x, turns, indexing="ij")
            fixed = [torch.full_like(xx, v) for v in (bottom + size[2] / 2, *size)]
            parts.append(torch.stack([xx, yy, *fixed, rr], -1))
        return torch.stack(parts, 2).reshape(-1, 7)

    def boxes(self, codes: Tensor, halves: Tensor, anchors: Tensor) -> Tensor:
        x, y, z, dx, dy, dz, r = anchors.unbind(-1)
        tx, ty, tz, tdx, tdy, tdz, tr = codes.unbind(-1)
        diagonal = torch.sqrt(dx**2 + dy**2)
        place = [tx * diagonal + x, ty * diagonal + y, tz * dz + z]
        sizes = [tdx.exp() * dx, tdy.exp() * dy, tdz.exp() * dz]
        offset = self.model["DENSE_HEAD"]["DIR_OFFSET"]
        yaw = limit_period(tr + r - offset, 0, math.pi) + offset + math.pi * halves
        return torch.stack([*place, *sizes, yaw], -1)


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """With random weights and statistics, in eval mode."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
        elif value.is_floating_point():
            fan = max(value.numel() // max(value.shape), 1)
            spread = 0.3 if value.dim() == 1 else 1.2 / math.sqrt(fan)
            value.copy_(torch.randn(value.shape, generator=draw) * spread)
            if value.dim() == 1 and name.endswith("weight"):
                value.add_(1)
    return module.eval()
