"""PyTorch checkpoints are read as PyTorch reads them, and nothing in them is run."""

from __future__ import annotations

import collections
import io
import itertools
import os
import pathlib
import pickle
import random
import resource
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import InputError
from geodistill.io import zip_entries
from geodistill.io.checkpoints import load_checkpoint, outline_checkpoint

LAYOUTS = ("archive", "stream")
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool),
)


def save(path: Path, value: Any, layout: str = "archive") -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=layout == "archive")
    return path


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


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.detach()
        return (
            isinstance(ours, torch.Tensor) and ours.dtype == theirs.dtype
            and ours.shape == theirs.shape and torch.equal(ours, theirs)
        )  # fmt: skip
    if isinstance(theirs, (np.ndarray, np.generic)):
        return ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[k], v) for k, v in theirs.items())
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, (torch.device, torch.dtype)):
        return ours == str(theirs)
    return type(ours) is type(theirs) and ours == theirs


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
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/geodistill_was_here",)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_is_named_and_not_called(tmp_path: Path, layout: str) -> None:
    witness = Path("/tmp/geodistill_was_here")
    witness.unlink(missing_ok=True)
    path = save(tmp_path / "a.pt", {"a": torch.ones(2), "b": Payload()}, layout)
    refused(path, f"holds a {os.system.__module__}.system, which is not read")
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
    refused(save(tmp_path / "a.pt", {"a": value}), words)


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_tensor(tmp_path: Path) -> None:
    value = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    refused(save(tmp_path / "a.pt", {"a": value}), "holds a quantised tensor, which is not read")


@pytest.mark.parametrize(
    "value, words",
    [
        (torch.ones(2), "holds a Tensor, not the dictionary"),
        ([1], "holds a list, not the dictionary"),
        ({1: 2}, "holds a dictionary without names"),
    ],
)
def test_what_is_no_dictionary(tmp_path: Path, value: Any, words: str) -> None:
    refused(save(tmp_path / "a.pt", value), words)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    refused(tmp_path / "none.pt", "does not exist")
    refused(tmp_path, "is a folder, not a file")
    (tmp_path / "empty.pt").touch()
    refused(tmp_path / "empty.pt", "is empty")
    (tmp_path / "text.pt").write_text("step: 3")
    refused(tmp_path / "text.pt", "is not a PyTorch checkpoint")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "bare.pt", "is not a PyTorch checkpoint")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("a/readme.txt", "hello")
    refused(tmp_path / "other.pt", "no PyTorch checkpoint: no data.pkl")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/constants.pkl", b"\x80\x02).")
    refused(tmp_path / "script.pt", "TorchScript")
    with zipfile.ZipFile(tmp_path / "big.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/byteorder", "big")
    refused(tmp_path / "big.pt", "big-endian")


# Bombs and lies


def test_declared_sizes_are_bounded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(1 << 26))
    refused(tmp_path / "a.pt", "would unpack to 67108868 bytes")


def test_counts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.pt", {"a": torch.ones(2)})
    monkeypatch.setattr(zip_entries, "MOST_ENTRIES", 3)
    refused(tmp_path / "a.pt", "entries, more than 3")


def test_entries_lie_apart(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.ones(8), "b": torch.zeros(8)})
    data = bytearray(path.read_bytes())
    rows = [i for i in range(len(data)) if data[i : i + 4] == b"PK\1\2"]
    places = {bytes(data[row + 46 : row + 46 + 8]): row + 42 for row in rows}
    first, second = places[b"a/data/0"], places[b"a/data/1"]
    data[second : second + 4] = data[first : first + 4]
    path.write_bytes(data)
    refused(path, "its entries overlap")


def test_a_changed_number_does_not_match_its_checksum(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.full((8,), 1.25)})
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<f", 1.25))
    data[at] ^= 1
    path.write_bytes(data)
    refused(path, "its entry 'a/data/0' does not match its checksum")
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
        refused(path, "does not match its checksum")


