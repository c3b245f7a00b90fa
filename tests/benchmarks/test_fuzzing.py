"""The fuzz benchmark: damage is the same each time, and what a reader must not do is seen."""

from __future__ import annotations

import gzip
import io
import json
import signal
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geodistill.checks import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    import fuzz
    from fuzzing import damage, pool, seeds, worker
    from fuzzing.readers import Reader
finally:
    del sys.path[0]


def test_damage_is_the_same_for_the_same_number() -> None:
    files = {"a.obj": seeds.OBJ, "a.mtl": seeds.MTL}
    found = [damage.damaged(files, "a.obj", [1, number]) for number in range(60)]
    assert found == [damage.damaged(files, "a.obj", [1, number]) for number in range(60)]
    assert len({tuple(one.values()) for one in found}) > 50
    assert any(one["a.mtl"] != seeds.MTL for one in found)
    assert all((one["a.mtl"] == seeds.MTL) or (one["a.obj"] == seeds.OBJ) for one in found)


def drawn(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(number) for number in range(count)]


def test_damage_within_archives_leaves_them_whole() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "1 2 3\n" * 40, zipfile.ZIP_DEFLATED)
        archive.writestr("b.bin", bytes(5))
    for draw in drawn(30):
        found = damage._in_zip(out.getvalue(), draw)
        assert found is not None
        with zipfile.ZipFile(io.BytesIO(found)) as archive:
            assert archive.testzip() is None and archive.namelist() == ["a.txt", "b.bin"]
        packed = damage._in_gzip(gzip.compress(b"1 2 3" * 9), draw)
        assert packed is not None and isinstance(gzip.decompress(packed), bytes)
    for found in (damage._in_zip(b"plain", drawn(1)[0]), damage._in_gzip(b"plain", drawn(1)[0])):
        assert found is None


def test_damage_within_a_glb_keeps_its_lengths() -> None:
    data = seeds._scene().bytes()
    for draw in drawn(20):
        found = damage._in_glb(data, draw)
        assert found is not None
        length, text = struct.unpack_from("<2I", found, 8)
        assert length == len(found) and text % 4 == 0 and data.endswith(found[20 + text :])


def test_values_of_json_are_exchanged_or_go() -> None:
    text = json.dumps({"a": [1, 2, {"b": "c"}]}).encode()
    found = {damage._json(text, draw) for draw in drawn(60)}
    assert len(found) > 20 and text not in found
    assert b'{"a": [1, 2, {}]}' in found and all(json.loads(one) is not None for one in found)


def returns(value: Any) -> Any:
    return lambda path: value


def raises(error: BaseException) -> Any:
    def read(path: Path) -> None:
        raise error

    return read


def names_the_file(path: Path) -> None:
    raise InputError(f"{path} is damaged")


def warns(path: Path) -> None:
    warnings.warn("careful", stacklevel=1)


def check(value: Any) -> None:
    assert value == "whole", "not whole"


@pytest.mark.parametrize(
    ("read", "outcome", "why"),
    [
        (returns("whole"), "read", ""),
        (names_the_file, "refused", "/a.x is damaged"),
        (returns("half"), "failed", "not whole"),
        (raises(InputError("damaged")), "failed", "does not name the file"),
        (raises(ValueError("a\nb")), "failed", "ValueError at"),
        (raises(MemoryError()), "failed", "MemoryError at"),
        (raises(RecursionError()), "failed", "RecursionError at"),
        (warns, "failed", "UserWarning at"),
    ],
)
def test_outcomes(read: Any, outcome: str, why: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Reader, "function", lambda self: read)
    reader = Reader("", check)
    found = worker.attempt(reader, {"a.x": b"", "b": b""}, tmp_path / "scratch")
    assert found[0] == outcome and why in found[1] and "\n" not in found[1]


def test_an_error_is_one_printable_line_of_some_length(tmp_path: Path) -> None:
    for text in ("a\nb", "a\x1b[31m", "a\x85b"):
        assert worker._refusal(f"{tmp_path}/a {text}", tmp_path)[0] == "failed"
    assert worker._refusal(f"{tmp_path}/a {'x' * 2000}", tmp_path)[0] == "failed"
    assert worker._refusal(f"{tmp_path}/a is bad", tmp_path)[0] == "refused"


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    seeds.write_seeds("splats.ply", tmp_path / "seeds")
    return tmp_path / "seeds"


def test_a_process_that_hangs_or_dies_is_told(ply: Path, tmp_path: Path) -> None:
    for stop, why in ((signal.SIGSTOP, "no end within 0.2 s"), (signal.SIGKILL, "dead")):
        one = pool.Worker("splats.ply", ply, tmp_path / "x", pool.Limits(seconds=0.2))
        one.process.send_signal(stop)
        if stop == signal.SIGKILL:
            one.process.wait()
        found = one.ask(1)
        assert (found.number, found.kind) == (1, "failed") and why in found.why
        assert not one.alive()


def test_memory_is_limited() -> None:
    code = (
        "import sys, numpy as np; sys.path.insert(0, 'benchmarks'); from fuzzing import worker;"
        "worker.limit_memory(200); np.ones(10 << 20, np.uint8);"
        "print('few'); np.ones(300 << 20, np.uint8)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout == "few\n" and "MemoryError" in done.stderr


def test_a_seed_that_is_not_read_is_told(ply: Path) -> None:
    (ply / "splats.ply" / "03" / "a.ply").write_bytes(b"ply\n")
    with pytest.raises(InputError, match=r"no reader of splats\.ply: 03, a seed"):
        [*pool.outcomes("splats.ply", ply, range(2), 1, pool.Limits())]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--only", "splats.splat,mesh.off", "--count", "12", "--jobs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("splats.splat: 12 mutations, ") and " 0 failed" in lines[1]
    assert lines[2] == "none failed"
    assert fuzz.main(["--one", "mesh.off:3"]) == 0
    assert fuzz.main(["--only", "splats.x", "--count", "1"]) == 2


def test_a_kind_without_seeds_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz, "KINDS", {})
    monkeypatch.setattr(fuzz, "endings", lambda: {"field.x"})
    assert fuzz.main(["--count", "1"]) == 1
    assert "field.x: no seeds" in capsys.readouterr().out


def test_a_failure_is_told_with_what_reproduces_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> list[pool.Outcome]:
        return [pool.Outcome(7, "failed", "ValueError at x.py:3: bad"), pool.Outcome(8, "read", "")]

    monkeypatch.setattr(fuzz, "outcomes", broken)
    assert fuzz.main(["--only", "mesh.off", "--count", "2"]) == 1
    out = capsys.readouterr().out
    assert "1 read, 1 failed" in out and "1 of 2 failed" in out
    assert "FAILED --one mesh.off:7: ValueError at x.py:3: bad" in out
