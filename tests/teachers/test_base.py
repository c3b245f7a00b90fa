"""What every image teacher does around its network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.teachers import same_teacher
from geodistill.teachers.base import PROBE_TOLERANCE, Backbone, weights_digest
from tests.teachers.stand_in import PATCH_PX, mean_colours


def ramp(height: int, width: int) -> Tensor:
    """Red grows downwards and green to the right: a pixel's colour is its place."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    image = torch.zeros(1, height, width, 3)
    image[..., 0], image[..., 1] = y[:, None], x
    return image


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (5, 70), (1, 1)])
def test_tokens_of_native_pictures_stand_where_they_say(size: tuple[int, int]) -> None:
    grid = mean_colours().features(ramp(*size))
    assert grid.size == (-(-size[0] // PATCH_PX), -(-size[1] // PATCH_PX))
    assert grid.stride_px == (8.0, 8.0) and grid.first_px == (4.0, 4.0)
    whole = grid.tokens[0, : size[0] // PATCH_PX, : size[1] // PATCH_PX]
    for i in range(whole.shape[0]):
        for j in range(whole.shape[1]):
            expected = torch.tensor([(8 * i + 4) / size[0], (8 * j + 4) / size[1], 0.0])
            torch.testing.assert_close(whole[i, j], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size, size_px", [((60, 100), 64), ((100, 60), 33), ((30, 50), 200)])
def test_tokens_of_scaled_pictures_stand_where_they_say(
    size: tuple[int, int], size_px: int
) -> None:
    grid = mean_colours(size_px=size_px).features(ramp(*size))
    scaled = [round(side * size_px / max(size)) for side in size]
    assert grid.size == tuple(-(-side // PATCH_PX) for side in scaled)
    # Interior patches only: at the borders the last pixel is repeated.
    for i in range(1, scaled[0] // PATCH_PX - 1):
        for j in range(1, scaled[1] // PATCH_PX - 1):
            y = grid.first_px[0] + i * grid.stride_px[0]
            x = grid.first_px[1] + j * grid.stride_px[1]
            expected = torch.tensor([y / size[0], x / size[1], 0.0])
            torch.testing.assert_close(grid.tokens[0, i, j], expected, rtol=0, atol=2e-3)


def test_what_is_missing_of_a_patch_is_the_last_pixel_again() -> None:
    image = torch.zeros(1, 8, 9, 3)
    image[:, :, 8] = 1.0
    assert torch.equal(mean_colours().features(image).tokens[0, 0, 1], torch.ones(3))


def test_pixels_are_normalised_and_clamped() -> None:
    how = {"mean": (0.5, 0.25, 0.0), "std": (0.5, 0.25, 2.0)}
    teacher = mean_colours(**how)
    found = teacher.features(torch.full((1, 8, 8, 3), 0.5)).tokens[0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(
        teacher.features(torch.full((1, 8, 8, 3), 1.7)).tokens,
        teacher.features(torch.ones(1, 8, 8, 3)).tokens,
    )


def test_a_batch_is_its_images_one_by_one() -> None:
    images = torch.rand(3, 20, 30, 3, generator=torch.Generator().manual_seed(0))
    together = mean_colours().features(images).tokens
    for image, tokens in zip(images, together, strict=True):
        torch.testing.assert_close(mean_colours().features(image[None]).tokens[0], tokens)


def test_features_have_no_history() -> None:
    scale = torch.ones(3, requires_grad=True)
    teacher = mean_colours()
    learning = replace(teacher, network=lambda pixels: teacher.network(pixels) * scale)
    assert not learning.features(torch.ones(1, 8, 8, 3)).tokens.requires_grad


@pytest.mark.parametrize(
    "images, kind, message",
    [
        (torch.zeros(8, 8, 3), ShapeError, r"must have shape \[B, H, W, 3\], got \[8, 8, 3\]"),
        (torch.zeros(1, 3, 8, 8), ShapeError, r"got \[1, 3, 8, 8\]"),
        (torch.zeros(1, 0, 8, 3), ShapeError, r"got \[1, 0, 8, 3\]"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), UsageError, "float in .*, got torch.uint8"),
        (torch.full((1, 2, 2, 3), torch.nan), InputError, "images holds 12 NaN"),
    ],
)
def test_bad_images_are_refused(images: Tensor, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        mean_colours().features(images)


def test_a_teacher_without_words_says_so() -> None:
    assert not mean_colours().knows_text
    with pytest.raises(UsageError, match="the teacher 'mean' knows no words: use CLIP or SigLIP"):
        mean_colours().text_features(["a cup"])


def test_words_come_with_unit_length() -> None:
    teacher = replace(mean_colours(), texts=lambda texts: torch.ones(len(texts), 3) * 5)
    torch.testing.assert_close(teacher.text_features(["a", "b"]).norm(dim=1), torch.ones(2))
    with pytest.raises(UsageError, match="there is no text"):
        teacher.text_features([])


# Fingerprints


def scaled(teacher: Backbone, factor: float, offset: float = 0.0) -> Backbone:
    return replace(teacher, network=lambda x: teacher.network(x) * factor + offset)


def test_one_teacher_has_one_fingerprint() -> None:
    a, b = mean_colours().fingerprint, mean_colours().fingerprint
    assert a == b and same_teacher(a, b)
    assert same_teacher(a, mean_colours(name="other name").fingerprint)


@pytest.mark.parametrize(
    "other",
    [
        mean_colours(weights="v"),
        mean_colours(mean=(0.1, 0.0, 0.0)),
        mean_colours(std=(1.0, 1.0, 2.0)),
        mean_colours(size_px=64),
        replace(mean_colours(), network=lambda x: mean_colours().network(x).flip(-1)),
        replace(
            mean_colours(), network=lambda x: mean_colours().network(x.mT).transpose(1, 2) ** 2
        ),
    ],
    ids=["weights", "mean", "std", "size", "answer", "another answer"],
)
def test_another_teacher_has_another(other: Backbone) -> None:
    assert not same_teacher(mean_colours().fingerprint, other.fingerprint)


def test_rounding_of_another_machine_is_forgiven() -> None:
    mine = mean_colours()
    noise = torch.randn(1, 6, 6, 3, generator=torch.Generator().manual_seed(0))
    level = mine.features(torch.rand(1, 48, 48, 3)).tokens.square().mean().sqrt()
    theirs = replace(mine, network=lambda x: mine.network(x) + 0.03 * level * noise)
    assert mine.fingerprint != theirs.fingerprint
    assert same_teacher(mine.fingerprint, theirs.fingerprint)
    far = replace(mine, network=lambda x: mine.network(x) + 10 * PROBE_TOLERANCE * level * noise)
    assert not same_teacher(mine.fingerprint, far.fingerprint)


@pytest.mark.parametrize("text", ["", "abc", "abc:1,2", "abc:a,b,c,d,e,f,g,h"])
def test_other_texts_are_no_fingerprints(text: str) -> None:
    with pytest.raises(InputError, match="is not the fingerprint of a teacher"):
        same_teacher(text, mean_colours().fingerprint)


def test_the_digest_of_weights_sees_everything() -> None:
    base = {"a": torch.zeros(4), "b": torch.ones(2, 2)}
    digests = {
        weights_digest(base),
        weights_digest({**base, "a": torch.zeros(4) + 1e-7}),
        weights_digest({**base, "a": torch.zeros(2, 2)}),
        weights_digest({**base, "a": torch.zeros(4, dtype=torch.int32)}),
        weights_digest({"c": base["a"], "b": base["b"]}),
        weights_digest(base, block=3),
    }
    assert len(digests) == 6
    assert weights_digest(base) == weights_digest(dict(reversed(base.items())))


def test_a_mirrored_teacher_sees_left_as_right() -> None:
    """A network that only knows what lies to the left of a pixel."""

    def leftward(pixels: Tensor) -> Tensor:
        steps = pixels.cumsum(dim=-1)
        return torch.nn.functional.avg_pool2d(steps, PATCH_PX).permute(0, 2, 3, 1)

    plain = replace(mean_colours(), network=leftward)
    both = replace(plain, preprocessing=replace(plain.preprocessing, mirrored=True))
    image = torch.rand(1, 16, 40, 3, generator=torch.Generator().manual_seed(0))
    turned = both.features(image.flip(2)).tokens.flip(2)
    torch.testing.assert_close(both.features(image).tokens, turned)
    assert float((plain.features(image).tokens - turned).abs().max()) > 1
    assert not same_teacher(plain.fingerprint, both.fingerprint)
