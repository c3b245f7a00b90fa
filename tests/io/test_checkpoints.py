"""PyTorch checkpoints are read as PyTorch reads them, and nothing in them is run."""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import pathlib
import pickle
import random
import re
import resource
import shlex
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import InputError
from geodistill.io import zip_entries
from geodistill.io.checkpoints import load_checkpoint, outline_checkpoint
from tests.io.checkpoint_files import refusal, repack, same, save

LAYOUTS = ("archive", "stream")
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool),
)


def content() -> dict[str, Any]:
    """What programs put into their checkpoints, all of it that is no class of theirs."""
    generator = torch.Generator().manual_seed(3)
    net = torch.nn.Linear(3, 4)
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    net(torch.rand(2, 3)).sum().backward()
    adam.step()
    adam.step()
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: np.exp(-0.1 * step))
    base = torch.rand(6, 5, generator=generator)
    return {
        "step": 29999,
        "pipeline": net.state_dict(),
        "optimizers": {"fields": adam.state_dict()},
        "schedulers": schedule.state_dict(),
        "types": [(torch.rand(3, 4, generator=generator) * 3 - 1).to(t) for t in DTYPES],
        "views": (base, base.T, base[2:4, 1:], base[::2], base[3, 2]),
        "empty": torch.zeros(0),
        "shapes": [torch.zeros(3, 0, 2), torch.tensor(2.5), torch.tensor(7)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "size": torch.Size([1, 2]),
        "device": torch.device("cuda", 1),
        "dtype": torch.float16,
        "stats": {
            "loss": [np.float64(0.25), np.float32(1.5), np.int64(-3), np.bool_(True)],
            "mask": np.packbits(np.arange(40) % 3 == 0),
            "table": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "big": np.arange(3, dtype=">i4"),
            "text": np.str_("psnr"),
            "none": np.zeros((0, 3), np.float32),
        },
        "containers": (
            collections.OrderedDict(a=1, b=[None, True, 2.5, -(1 << 40), "é", b"\0\xff"]),
            collections.defaultdict(list, {1: [2]}),
            collections.Counter("abca"),
            {3, "four"},
        ),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_is_what_was_saved(tmp_path: Path, layout: str) -> None:
    made = content()
    path = save(tmp_path / "a.pt", made, layout)
    assert same(load_checkpoint(path), made)
    assert same(outline_checkpoint(path), made)


def test_the_comparison_sees_differences() -> None:
    assert not same(torch.ones(2), torch.zeros(2))
    assert not same(torch.ones(2), torch.ones(2).half())
    assert not same({"a": [1]}, {"a": [2]})
    assert not same(np.float32(1), np.float64(1))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    made = {"a": torch.arange(5), "b": "x" * 300, "c": [1, 2, 3], "d": b"\1\2", "n": np.float32(2)}
    torch.save(made, tmp_path / "a.pt", pickle_protocol=protocol)
    assert same(load_checkpoint(tmp_path / "a.pt"), made)


def test_tensors_may_be_written_to_and_the_file_stays(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.ones(4)})
    before = path.read_bytes()
    load_checkpoint(path)["a"].zero_()
    assert path.read_bytes() == before


def test_views_share_their_storage(tmp_path: Path) -> None:
    base = torch.rand(6)
    for layout in LAYOUTS:
        for pad in range(8):  # which moves the storage against the multiples of its numbers' bytes
            made = {"a": base, "b": base[1:3], "pad": "x" * pad}
            path = save(tmp_path / "a.pt", made, layout)
            if layout == "archive":
                repack(path, lambda name, data: data)
            found = load_checkpoint(path)
            assert torch.equal(found["a"][1:3], found["b"])
            found["a"][1] = 9
            assert found["b"][0] == 9


def test_a_packed_archive(tmp_path: Path) -> None:
    made = {"a": torch.arange(100.0)}
    repack(save(tmp_path / "a.pt", made), lambda name, data: data, zipfile.ZIP_DEFLATED)
    assert same(load_checkpoint(tmp_path / "a.pt"), made)


def test_an_archive_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        save(tmp_path / "a.pt", {"a": torch.arange(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_checkpoint(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2]


# Refusals


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.system, (f"touch {shlex.quote(str(self.witness))}",)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_is_named_and_not_called(tmp_path: Path, layout: str) -> None:
    witness = tmp_path / "was_here"
    path = save(tmp_path / "a.pt", {"a": torch.ones(2), "b": Payload(witness)}, layout)
    assert f"holds a {os.system.__module__}.system, which is not read" in refusal(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "value, words",
    [
        (pathlib.PurePosixPath("a"), "holds a pathlib"),
        (torch.eye(3).to_sparse(), "holds a sparse tensor"),
        (torch.ones(2, dtype=torch.complex64), "holds a torch.ComplexFloatStorage"),
        (torch.ones(1).expand(5), r"a tensor of shape \[5\] needs more than the 1 numbers"),
        (torch.nn.Linear(2, 2), "holds a torch.nn.modules.linear.Linear"),
        (torch.empty(3, device="meta"), "holds a tensor without values"),
        (np.array([{}], dtype=object), "holds a NumPy array of 'O"),
        (np.zeros(2, dtype=[("a", "f4")]), "holds a NumPy array of 'V"),
    ],
)
def test_what_is_not_read(tmp_path: Path, value: Any, words: str) -> None:
    assert re.search(words, refusal(save(tmp_path / "a.pt", {"a": value})))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_wanted_may_be_of_any_class(tmp_path: Path, layout: str) -> None:
    witness = tmp_path / "was_here"
    other = {"b": Payload(witness), "c": np.array([{}], dtype=object), "d": argparse.Namespace(e=1)}
    path = save(tmp_path / "a.pt", {"a": torch.ones(2), **other}, layout)
    assert same(load_checkpoint(path, ("a",)), {"a": torch.ones(2)})
    keyed = save(tmp_path / "b.pt", {"a": torch.ones(2), "b": {pathlib.PurePosixPath("c"): 1}})
    assert same(load_checkpoint(keyed, ("a",)), {"a": torch.ones(2)})
    assert "holds a pathlib" in refusal(keyed)
    with pytest.raises(InputError, match=r"holds a argparse\.Namespace, which is not read"):
        load_checkpoint(path, ("a", "d"))
    assert not witness.exists()


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_tensor(tmp_path: Path) -> None:
    value = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    said = refusal(save(tmp_path / "a.pt", {"a": value}))
    assert "holds a quantised tensor, which is not read" in said


@pytest.mark.parametrize(
    "value, words",
    [
        (torch.ones(2), "holds a Tensor, not the dictionary"),
        ([1], "holds a list, not the dictionary"),
        ({1: 2}, "holds a dictionary without names"),
    ],
)
def test_what_is_no_dictionary(tmp_path: Path, value: Any, words: str) -> None:
    assert re.search(words, refusal(save(tmp_path / "a.pt", value)))


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.pt")
    assert "is a folder, not a file" in refusal(tmp_path)
    (tmp_path / "empty.pt").touch()
    assert "is empty" in refusal(tmp_path / "empty.pt")
    (tmp_path / "text.pt").write_text("step: 3")
    assert "is not a PyTorch checkpoint" in refusal(tmp_path / "text.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"a": 1}))
    assert "is not a PyTorch checkpoint" in refusal(tmp_path / "bare.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("a/readme.txt", "hello")
    assert "no PyTorch checkpoint: no data.pkl" in refusal(tmp_path / "other.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/constants.pkl", b"\x80\x02).")
    assert "TorchScript" in refusal(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "big.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/byteorder", "big")
    assert "big-endian" in refusal(tmp_path / "big.pt")


# Bombs and lies


def test_declared_sizes_are_bounded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(1 << 26))
    assert "would unpack to 67108868 bytes" in refusal(tmp_path / "a.pt")


def test_counts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.pt", {"a": torch.ones(2)})
    monkeypatch.setattr(zip_entries, "MOST_ENTRIES", 3)
    assert "entries, more than 3" in refusal(tmp_path / "a.pt")


def test_entries_lie_apart(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.ones(8), "b": torch.zeros(8)})
    data = bytearray(path.read_bytes())
    rows = [i for i in range(len(data)) if data[i : i + 4] == b"PK\1\2"]
    places = {bytes(data[row + 46 : row + 46 + 8]): row + 42 for row in rows}
    first, second = places[b"a/data/0"], places[b"a/data/1"]
    data[second : second + 4] = data[first : first + 4]
    path.write_bytes(data)
    assert "its entries overlap" in refusal(path)


def test_a_changed_number_does_not_match_its_checksum(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.full((8,), 1.25)})
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<f", 1.25))
    data[at] ^= 1
    path.write_bytes(data)
    assert "its entry 'a/data/0' does not match its checksum" in refusal(path)
    assert outline_checkpoint(path)["a"].shape == (8,)


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": {"x": [torch.ones(8)]}, "b": (torch.full((8,), 1.25),)})
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<f", 1.25))] ^= 1
    path.write_bytes(data)
    assert same(load_checkpoint(path, ("a", "c")), {"a": {"x": [torch.ones(8)]}})
    with pytest.raises(InputError, match="does not match its checksum"):
        load_checkpoint(path, ("b",))


def test_views_and_half_of_a_storage_are_proved(tmp_path: Path) -> None:
    base = torch.full((8,), 1.25)
    for view, pad in itertools.product((base[4:], base.view(2, 4).T), range(8)):
        path = save(tmp_path / "a.pt", {"a": torch.nn.Parameter(view), "pad": "x" * pad})
        repack(path, lambda name, data: data)
        data = bytearray(path.read_bytes())
        data[data.index(struct.pack("<f", 1.25))] ^= 1
        path.write_bytes(data)
        assert "does not match its checksum" in refusal(path)


# Mutations


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(60))
def test_mutations(tmp_path: Path, layout: str, seed: int) -> None:
    """One line, or what could have been saved: never another error, a crash or much memory."""
    rng = random.Random(seed)
    made = {"a": torch.arange(12.0).reshape(3, 4), "n": [np.float32(1)], "m": np.arange(4), "s": 5}
    path = save(tmp_path / "a.pt", made, layout)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.choice((1, 7, len(data)))]
            case 2:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 9))))
            case 3:
                data[at : at + 4] = rng.choice((b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4)))
        if not data:
            break
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = load_checkpoint(path)
    except InputError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))
    else:
        assert all(isinstance(key, str) for key in found)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
