"""CLIP and SigLIP: patches and sentences in one space.

Both are trained on whole pictures: a pooling attention mixes all patches into the one vector that
is compared with a sentence. Here each patch is pooled alone, as if it were the whole picture
(MaskCLIP, Zhou et al. 2022, section 3.2, for CLIP's last block; the same for SigLIP's head).

The limits of that: nothing was ever trained to make one patch match a sentence, earlier blocks
have already mixed in the surroundings, and similarities lie close together. They rank places
within a scene; as absolute scores they mean little, and a query is best compared with others
("a handle" against "a photo of an object").
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import InputError


def clip_patches(model: Any) -> Callable[[Tensor], Tensor]:
    """[B, 3, H, W] -> [B, 1 + N, projection]: in the last block a token attends to itself alone."""
    vision = model.vision_model
    last = vision.encoder.layers[-1]

    def tokens(pixels: Tensor) -> Tensor:
        states = vision(
            pixel_values=pixels, interpolate_pos_encoding=True, output_hidden_states=True
        ).hidden_states
        x = states[-2]  # what the last block is given
        attention = last.self_attn
        x = x + attention.out_proj(attention.v_proj(last.layer_norm1(x)))
        x = x + last.mlp(last.layer_norm2(x))
        return model.visual_projection(vision.post_layernorm(x))

    return tokens


def siglip_patches(model: Any) -> Callable[[Tensor], Tensor]:
    """[B, 3, H, W] -> [B, N, C]: each patch through the pooling head by itself."""
    vision = model.vision_model

    def tokens(pixels: Tensor) -> Tensor:
        x = vision(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return vision.head(x.flatten(0, 1)[:, None]).unflatten(0, x.shape[:2])

    return tokens


_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
PATCHES_AS_WORDS = {"clip": clip_patches, "siglip": siglip_patches}


def text_encoder(transformers: Any, model: Any, folder: Path) -> Callable[[list[str]], Tensor]:
    """Sentences to [n, C]. The tokenizer is read when it is first needed."""
    pads_fully = model.config.model_type == "siglip"  # as it was trained
    length = model.config.text_config.max_position_embeddings

    def encode(texts: list[str]) -> Tensor:
        tokenizer = _tokenizer(transformers, folder)
        ids = tokenizer(
            texts,
            padding="max_length" if pads_fully else True,
            max_length=length,
            truncation=True,
            return_tensors="pt",
        ).to(model.device)
        options = {} if pads_fully else {"attention_mask": ids["attention_mask"]}
        found = model.get_text_features(input_ids=ids["input_ids"], **options)
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    return encode


def _tokenizer(transformers: Any, folder: Path) -> Any:
    # Without its files the library makes a tokenizer that knows no words.
    if not any((folder / name).exists() for name in _VOCABULARIES):
        raise InputError(f"{folder} has no tokenizer, so texts cannot be embedded: download it too")
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises whatever its parts raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the tokenizer in {folder} cannot be loaded, so texts cannot be embedded: {reason}"
        ) from None