def archive_of(path: Path, pickled: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, data in entries.items():
            archive.writestr(f"a/data/{key.strip('_')}", data)
    return path


def test_what_is_copied_over_and_over(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\1"
    again = b"c_codecs\nencode\nh\1X\6\0\0\0latin1\x86R"
    pickled = b"\x80\x02}X\1\0\0\0a](" + text + 100 * again + b"es."
    refused(archive_of(tmp_path / "a.pt", pickled), "copies what it holds over and over")


def test_a_dictionary_that_is_copied_over_and_over(tmp_path: Path) -> None:
    entries = b"".join(b"M" + struct.pack("<H", key) + b"K\0" for key in range(10_000))
    again = b"ccollections\nOrderedDict\nh\1\x85R"
    pickled = b"\x80\x02}X\1\0\0\0a](}q\1(" + entries + b"u" + 200 * again + b"es."
    refused(archive_of(tmp_path / "a.pt", pickled), "copies what it holds over and over")


def shared_lists(levels: int) -> bytes:
    """The opcodes of a list that holds 2^levels of them, in ten bytes for each level."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value, value]
    return pickle.dumps(value, 2)[2:-1]


def text_of(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def entry_of(value: bytes) -> bytes:
    """The pickle of {"a": value}, the value given as opcodes."""
    return b"\x80\x04}" + text_of("a") + value + b"s."


@pytest.mark.parametrize("value", [shared_lists(40), b"]q\0h\0a", b"}q\0" + text_of("b") + b"h\0s"])
def test_what_holds_one_container_over_and_over(tmp_path: Path, value: bytes) -> None:
    refused(archive_of(tmp_path / "a.pt", entry_of(value)), "holds one container over and over")


def test_a_container_that_is_held_twice(tmp_path: Path) -> None:
    both = [1, {"x": (2, 3)}]
    made = {"a": both, "b": [both, both]}
    assert same(load_checkpoint(save(tmp_path / "a.pt", made)), made)


MANY = shared_lists(14)


@pytest.mark.parametrize(
    "value, words",
    [
        (MANY + text_of("b") + b"\x93", "names a class by what is no text"),
        (text_of("b") + MANY + b"\x93", "names a class by what is no text"),
        (b"(" + MANY + 4 * b"K\1" + b"tQ", "names a storage in an unknown way"),
        (b"cnumpy\ndtype\n" + MANY + b"\x85R", "holds a NumPy array of a list, which"),
        (b"cnumpy\ndtype\n" + text_of("(1,") + b"\x85R", r"holds a NumPy array of '\(1,', which"),
        (b"ctorch\ndevice\n" + MANY + b"\x85R", "a device has no name"),
        (b"ctorch\ndevice\n" + 2 * text_of("cpu") + b"\x86R", "a device has no number"),
        (b"ctorch\ndevice\n" + text_of("c" * 99) + b"\x85R", "a device has no name"),
        (b"ctorch\nSize\n" + text_of("cpu") + b"\x85R", "made of what is no list"),
    ],
)
def test_names_that_are_no_texts(tmp_path: Path, value: bytes, words: str) -> None:
    refused(archive_of(tmp_path / "a.pt", entry_of(value)), words)


LONG = b"cnumpy\ndtype\n" + text_of("S60000") + b"\x89\x88\x87Rq\1"
LONG += b"B" + struct.pack("<I", 60_000) + bytes(60_000) + b"q\2"


@pytest.mark.parametrize(
    "first, again, count",
    [
        (b"](" + 1000 * b"K\1" + b"eq\1ctorch\nSize\nq\2", b"h\2h\1\x85R", 2000),
        (b"](" + 1000 * b"K\1" + b"eq\1c__builtin__\nset\nq\2", b"h\2h\1\x85R", 2000),
        (LONG + b"cnumpy.core.multiarray\nscalar\nq\3", b"h\3h\1h\2\x86R", 20),
    ],
)
def test_copies_are_counted(tmp_path: Path, first: bytes, again: bytes, count: int) -> None:
    pickled = entry_of(b"](" + first + count * again + b"e")
    refused(archive_of(tmp_path / "a.pt", pickled), "copies what it holds over and over")


def test_what_are_no_pairs_is_not_copied(tmp_path: Path) -> None:
    long = b"](" + 2000 * b"K\1" + b"eq\1"
    pairs = b"](" + 2000 * b"h\1" + b"e"
    value = long + b"0ccollections\nOrderedDict\n" + pairs + b"\x85R"
    path = archive_of(tmp_path / "a.pt", entry_of(value))
    tracemalloc.start()
    try:
        refused(path, "a dictionary is made of what are no pairs")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20  # 32 MB where each is copied first
    finally:
        tracemalloc.stop()


def test_calls_within_calls_end(tmp_path: Path) -> None:
    names = b"ctorch._tensor\n_rebuild_from_type_v2\nq\1ctorch\nTensor\nq\2"
    calls = b"h\1" + 3000 * b"(h\1h\2" + b")" + 3000 * b"t" + b"R"
    refused(archive_of(tmp_path / "a.pt", entry_of(names + b"00" + calls)), "damaged")


def test_deep_nesting_ends(tmp_path: Path) -> None:
    deep = b"\x80\x02}X\1\0\0\0a" + b")" + b"\x85" * 300_000 + b"s."
    load_checkpoint(archive_of(tmp_path / "a.pt", deep))
    key = b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."
    refused(archive_of(tmp_path / "b.pt", key), "a dictionary has a key of type tuple")


def test_steps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.io.pickled.MOST_OPCODES", 1000)
    path = archive_of(tmp_path / "a.pt", b"\x80\x02}" + b"N0" * 1000 + b".")
    refused(path, "more than 1000 steps")


@pytest.mark.parametrize(
    "pickled, words",
    [
        (b"\x80\x02}", "truncated or damaged"),
        (b"\x80\x02.", "truncated or damaged"),
        (b"\x80\x02}h\5.", "refers to what it never stored"),
        (b"\x80\x02}NR.", "calls what is no function"),
        (b"\x80\x02}X\1\0\0\0a(N\x86s.", "opens what it never closes"),
        (b"\x80\x02}NNs.", "holds a dictionary without names"),
        (b"\x80\x02}u.", "closes what it never opened"),
        (b"\x80\x02]X\1\0\0\0aNs.", "puts an item into what is no dictionary"),
        (b"\x80\x02}Na.", "appends to what is no list"),
        (b"\x80\x02}X\1\0\0\0aNb.", "changes what has no state"),
        (b"\x80\x02\x8a\xff" + b"\1" * 255 + b".", "integer of more than 16 bytes"),
        (b"\x80\x02\x8d" + b"\xff" * 7 + b"\x0f", "truncated or damaged"),
        (b"\x80\x02}X\1\0\0\0aX\3\0\0\0abcQs.", "names a storage in an unknown way"),
        (b"\x80\x02(i__main__\nX\n.", "uses the opcode INST"),
        (b"\x80\x02P123\n.", "uses the opcode PERSID"),
        (
            b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v3\n(NK\0))NNX\6\0\0\0torch.tRs.",
            "a tensor has an unknown type",
        ),
    ],
)
def test_damaged_pickles(tmp_path: Path, pickled: bytes, words: str) -> None:
    refused(archive_of(tmp_path / "a.pt", pickled), words)


def tensor_pickle(count: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpu" + number(count) + b"tQ"
    )
    tensor = storage + number(offset) + numbers(size) + numbers(stride) + b"\x89}t"
    return b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"Rs."


@pytest.mark.parametrize(
    "count, offset, size, stride, words",
    [
        (4, 0, (4,), (1,), ""),
        (4, 1, (3,), (1,), ""),
        (4, 0, (2, 2), (1, 2), ""),
        (5, 0, (4,), (1,), "a storage has 16 bytes, 20 are declared"),
        (-4, 0, (4,), (1,), "names a storage in an unknown way"),
        (4, 1, (4,), (1,), r"needs more than the 4 numbers"),
        (4, 0, (2, 2), (4, 1), r"needs more than the 4 numbers"),
        (4, 0, (2**30,), (0,), r"needs more than the 4 numbers"),
        (4, 0, (-1,), (1,), "a negative shape"),
        (4, 0, (1,), (-1,), "a negative shape"),
        (4, 0, (2, 2), (1,), "contradicts itself on its shape"),
        (4, 0, (1,) * 33, (1,) * 33, "contradicts itself on its shape"),
        (4, 0, (2**30, 2**30, 2**30, 0), (1, 1, 1, 1), "truncated or damaged"),
    ],
)
def test_tensors_stay_within_their_storage(
    tmp_path: Path, count: int, offset: int, size: Any, stride: Any, words: str
) -> None:
    path = tmp_path / "a.pt"
    archive_of(
        path, tensor_pickle(count, offset, size, stride), _0=np.arange(4.0).astype("f4").tobytes()
    )
    if words:
        refused(path, words)
    else:
        expected = torch.arange(4.0).as_strided(size, stride, offset)
        assert torch.equal(load_checkpoint(path)["a"], expected)


def test_a_missing_storage(tmp_path: Path) -> None:
    refused(archive_of(tmp_path / "a.pt", tensor_pickle(4, 0, (4,), (1,))), "'a/data/0' is missing")


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


# Helpers


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def repack(path: Path, change: Any, method: int = zipfile.ZIP_STORED) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    path.write_bytes(packed.getvalue())
