"""Field files that are not what they should be, given to every verb that reads one."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geodistill.cli.conversion import BUNDLED
from geodistill.runs import load_tensors, save_tensors
from tests.faults.commands import Host, complaint, contents
from tests.faults.conftest import SMALL


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(place: float) -> Callable[[Path], None]:
    """Change one bit at a fraction of the file's length."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(place * (len(data) - 1))] ^= 4
        path.write_bytes(data)

    return damage


def rewrite(tensor: str = "", value: float = 0.0, **metadata: str) -> Callable[[Path], None]:
    """A whole file with its checksum, in which one value is another."""

    def change(path: Path) -> None:
        tensors, stored = load_tensors(path)
        if tensor:
            tensors[tensor].reshape(-1)[5] = value
        save_tensors(path, tensors, {**stored, **metadata})

    return change


def archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, weights=np.ones(3))


def torch_checkpoint(path: Path) -> None:
    torch.save({"weights": torch.ones(3)}, path)


def folder_without_field(path: Path) -> None:
    path.unlink()
    path.mkdir()


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "does not exist"),
    "folder": (folder_without_field, "has no field.safetensors"),
    "empty": (lambda path: path.write_bytes(b""), "is empty: make it again"),
    "truncated": (half, "is truncated or damaged"),
    "header bit": (flip(0.0005), "damaged"),
    "middle bit": (flip(0.5), "is damaged: it does not match its checksum; make it again"),
    "last bit": (flip(1.0), "is damaged: it does not match its checksum; make it again"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "looks like a Python pickle"),
    "torch": (torch_checkpoint, "looks like a PyTorch pickle checkpoint"),
    "npz": (archive, "or another zip archive"),
    "png": (lambda path: Image.new("RGB", (4, 4)).save(path, "PNG"), "looks like a PNG image"),
    "nan": (rewrite("param.values", float("nan")), "param.values holds 1 NaN or infinite values"),
    "inf": (rewrite("param.values", float("inf")), "param.values holds 1 NaN or infinite values"),
    "colours": (rewrite(color_space="foo"), "color space 'foo', known are srgb and linear"),
    "frame": (rewrite("world_from_field", float("inf")), "world_from_field holds 1 NaN"),
    "architecture": (rewrite(architecture="plenoxel"), "(did you mean 'plenoxels'?)"),
    "kind": (rewrite(kind="mesh"), "holds 'mesh', not a radiance field"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_conversion_from_it_is_refused(
    case: str, host: Host, teacher: Path, done: Path, tmp_path: Path
) -> None:
    damage, reason = CASES[case]
    source = tmp_path / "source.safetensors"
    source.write_bytes(teacher.read_bytes())
    damage(source)
    before = contents(done)
    refused = host.run(tmp_path, "convert", source, "-o", done, "--overwrite", *SMALL)
    said = complaint(refused, 1)
    assert said.startswith(f"geodistill convert: {source} ") and reason in said
    assert contents(done) == before


def test_enormous_weights_are_one_line(host: Host, tmp_path: Path) -> None:
    """Finite, and yet nothing that can be factored comes of them."""
    tensors, stored = load_tensors(BUNDLED)
    table = next(name for name in tensors if name.endswith("table"))
    tensors[table] *= 1e30
    save_tensors(tmp_path / "huge.safetensors", tensors, stored)
    rest = ("--size", "small", "--steps", "1", "-o", "out")
    said = complaint(
        host.run(tmp_path, "convert", "huge.safetensors", "--to", "tensorf-cp", *rest), 1
    )
    assert "the ngp field cannot be converted: its values are enormous" in said
    assert not (tmp_path / "out").exists()


VERBS = {
    "compare A": ("compare", "{bad}", "{good}", "-o", "old.png", "--overwrite"),
    "compare B": ("compare", "{good}", "{bad}", "-o", "old.png", "--overwrite"),
    "render": ("render", "{bad}", "--orbit", "1", "-o", "views"),
    "info": ("info", "{bad}"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("case", ["missing", "truncated", "middle bit", "pickle", "nan"])
def test_other_verbs_refuse_it(
    case: str, verb: str, host: Host, teacher: Path, tmp_path: Path
) -> None:
    damage, reason = CASES[case]
    source = tmp_path / "source.safetensors"
    source.write_bytes(teacher.read_bytes())
    damage(source)
    (tmp_path / "old.png").write_bytes(b"an older sheet")
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "0000.png").write_bytes(b"an older view")
    before = contents(tmp_path)
    argv = [part.format(bad=source, good=teacher) for part in VERBS[verb]]
    said = complaint(host.run(tmp_path, *argv), 1)
    assert said.startswith(f"geodistill {argv[0]}: {source} ") and reason in said
    assert contents(tmp_path) == before


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.sprung,)


def pickled(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap))


def torch_saved(path: Path, trap: Trap) -> None:
    torch.save({"state_dict": trap}, path)


def array_saved(path: Path, trap: Trap) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([trap], dtype=object), allow_pickle=True)


def zipped(path: Path, trap: Trap) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(trap))


def yaml_tagged(path: Path, trap: Trap) -> None:
    path.write_text(f"seed: !!python/object/apply:os.mknod ['{trap.sprung}']\n")


TRAPS = (pickled, torch_saved, array_saved, zipped, yaml_tagged)
READERS = (
    ("convert", "{trap}", "-o", "out", *SMALL),
    ("convert", "{good}", "-o", "out", "--data", "{trap}", *SMALL),
    ("convert", "{good}", "-o", "out", "--config", "{trap}", *SMALL),
    ("compare", "{trap}", "{good}"),
    ("render", "{good}", "--cameras", "{trap}", "-o", "out"),
    ("info", "{trap}"),
    ("fit", "{trap}", "--as", "ngp", "-o", "out"),
)


def test_the_traps_work(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    pickled(tmp_path / "trap", Trap(sprung))
    pickle.loads((tmp_path / "trap").read_bytes())
    assert sprung.exists()


@pytest.mark.parametrize("make", TRAPS)
@pytest.mark.parametrize("name", ["trap.safetensors", "trap.pth", "transforms.json"])
def test_nothing_unpickles(
    make: Callable[[Path, Trap], None], name: str, host: Host, teacher: Path, tmp_path: Path
) -> None:
    trap, sprung = tmp_path / name, tmp_path / "sprung"
    make(trap, Trap(sprung))
    for reader in READERS:
        argv = [part.format(trap=trap, good=teacher) for part in reader]
        complaint(host.run(tmp_path, *argv), 1)
        assert not sprung.exists() and not (tmp_path / "out").exists(), argv


def test_a_checkpoint_is_not_unpickled_either(host: Host, teacher: Path, tmp_path: Path) -> None:
    command = ("convert", teacher, "-o", "out", "--quiet", *SMALL)
    assert host.run(tmp_path, *command, strike=("finish", 1, "kill")).code == -9
    checkpoint, sprung = tmp_path / "out" / "checkpoint.safetensors", tmp_path / "sprung"
    assert checkpoint.exists()
    pickled(checkpoint, Trap(sprung))
    said = complaint(host.run(tmp_path, *command), 1)
    assert "looks like a Python pickle: delete out/checkpoint.safetensors" in said
    assert not sprung.exists()
    checkpoint.unlink()
    assert host.run(tmp_path, *command).code == 0
