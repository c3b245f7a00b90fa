"""Conversions into the files of other programs, from the command line."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from geodistill.checks import UsageError
from geodistill.cli import main
from geodistill.convert import latents
from geodistill.convert.latents import translator
from geodistill.distill.pvd.transfer import SUITED
from geodistill.geometry.fields import build_field, load_field
from geodistill.geometry.fields.decoder import DecodedField, DecoderConfig, raw_density
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.metrics import fidelity


@pytest.mark.parametrize("density", ["exp", "softplus", "relu"])
def test_raw_densities_are_what_is_decoded_to_sigma(density) -> None:
    decoder = DecoderConfig(density=density, density_shift=-3.0, density_scale=25.0)
    field = build_field("ngp", NgpConfig(levels=2, log2_size=6, max_resolution=32, decoder=decoder))
    sigma = torch.logspace(-3, 3, 50)
    latent = torch.cat([raw_density(sigma, decoder)[:, None], torch.zeros(50, 15)], 1)
    assert torch.allclose(field.sigma_of(latent), sigma, rtol=1e-3, atol=1e-5)


def test_students_with_heads_that_cannot_be_taught_are_refused() -> None:
    teacher = build_field("ngp", NgpConfig(levels=2, log2_size=6, max_resolution=32))
    some = torch.zeros(4, 16), torch.zeros(4, 3), torch.zeros(4, 3), torch.ones(4)
    for decoder in (DecoderConfig(head="sh", features=27), DecoderConfig(positions=True)):
        with pytest.raises(UsageError, match="students learn colour networks"):
            translator(teacher, *some, decoder)


def test_a_conversion_into_tensorfs_own_file(tmp_path: Path, capsys, monkeypatch) -> None:
    # A student of 20 steps is fog, which takes long to look at; colours are not judged here.
    monkeypatch.setattr(fidelity, "compare", partial(fidelity.compare, views=2, resolution=50))
    monkeypatch.setattr(latents, "HEAD_STEPS", 40)
    monkeypatch.setitem(SUITED, "tensorf", replace(SUITED["tensorf"], cache_rays=20_000))
    out = tmp_path / "small.th"
    sizes = ["resolution=32", "density_rank=4", "color_rank=8"]
    options = [part for size in sizes for part in ("--set", size)]
    code = main(["convert", "--to", "tensorf", "-o", str(out), "--steps", "20", *options])
    assert code == 0, capsys.readouterr().err
    field = load_field(out)
    assert isinstance(field, DecodedField) and field.decoder.density == "softplus"
    assert field.decoder.feature_frequencies == (1.0, 2.0) and field.decoder.features == 27
    own = load_field(Path(__file__).parents[2] / "geodistill/assets/bundled_ngp.safetensors")
    x = own.frame.apply(torch.rand(4000, 3).double() * 1.6 - 0.8)
    mine, theirs = field.density(x), own.density(x)
    # The 20 steps start from the closed form, so that what is opaque is so in both.
    solid = theirs > 30 / own.frame.s
    assert float((mine[solid] > 3 / own.frame.s).float().mean()) > 0.8
    assert main(["compare", str(out), str(out), "--views", "1", "--resolution", "16"]) == 0


def test_files_say_which_architectures_they_hold(tmp_path: Path, capsys) -> None:
    assert main(["convert", "--to", "ngp", "-o", str(tmp_path / "x.th")]) == 2
    assert ".th files hold tensorf or tensorf-cp, not ngp" in capsys.readouterr().err
    assert main(["convert", "--to", "ngp", "-o", str(tmp_path / "x.ckpt")]) == 2
    assert ".ckpt is read, and not written" in capsys.readouterr().err
    assert main(["convert", "--to", "ngp", "--set", "box=-1,-1,-1,1,1,0"]) == 2
    assert "'box' is of fields that are read from files" in capsys.readouterr().err
