"""Pickles of checkpoints that are damaged, lie, or would come to more than they are."""

from __future__ import annotations

import pickle
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.io.checkpoints import load_checkpoint
from tests.io.checkpoint_files import archive_of, refusal, same, save


def test_what_is_copied_over_and_over(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\1"
    again = b"c_codecs\nencode\nh\1X\6\0\0\0latin1\x86R"
    pickled = b"\x80\x02}X\1\0\0\0a](" + text + 100 * again + b"es."
    said = refusal(archive_of(tmp_path / "a.pt", pickled))
    assert "copies what it holds over and over" in said


def test_a_dictionary_that_is_copied_over_and_over(tmp_path: Path) -> None:
    entries = b"".join(b"M" + struct.pack("<H", key) + b"K\0" for key in range(10_000))
    again = b"ccollections\nOrderedDict\nh\1\x85R"
    pickled = b"\x80\x02}X\1\0\0\0a](}q\1(" + entries + b"u" + 200 * again + b"es."
    said = refusal(archive_of(tmp_path / "a.pt", pickled))
    assert "copies what it holds over and over" in said


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
    said = refusal(archive_of(tmp_path / "a.pt", entry_of(value)))
    assert "holds one container over and over" in said


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
    assert re.search(words, refusal(archive_of(tmp_path / "a.pt", entry_of(value))))


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
    said = refusal(archive_of(tmp_path / "a.pt", pickled))
    assert "copies what it holds over and over" in said


def test_what_are_no_pairs_is_not_copied(tmp_path: Path) -> None:
    long = b"](" + 2000 * b"K\1" + b"eq\1"
    pairs = b"](" + 2000 * b"h\1" + b"e"
    value = long + b"0ccollections\nOrderedDict\n" + pairs + b"\x85R"
    path = archive_of(tmp_path / "a.pt", entry_of(value))
    tracemalloc.start()
    try:
        assert "a dictionary is made of what are no pairs" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20  # 32 MB where each is copied first
    finally:
        tracemalloc.stop()


def test_calls_within_calls_end(tmp_path: Path) -> None:
    names = b"ctorch._tensor\n_rebuild_from_type_v2\nq\1ctorch\nTensor\nq\2"
    calls = b"h\1" + 3000 * b"(h\1h\2" + b")" + 3000 * b"t" + b"R"
    said = refusal(archive_of(tmp_path / "a.pt", entry_of(names + b"00" + calls)))
    assert "damaged" in said


def test_deep_nesting_ends(tmp_path: Path) -> None:
    deep = b"\x80\x02}X\1\0\0\0a" + b")" + b"\x85" * 300_000 + b"s."
    load_checkpoint(archive_of(tmp_path / "a.pt", deep))
    key = b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."
    said = refusal(archive_of(tmp_path / "b.pt", key))
    assert "a dictionary has a key of type tuple" in said


def test_steps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.io.pickled.MOST_OPCODES", 1000)
    path = archive_of(tmp_path / "a.pt", b"\x80\x02}" + b"N0" * 1000 + b".")
    assert "more than 1000 steps" in refusal(path)


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
    assert re.search(words, refusal(archive_of(tmp_path / "a.pt", pickled)))


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
        assert re.search(words, refusal(path))
    else:
        expected = torch.arange(4.0).as_strided(size, stride, offset)
        assert torch.equal(load_checkpoint(path)["a"], expected)


def test_a_missing_storage(tmp_path: Path) -> None:
    said = refusal(archive_of(tmp_path / "a.pt", tensor_pickle(4, 0, (4,), (1,))))
    assert "'a/data/0' is missing" in said
