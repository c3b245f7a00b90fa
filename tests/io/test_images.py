"""Pictures in and out: depths, alpha, EXR channels, films, and files that lie."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.io.images import image_info, read_image, write_mp4, write_png
from geodistill.io.posed import load_posed_images
from tests.io.layouts import SIZE, scene, transforms_table, write_nerfstudio

RNG = np.random.default_rng(2)


def png16(pixels: np.ndarray, row_filter: int = 0) -> bytes:
    """A 16-bit PNG [H, W, C] written from the format's specification; filter 0 or 2 (up) a row."""
    height, width, channels = pixels.shape
    raw = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    before = np.vstack([np.zeros_like(raw[:1]), raw[:-1]]) if row_filter else 0
    rows = np.hstack([np.full((height, 1), row_filter, np.uint8), raw - before])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows.astype(np.uint8).tobytes()))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [3, 4])
def test_png_round_trip(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.png"
    pixels = torch.from_numpy(RNG.integers(0, 256, (7, 5, channels), dtype=np.uint8))
    write_png(path, pixels)
    assert torch.equal(read_image(path), pixels.float() / 255)
    write_png(path, pixels.double() / 255)
    assert torch.equal(read_image(path), pixels.float() / 255)
    write_png(path, torch.tensor([[[-1.0, 0.5, 2.0]]]))
    assert (read_image(path)[0, 0] * 255).tolist() == [0, 128, 255]
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_png_refuses_what_is_no_picture(tmp_path: Path) -> None:
    write_png(tmp_path / "grey.png", torch.full((4, 6, 1), 0.5))
    assert read_image(tmp_path / "grey.png").shape == (4, 6, 3)
    for shape in ((3, 4, 5), (2,), (0, 4, 3), (2, 2, 2, 3)):
        with pytest.raises(ShapeError, match=r"image for x.png must have shape"):
            write_png(tmp_path / "x.png", torch.zeros(shape))
    with pytest.raises(InputError, match="holds 1 NaN or infinite values of 3"):
        write_png(
            tmp_path / "x.png",
            torch.tensor([[[0.0, torch.nan, 1.0]]]),
        )
    with pytest.raises(UsageError, match=r"must be uint8 or float, got torch.int64"):
        write_png(tmp_path / "x.png", torch.zeros(2, 2, 3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        write_png(tmp_path / "none" / "x.png", torch.zeros(2, 2, 3))
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("row_filter", [0, 2])
def test_16_bit_png_keeps_every_bit(tmp_path: Path, channels: int, row_filter: int) -> None:
    pixels = RNG.integers(0, 65536, (9, 6, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(png16(pixels, row_filter))
    grey = [0, 0, 0] if channels < 3 else [0, 1, 2]
    wanted = pixels[..., grey + ([channels - 1] if channels in (2, 4) else [])]
    assert np.array_equal(read_image(path).numpy(), wanted.astype(np.float32) / np.float32(65535))
    info = image_info(path)
    assert (info.size, info.channels, info.dtype) == ((9, 6), wanted.shape[-1], np.uint16)


def test_jpeg_palette_and_grey(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").numpy() * 255 - smooth).mean() < 3
    palette = Image.fromarray(smooth).convert("P")
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").shape == (64, 64, 4)
    Image.fromarray(smooth[..., 0]).save(tmp_path / "g.png")
    assert read_image(tmp_path / "g.png").shape == (64, 64, 3)


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.png does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder, not an image"):
        read_image(tmp_path)
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a.jpg is truncated or damaged"):
        read_image(tmp_path / "a.jpg")
    deep = png16(RNG.integers(0, 65536, (30, 30, 3), dtype=np.uint16))
    (tmp_path / "deep.png").write_bytes(deep[:900])
    with pytest.raises(InputError, match=r"deep.png is truncated or damaged"):
        read_image(tmp_path / "deep.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.bmp")
    with pytest.raises(InputError, match="is not a whole PNG, JPEG, WebP or EXR"):
        read_image(tmp_path / "a.bmp")


def test_deep_pictures_of_a_data_set_stay_float(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, scene())
    pixels = RNG.integers(0, 65536, (*SIZE, 3), dtype=np.uint16)
    (tmp_path / "images" / "view_03.png").write_bytes(png16(pixels))
    data = load_posed_images(tmp_path, "all")
    assert data.images.dtype == torch.float32 and data.color_space == "srgb"
    assert np.array_equal(data.images[3].numpy(), pixels.astype(np.float32) / np.float32(65535))
    assert data.images[2].max() <= 1
    assert torch.equal(data.composite(data.images[3], 1.0), data.images[3])


class TestExr:
    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("OpenEXR", reason="the extra [exr] is not installed")

    def test_named_channels_round_trip(self, tmp_path: Path) -> None:
        from geodistill.io.exr import read_exr, write_exr

        path = tmp_path / "a.exr"
        image = torch.randn(6, 9, 4) * 100
        channels = dict(zip("RGBA", image.unbind(-1), strict=True))
        depth = torch.full((6, 9), torch.inf)
        depth[2, 3] = 1.5
        write_exr(path, {**channels, "Z": depth, "half": torch.full((6, 9), 0.5).half()})
        back = read_exr(path)
        assert sorted(back) == sorted([*"ABGRZ", "half"])
        assert all(torch.equal(back[name], channels[name]) for name in "RGBA"), "strided channels"
        assert torch.equal(back["Z"], depth) and back["half"].dtype == torch.float32
        assert torch.equal(read_image(path), image)
        assert (image_info(path).size, image_info(path).channels) == ((6, 9), 4)
        write_exr(path, {"Y": depth.clamp_max(4)})
        assert torch.equal(read_image(path), depth.clamp_max(4)[..., None].expand(6, 9, 3))

    def test_pixels_that_are_no_numbers_are_named(self, tmp_path: Path) -> None:
        from geodistill.io import exr

        write_nerfstudio(tmp_path, scene())
        table = (tmp_path / "transforms.json").read_text().replace(".png", ".exr")
        (tmp_path / "transforms.json").write_text(table)
        for picture in (tmp_path / "images").glob("*.png"):
            channels = {name: torch.rand(*SIZE) for name in "RGBA"}
            if picture.stem == "view_03":
                channels["G"][1, 2] = torch.inf
            exr.write_exr(picture.with_suffix(".exr"), channels)
        with pytest.raises(InputError, match=r"view_03.exr holds NaN or infinite pixels"):
            load_posed_images(tmp_path, "all")

    def test_what_cannot_be_written_or_read(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from geodistill.io.exr import read_exr, write_exr

        path = tmp_path / "a.exr"
        with pytest.raises(ShapeError, match=r"channels of a.exr must all have one shape"):
            write_exr(path, {"R": torch.zeros(3, 4), "G": torch.zeros(4, 3)})
        with pytest.raises(ShapeError, match="one shape"):
            write_exr(path, {})
        with pytest.raises(InputError, match=r"channel R of a.exr holds 2 NaN"):
            write_exr(path, {"R": torch.tensor([[torch.nan, 1.0, torch.nan, torch.inf]])})
        with pytest.raises(InputError, match=r"the folder .* does not exist"):
            write_exr(tmp_path / "none" / "a.exr", {"R": torch.zeros(3, 4)})
        write_exr(path, {"Z": torch.rand(40, 50)})
        with pytest.raises(
            InputError, match=r"no R, G, B channels \(it has Z\): export the colour"
        ):
            read_image(path)
        whole = path.read_bytes()
        for size in [6, *range(0, len(whole), 53), len(whole) - 1]:
            path.write_bytes(whole[:size])
            with pytest.raises(InputError, match=r"a.exr is (truncated|not an OpenEXR)"):
                read_exr(path)
        path.unlink()
        with pytest.raises(InputError, match=r"cannot read .*a.exr"):
            read_exr(path)
        assert capfd.readouterr() == ("", "")

    def test_a_linear_data_set(self, tmp_path: Path) -> None:
        from geodistill.io.exr import write_exr

        table = transforms_table(scene())
        (tmp_path / "images").mkdir()
        image = torch.rand(*SIZE, 4)
        for frame in table["frames"]:
            frame["file_path"] = frame["file_path"].replace(".png", ".exr")
            write_exr(
                tmp_path / frame["file_path"], dict(zip("RGBA", image.unbind(-1), strict=True))
            )
        mask = np.zeros(SIZE, np.uint8)
        mask[:5] = 255
        Image.fromarray(mask).save(tmp_path / "mask.png")
        table["frames"][-1]["mask_path"] = "mask.png"
        (tmp_path / "transforms.json").write_text(json.dumps(table))
        data = load_posed_images(tmp_path, "all")
        assert data.color_space == "linear" and data.premultiplied
        assert torch.equal(data.images[1], image)
        assert torch.equal(data.images[0, :5], image[:5]) and (data.images[0, 5:] == 0).all()
        black = data.composite(data.images[1], 0.0)
        assert torch.equal(black, image[..., :3]), "premultiplied colour is not multiplied again"
        first = table["frames"][0]
        first["file_path"] = "a.png"
        write_png(tmp_path / "a.png", torch.zeros(*SIZE, 3))
        (tmp_path / "transforms.json").write_text(json.dumps(table))
        with pytest.raises(InputError, match=r"mixes EXR images \(linear\) with PNG"):
            load_posed_images(tmp_path, "all")


def test_missing_extras_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodistill.io.exr import write_exr

    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        InputError, match=r"reading a.exr needs .*OpenEXR: pip install 'geodistill\[exr\]'"
    ):
        read_image(tmp_path / "a.exr")
    with pytest.raises(InputError, match=r"writing a.exr needs .*geodistill\[exr\]"):
        write_exr(tmp_path / "a.exr", {"R": torch.zeros(2, 2)})
    with pytest.raises(InputError, match=r"writing a.mp4 needs .*geodistill\[video\]"):
        write_mp4(tmp_path / "a.mp4", [torch.zeros(2, 2, 3)])


class TestFilms:
    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("imageio_ffmpeg", reason="the extra [video] is not installed")

    def test_frames_come_back(self, tmp_path: Path) -> None:
        import imageio_ffmpeg

        ramp = torch.linspace(0, 1, 51)[None, :, None].expand(33, 51, 3)
        path = tmp_path / "a.mp4"
        write_mp4(path, (ramp * (i / 4) for i in range(5)), fps=10)
        reader = imageio_ffmpeg.read_frames(str(path))
        about = next(reader)
        frames = [np.frombuffer(f, np.uint8).reshape(34, 52, 3) for f in reader]
        assert about["size"] == (52, 34) and about["fps"] == 10 and len(frames) == 5
        expected = (ramp * 255).numpy()
        assert np.abs(frames[4][:33, :51].astype(float) - expected).mean() < 4
        assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]

    def test_bad_films(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp4"
        with pytest.raises(InputError, match="no frames to write"):
            write_mp4(path, [])
        with pytest.raises(ShapeError, match=r"must have shape \[H, W, 3\], got \[4, 4\]"):
            write_mp4(path, [torch.zeros(4, 4)])
        with pytest.raises(ShapeError, match=r"frame 1 of a.mp4 has shape \[6, 4, 3\], the first"):
            write_mp4(path, [torch.zeros(4, 4, 3), torch.zeros(6, 4, 3)])
        with pytest.raises(UsageError, match=r"frames per second, got 0"):
            write_mp4(path, [torch.zeros(4, 4, 3)], fps=0)
        with pytest.raises(InputError, match=r"the folder .* does not exist"):
            write_mp4(tmp_path / "none" / "a.mp4", [torch.zeros(16, 16, 3)])
        assert not path.exists()
