"""Lines of numbers in text files, parsed as arrays."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geodistill.checks import InputError

_SPACE = 32  # every byte up to the blank separates words


@dataclass(frozen=True, eq=False)
class NumberLines:
    """The words of a text and the lines they stand in; lines without words do not count.

    Attributes:
        text: the text.
        starts: int64 [T] where each word begins.
        words: int64 [L] words of each line.
        numbers: int64 [L] each line's number in the file, from 1.
    """

    text: bytes
    starts: np.ndarray
    words: np.ndarray
    numbers: np.ndarray

    def values(self, lines: int, where: str) -> np.ndarray:
        """float64: the words of the first `lines` lines, one after the other.

        Raises InputError beginning with `where`, with the line and the word that is no number.
        """
        count = int(self.words[:lines].sum())
        if count == 0:
            return np.empty(0)
        end = int(self.starts[count]) if count < len(self.starts) else len(self.text)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # releases of NumPy either warn or raise
                found = np.fromstring(self.text[:end], sep=" ")
        except (ValueError, DeprecationWarning):
            found = np.empty(0)
        if len(found) != count:
            raise self._not_a_number(count, where)
        return found

    def line_of(self, word: int) -> int:
        """The number of the line in which a word stands."""
        return int(self.numbers[np.searchsorted(self.words.cumsum(), word, side="right")])

    def _not_a_number(self, count: int, where: str) -> InputError:
        for index in range(count):
            start = self.starts[index]
            word = self.text[start : start + 64].split(maxsplit=1)[0]
            try:
                float(word.replace(b"_", b"?"))
            except ValueError:
                line, shown = self.line_of(index), repr(word[:40])[1:]
                return InputError(f"{where}, line {line}: {shown} is not a number")
        return InputError(f"{where} holds text that is not a number")


def number_lines(text: bytes, first: int = 1) -> NumberLines:
    """Find words and lines; `first` is the number of the text's first line.

    Lines may end with LF, CR LF or CR.
    """
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    letters = np.frombuffer(text, np.uint8)
    inside = letters > _SPACE
    before = np.concatenate([[False], inside[:-1]])
    starts = np.flatnonzero(inside & ~before)
    ends = np.append(np.flatnonzero(letters == ord("\n")), len(text))
    words = np.diff(np.searchsorted(starts, ends), prepend=0)
    full = np.flatnonzero(words)
    return NumberLines(text, starts, words[full], full + first)


def format_lines(columns: Sequence[np.ndarray]) -> bytes:
    """Columns [N] as lines of words that read back as the same values."""
    return b"\n".join(map(b" ".join, zip(*map(_words, columns), strict=True))) + b"\n"


def _words(column: np.ndarray) -> list[bytes]:
    if column.dtype == np.float32:
        return [b"%.9g" % value for value in column.tolist()]
    return [repr(value).encode() for value in column.tolist()]
