"""MessagePack: the specification's own bytes, what is written read back, and damaged files."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from geodistill.checks import InputError
from geodistill.io.fields.msgpack import DEEPEST, pack, unpack


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("00", 0),
        ("7f", 127),
        ("ff", -1),
        ("e0", -32),
        ("c0", None),
        ("c2", False),
        ("c3", True),
        ("cc ff", 255),
        ("cd 0100", 256),
        ("ce 00010000", 65536),
        ("cf 0000000100000000", 2**32),
        ("d0 80", -128),
        ("d1 8000", -32768),
        ("d2 80000000", -(2**31)),
        ("d3 8000000000000000", -(2**63)),
        ("ca 3fc00000", 1.5),
        ("cb bff8000000000000", -1.5),
        ("a3 616263", "abc"),
        ("d9 02 c3a9", "é"),
        ("da 0001 61", "a"),
        ("db 00000001 61", "a"),
        ("93 01 02 a161", [1, 2, "a"]),
        ("dc 0001 c0", [None]),
        ("dd 00000001 c0", [None]),
        ("82 a161 01 a162 90", {"a": 1, "b": []}),
        ("de 0001 a161 c3", {"a": True}),
        ("df 00000001 a161 c3", {"a": True}),
        ("c4 02 0102", b"\1\2"),
        ("c5 0001 01", b"\1"),
        ("c6 00000001 01", b"\1"),
    ],
)
def test_the_specification(content: str, value: Any) -> None:
    found = unpack(bytes.fromhex(content), "it")
    assert found == value and (isinstance(value, bytes) or type(found) is type(value))


def test_what_is_written_is_read_back() -> None:
    value = {
        "numbers": [0, -1, 127, 128, -33, 2**40, -(2**40), 0.1, 1e300],
        "texts": ["", "x" * 31, "y" * 32, "z" * 300, "w" * 70000],
        "bytes": [b"", b"a" * 256, b"b" * 70000],
        "lists": [[None] * 15, [True] * 16, [False] * 70000],
        "deep": {str(i): {"a": {}} for i in range(20)},
    }
    assert unpack(b"".join(pack(value)), "it") == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "truncated"),
        ("c6 ffffffff 00", "truncated"),
        ("db 7fffffff 61", "truncated"),
        ("dd ffffffff c0", "4294967295 entries"),
        ("df 00000004 a161 c0", "4 entries"),
        ("93 01 02", "entries"),
        ("81 01 02", "key"),
        ("81 90 02", "key|nested"),
        ("a2 ffff", "UTF-8"),
        ("c1", "no known type"),
        ("d4 01 02", "no known type"),
        ("00 00", "behind"),
        ("91" * (DEEPEST + 2) + "c0", "nested"),
        ("cb 00", "truncated"),
    ],
)
def test_refusals(content: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        unpack(bytes.fromhex(content), "the file")
    assert str(caught.value).startswith("the file") and "\n" not in str(caught.value)


def test_many_tiny_values_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty maps are a byte each in the file and 64 in memory."""
    monkeypatch.setattr("geodistill.io.fields.msgpack.MOST_VALUES", 20_000)
    content = b"\xdd" + (1_000_000).to_bytes(4, "big") + b"\x80" * 1_000_000
    tracemalloc.start()
    with pytest.raises(InputError, match="more than"):
        unpack(content, "it")
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_bytes_are_not_copied() -> None:
    content = b"\xc6\x00\x10\x00\x00" + bytes(1 << 20)
    tracemalloc.start()
    assert len(unpack(content, "it")) == 1 << 20
    assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()
