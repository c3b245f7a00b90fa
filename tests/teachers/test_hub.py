"""Hugging Face models: tiny random ones, saved and loaded by folder, against their own forward."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geodistill.checks import InputError, UsageError
from geodistill.cli import main
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import save_mesh
from geodistill.lift.files import load_features
from geodistill.lift.query import centred
from geodistill.runs import load_tensors
from geodistill.teachers import base, load_teacher, same_teacher
from geodistill.teachers.base import Preprocessing, prepare

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
WIDTHS: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TEXT = {**WIDTHS, "vocab_size": 12, "max_position_embeddings": 10, "pad_token_id": 1}


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, so that tokens can be compared."""
    monkeypatch.setattr(base, "has_native_bf16", lambda device: False)


def dinov2() -> Any:
    return transformers.Dinov2Config(**WIDTHS, patch_size=4, image_size=12)


def dinov2_with_registers() -> Any:
    return transformers.Dinov2WithRegistersConfig(
        **WIDTHS, patch_size=4, image_size=12, num_register_tokens=3
    )


def dinov3() -> Any:
    return transformers.DINOv3ViTConfig(
        **WIDTHS, patch_size=4, image_size=12, num_register_tokens=4
    )


def convnext() -> Any:
    return transformers.DINOv3ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])


def vit() -> Any:
    return transformers.ViTConfig(**WIDTHS, patch_size=4, image_size=12)


def clip_tower() -> Any:
    return transformers.CLIPVisionConfig(**WIDTHS, patch_size=4, image_size=12)


def clip() -> Any:
    text = {**TEXT, "bos_token_id": 0, "eos_token_id": 2}
    vision = {**WIDTHS, "patch_size": 4, "image_size": 12}
    return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)


def siglip() -> Any:
    vision = {**WIDTHS, "patch_size": 4, "image_size": 12}
    return transformers.SiglipConfig(text_config=TEXT, vision_config=vision)


