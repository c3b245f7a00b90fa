"""Vision models of the Hugging Face hub, from a folder or by name, through `transformers`.

DINOv2 with and without registers, DINOv3 (transformer and ConvNeXt), the vision towers of CLIP and
SigLIP alone, and any other model whose last hidden state is a few prefix tokens and one token a
patch give that state. Whole CLIP and SigLIP models give each patch in the space of their sentences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.io.extras import require
from geodistill.teachers.base import Backbone, Preprocessing, weights_digest
from geodistill.teachers.download import model_folder, read_json
from geodistill.teachers.words import PATCHES_AS_WORDS, text_encoder

DINOV2_S = "facebook/dinov2-small"
_MOST_PREFIX_TOKENS = 2  # a class token and, in distilled transformers, a second one


def dinov2_s(size_px: int | None, device: torch.device) -> Backbone:
    """`dinov2-s`: DINOv2 ViT-S/14 (Oquab et al. 2023), normalised tokens of its last block."""
    return load_hub_teacher(DINOV2_S, size_px, device, "dinov2-s")


def load_hub_teacher(
    source: str, size_px: int | None, device: torch.device, name: str | None = None
) -> Backbone:
    """A teacher from a model's folder or its hub name.

    Raises:
        InputError: no such folder or model, no network, no safetensors, damaged weights, a model
            without patch tokens, or `transformers` is not installed.
    """
    transformers = require("transformers", "hub", f"the teacher '{name or source}'")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = model_folder(source)
    preprocessing = _preprocessing(folder, size_px)
    model = _load(transformers, folder).eval().requires_grad_(False).to(device)
    kind = model.config.model_type
    if kind in PATCHES_AS_WORDS:
        tokens, texts = PATCHES_AS_WORDS[kind](model), text_encoder(transformers, model, folder)
    else:
        tokens, texts = _last_tokens(model), None
    patch_px = preprocessing.patch_px
    prefix, channels = _prefix_and_channels(tokens, patch_px, model, folder)
    return Backbone(
        name or (folder.resolve().name if Path(source).is_dir() else source),
        channels,
        preprocessing,
        _grid_of_patches(tokens, patch_px, prefix),
        weights_digest(model.state_dict(), kind=kind),
        device,
        texts,
    )


def _load(transformers: Any, folder: Path) -> Any:
    """The model of a folder, in float32; weights come from safetensors only."""
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} has no .safetensors weights (pickled ones are not read): convert or "
            "download them"
        )
    try:
        model, report = transformers.AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # the library raises whatever its parts raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the model in {folder} cannot be loaded: {reason}") from None
    # The library draws missing weights at random. Patches do not pass the pooler of a plain model.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise InputError(
            f"the model in {folder} lacks {len(missing)} of its weights ({missing[0]}, ...): "
            "download it again"
        )
    return model


def _preprocessing(folder: Path, size_px: int | None) -> Preprocessing:
    """Patch size from config.json, mean and deviation from the image processor's file."""
    config = read_json(folder / "config.json")
    vision = config.get("vision_config") or config
    patch_px = vision.get("patch_size")
    if patch_px is None and isinstance(vision.get("hidden_sizes"), list):
        patch_px = 2 ** (1 + len(vision["hidden_sizes"]))  # ConvNeXt: a stem of 4, then halvings
    if isinstance(patch_px, list) and len({*patch_px}) == 1:
        patch_px = patch_px[0]
    if not isinstance(patch_px, int) or patch_px < 1:
        kind = config.get("model_type", "unknown")
        raise InputError(
            f"{folder / 'config.json'} (a model of type '{kind}') states no patch_size: only "
            "models with patch tokens can teach"
        )
    file = folder / "preprocessor_config.json"
    if not file.exists() and (folder / "processor_config.json").exists():
        file = folder / "processor_config.json"
    processor = read_json(file)
    processor = processor.get("image_processor") or processor
    if processor.get("do_normalize") is False:
        return Preprocessing(patch_px, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size_px)
    try:
        mean, std = (
            tuple(float(value) for value in processor[f"image_{key}"]) for key in ("mean", "std")
        )
        (a, b, c), (d, e, f) = mean, std
        if min(std) <= 0:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{file} states no image_mean and image_std of three channels: copy it from the "
            "model's page"
        ) from None
    return Preprocessing(patch_px, (a, b, c), (d, e, f), size_px)


def _last_tokens(model: Any) -> Callable[[Tensor], Tensor]:
    """The last hidden state behind its prefix: [B, 3, H, W] -> [B, T, C]."""
    vision = getattr(model, "vision_model", model)
    options: dict[str, Any] = {}
    if "interpolate_pos_encoding" in inspect.signature(vision.forward).parameters:
        options["interpolate_pos_encoding"] = True

    def tokens(pixels: Tensor) -> Tensor:
        return vision(pixel_values=pixels, **options).last_hidden_state

    return tokens


def _grid_of_patches(
    tokens: Callable[[Tensor], Tensor], patch_px: int, prefix: int
) -> Callable[[Tensor], Tensor]:
    """Drop what stands before the patches, and give those their two dimensions."""

    def gridded(pixels: Tensor) -> Tensor:
        rows, columns = (side // patch_px for side in pixels.shape[-2:])
        return tokens(pixels)[:, prefix:].unflatten(1, (rows, columns))

    return gridded


@torch.no_grad()
def _prefix_and_channels(
    tokens: Callable[[Tensor], Tensor], patch_px: int, model: Any, folder: Path
) -> tuple[int, int]:
    """How many tokens stand before those of the patches, counted on a small picture, and their C.

    Raises InputError when the answer does not look like a few prefix tokens and then the patches.
    """
    rows, columns = 2, 3
    pixels = torch.zeros(1, 3, rows * patch_px, columns * patch_px, device=model.device)
    found = tokens(pixels)
    most = _MOST_PREFIX_TOKENS + (getattr(model.config, "num_register_tokens", 0) or 0)
    prefix = found.shape[1] - rows * columns if found.ndim == 3 else -1
    if not 0 <= prefix <= most:
        raise InputError(
            f"the model in {folder} (type '{model.config.model_type}') answers {rows * columns} "
            f"patches with shape {[*found.shape]}: it gives no token for each patch"
        )
    return prefix, found.shape[-1]