def save(config: Any, folder: Path) -> Any:
    """A random model in a folder, as the hub would give it."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim:
            nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor = {"image_mean": MEAN, "image_std": STD, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


def save_words(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "red", "cup", "handle", "of", "the"]
    table = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def images(height: int, width: int) -> Tensor:
    return torch.rand(2, height, width, 3, generator=torch.Generator().manual_seed(1))


PLAIN: list[tuple[Callable[[], Any], int, int]] = [
    (dinov2, 4, 1),
    (dinov2_with_registers, 4, 4),
    (dinov3, 4, 5),
    (convnext, 32, 1),
    (vit, 4, 1),
    (clip_tower, 4, 1),
]


@pytest.mark.parametrize(
    "make, patch_px, prefix", PLAIN, ids=[make.__name__ for make, _, _ in PLAIN]
)
def test_tokens_are_the_last_hidden_state(
    make: Callable[[], Any], patch_px: int, prefix: int, tmp_path: Path
) -> None:
    model = save(make(), tmp_path / "model")
    teacher = load_teacher(tmp_path / "model")
    assert teacher.name == "model" and teacher.patch_px == patch_px and not teacher.knows_text
    for size in ((3, 3), (2, 5)):
        pictures = images(size[0] * patch_px, size[1] * patch_px)
        found = teacher.features(pictures)
        pixels, _ = prepare(pictures, Preprocessing(patch_px, MEAN, STD))
        options = {"interpolate_pos_encoding": True} if make in (vit, clip_tower) else {}
        with torch.no_grad():
            expected = model(pixel_values=pixels, **options).last_hidden_state
        assert expected.shape[1] == prefix + size[0] * size[1]
        assert found.size == size and found.tokens.shape[-1] == teacher.channels
        torch.testing.assert_close(found.tokens.flatten(1, 2), expected[:, prefix:])


def test_clip_patches_attend_to_themselves_alone(tmp_path: Path) -> None:
    model = save(clip(), tmp_path)
    found = load_teacher(tmp_path).features(images(8, 16))
    pixels, _ = prepare(images(8, 16), Preprocessing(4, MEAN, STD))
    vision = model.vision_model
    with torch.no_grad():
        x = vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))
        alone = torch.full((x.shape[1], x.shape[1]), -1e9).fill_diagonal_(0.0)[None, None]
        everyone = torch.zeros_like(alone)
        x = vision.encoder.layers[0](x, everyone)
        x = vision.encoder.layers[1](x, alone)
        expected = model.visual_projection(vision.post_layernorm(x))[:, 1:]
    torch.testing.assert_close(found.tokens.flatten(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_siglip_patches_are_pooled_alone(tmp_path: Path) -> None:
    """A picture of one patch has the patch's token for its embedding."""
    model = save(siglip(), tmp_path)
    teacher = load_teacher(tmp_path)
    picture = images(4, 4)
    pixels, _ = prepare(picture, Preprocessing(4, MEAN, STD))
    with torch.no_grad():
        whole = model.vision_model(pixels, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(teacher.features(picture).tokens[:, 0, 0], whole)
    assert teacher.features(images(8, 12)).size == (2, 3)


@pytest.mark.parametrize("make", [clip, siglip])
def test_sentences_are_those_of_the_model(make: Callable[[], Any], tmp_path: Path) -> None:
    model = save(make(), tmp_path)
    save_words(tmp_path)
    teacher = load_teacher(tmp_path)
    assert teacher.knows_text
    found = teacher.text_features(["a red cup", "the handle of a cup"])
    assert found.shape == (2, teacher.channels)
    rows = [[0, 4, 5, 6, 2], [0, 9, 7, 8, 4, 6, 2]]
    for row, ids in zip(found, rows, strict=True):
        if make is siglip:
            ids = ids + [1] * (10 - len(ids))  # always padded to the full length
        with torch.no_grad():
            expected = model.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0]
        torch.testing.assert_close(row, expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_texts_are_asked_of_the_teacher_that_was_lifted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(clip(), tmp_path / "words")
    save_words(tmp_path / "words")
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    save_mesh("four.ply", Mesh(vertices, faces))
    lift = ["lift", "four.ply", "--teacher", "./words", "--views", "3", "--resolution", "24"]
    assert main([*lift, "--channels", "4", "-o", "f.safetensors"]) == 0
    ask = ["query", "f.safetensors", "--text", "a red cup", "--text", "the handle", "--json"]
    assert main([*ask, "--teacher", "words", "--resolution", "24"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    answer = load_tensors(said["output"])[0]
    found, teacher = load_features("f.safetensors"), load_teacher("words")
    wanted = found.directions_like(teacher.text_features(["a red cup", "the handle"]))
    likeness = centred(found.directions()) @ nn.functional.normalize(wanted, dim=1).T
    torch.testing.assert_close(answer["similarity"], likeness)
    assert answer["label"].shape == (4,)
    (tmp_path / "words" / "preprocessor_config.json").write_text(json.dumps({"image_mean": STD}))
    assert main([*ask, "--teacher", "words", "--overwrite"]) == 1
    assert "was lifted with another teacher than 'words' is now" in capsys.readouterr().err


def test_fingerprints_see_weights_and_preprocessing(tmp_path: Path) -> None:
    model = save(dinov2(), tmp_path)
    first = load_teacher(tmp_path).fingerprint
    assert same_teacher(first, load_teacher(tmp_path).fingerprint)
    assert not same_teacher(first, load_teacher(tmp_path, size_px=40).fingerprint)
    processor = tmp_path / "preprocessor_config.json"
    processor.write_text(json.dumps({"image_mean": MEAN, "image_std": MEAN}))
    assert not same_teacher(first, load_teacher(tmp_path).fingerprint)
    processor.write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    assert same_teacher(first, load_teacher(tmp_path).fingerprint)
    with torch.no_grad():
        model.layernorm.bias[3] += 1e-6
    model.save_pretrained(tmp_path)
    assert not same_teacher(first, load_teacher(tmp_path).fingerprint)


def test_a_processor_without_normalisation(tmp_path: Path) -> None:
    save(dinov2(), tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    nested = {"image_processor": {"do_normalize": False}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    teacher: Any = load_teacher(tmp_path)
    assert teacher.preprocessing == Preprocessing(4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


# Folders that are no model


def damage(folder: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("config.json", None, "has no config.json: it is not the folder of a Hugging Face"),
        ("config.json", b"[1]", "config.json is damaged: it is not a JSON object"),
        ("config.json", b"{\xff", "config.json is damaged"),
        ("config.json", b'{"model_type": "bert"}', "(a model of type 'bert') states no patch_size"),
        ("config.json", b'{"model_type": "vitt", "patch_size": 4}', "cannot be loaded: "),
        ("preprocessor_config.json", None, "has no preprocessor_config.json"),
        ("preprocessor_config.json", b"{}", "states no image_mean and image_std"),
        ("preprocessor_config.json", b'{"image_mean": [1], "image_std": [1]}', "three channels"),
        (
            "preprocessor_config.json",
            b'{"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}',
            "states no image_mean and image_std",
        ),
        ("model.safetensors", None, "has no .safetensors weights (pickled ones are not read)"),
        ("model.safetensors", b"garbage", "cannot be loaded: "),
        ("model.safetensors", b"", "cannot be loaded: "),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    file: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    save(dinov2(), tmp_path)
    damage(tmp_path, file, content)
    with pytest.raises(InputError) as caught:
        load_teacher(tmp_path)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_cut_short_are_refused(tmp_path: Path) -> None:
    save(dinov2(), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be loaded: "):
        load_teacher(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save(dinov2(), tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    save(dinov3(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"the model in .* (lacks|cannot be loaded)"):
        load_teacher(tmp_path)


def test_missing_weights_are_not_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save(dinov2(), tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["encoder.layer.1.mlp.fc2.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of its weights \(.*fc2.weight, ...\)"):
        load_teacher(tmp_path)


def test_absent_and_damaged_tokenizers_are_named(tmp_path: Path) -> None:
    save(clip(), tmp_path)
    teacher = load_teacher(tmp_path)
    with pytest.raises(InputError, match="has no tokenizer, so texts cannot be embedded"):
        teacher.text_features(["a cup"])
    save_words(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"the tokenizer in .* cannot be loaded, so texts cannot"):
        teacher.text_features(["a cup"])


def test_images_only_teachers_know_no_words(tmp_path: Path) -> None:
    save(dinov2(), tmp_path)
    with pytest.raises(UsageError, match="knows no words"):
        load_teacher(tmp_path).text_features(["a cup"])


# Names of the hub


@pytest.mark.parametrize(
    "name, model", [("dinov2-s", "facebook/dinov2-small"), ("no-one/no-model",) * 2]
)
def test_without_network_a_hub_name_is_refused_in_one_line(
    name: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    def nothing(*_: object, local_files_only: bool = False, **__: object) -> str:
        assert local_files_only, "the network was used although it cannot be reached"
        raise FileNotFoundError

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("geodistill.teachers.download.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.snapshot_download", nothing)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(InputError) as caught:
        load_teacher(name)
    assert str(caught.value) == (
        f"{model} is no folder here and could not be fetched from the hub (huggingface.co cannot "
        "be reached: Network is unreachable): download its files elsewhere and give their folder "
        "as the teacher"
    )


def test_a_hub_name_is_looked_up_in_the_cache_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(dinov2(), tmp_path)

    def cached(name: str, local_files_only: bool = False, **_: object) -> str:
        assert local_files_only and name == "some-one/some-model"
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    assert load_teacher("some-one/some-model").name == "some-one/some-model"


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: give the folder of a Hugging Face model"):
        load_teacher(tmp_path / "nowhere")
    with pytest.raises(InputError, match="does not exist"):
        load_teacher("./nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file: give the folder of the model"):
        load_teacher(tmp_path / "file")
