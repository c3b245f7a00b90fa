from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from geodistill import cli, log
from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.cli.arguments import Common, Option, Positional, parse, parse_duration
from geodistill.cli.conversion import default_output
from geodistill.cli.options import Architecture, Machine, Student, stem_of
from geodistill.cli.report import fidelity, pairs


@dataclass(frozen=True, kw_only=True)
class Arguments(Student):
    """Try things."""

    a: Annotated[Path, Positional("the first", metavar="A")]
    b: Annotated[Path | None, Positional("the second", metavar="B")] = None
    to: Annotated[Architecture, Option("what to make")]
    source: Annotated[Architecture | None, Option("what it was", name="from")] = None
    active: Annotated[tuple[Literal["rays", "points"], ...], Option("levels")] = ()
    sheet: Annotated[bool, Option("do not write the sheet")] = True


Main = Callable[[Callable[[Any], dict[str, Any]], Sequence[str]], tuple[int, str, str]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Run a verb `try` whose work is the given function; returns exit code, stdout and stderr."""

    def call(work: Callable[[Any], dict[str, Any]], argv: Sequence[str]) -> tuple[int, str, str]:
        module = types.ModuleType("verb_of_this_test")
        vars(module).update(Arguments=Common, run=work, report=pairs)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.VERBS, "convert", module.__name__)
        code = cli.main(["convert", *argv])
        out, err = capsys.readouterr()
        return code, out, err

    monkeypatch.delenv("GEODISTILL_DEBUG", raising=False)
    return call


def raising(error: BaseException) -> Callable[[Any], dict[str, Any]]:
    def work(arguments: Any) -> dict[str, Any]:
        raise error

    return work


# Parsing


def test_parse() -> None:
    argv = "--set x=1 --from ngp A --no-sheet --set z=3 B --to=mlp --budget 2m --active points"
    made = parse(Arguments, argv.split(), "geodistill try")
    assert made == Arguments(
        a=Path("A"),
        b=Path("B"),
        to="mlp",
        source="ngp",
        sheet=False,
        set=("x=1", "z=3"),
        budget=120.0,
        active=("points",),
    )


@pytest.mark.parametrize(
    "argv, message",
    [
        ("A --too mlp", "unknown option '--too' (did you mean '--to'?); see geodistill try --help"),
        ("A B C --to mlp", "unexpected argument 'C'; see geodistill try --help"),
        ("A", "--to is required; see geodistill try --help"),
        ("--to mlp", "A is required; see geodistill try --help"),
        ("A --to", "--to: expected one argument"),
        ("A --to mpl", "'--to' must be one of ngp, tensorf, tensorf-cp, plenoxels, mlp, composite"),
        ("A --to mlp --seed x", "'--seed' must be an integer, got 'x'"),
        ("A --to mlp --active rays,pionts", "got 'pionts' (did you mean 'points'?)"),
        ("A --to mlp --budget soon", "--budget: 'soon' is not a duration: write it as 90s, 2m or"),
        ("A --to mlp --steps 0", "--steps must be at least 1, got 0"),
        ("A --to mlp --threads 0", "--threads must be at least 1, got 0"),
        ("A --to mlp --steps 5 --budget 5s", "give one of them"),
        ("A --to mlp --see 3", "unknown option '--see' (did you mean '--seed'?)"),
    ],
)
def test_bad_usage(argv: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(Arguments, argv.split(), "geodistill try")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_config_file_is_weaker_than_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("a: X\nto: ngp\nfrom: mlp\nseed: 7\nbudget: 2m\nset: [x=1]\nactive: [rays]\n")
    made = parse(Arguments, ["--config", str(file), "--seed", "8"], "geodistill try")
    assert made == Arguments(
        a=Path("X"),
        to="ngp",
        source="mlp",
        seed=8,
        budget=120.0,
        set=("x=1",),
        active=("rays",),
        config=file,
    )
    file.write_text("too: ngp\n")
    with pytest.raises(UsageError, match=r"c\.yaml: unknown key 'too' \(did you mean 'to'\?\)"):
        parse(Arguments, ["--config", str(file)], "geodistill try")


def test_steps_given_take_the_place_of_a_budget_in_the_file(tmp_path: Path) -> None:
    from geodistill.cli import fit

    file = tmp_path / "c.yaml"
    file.write_text("dataset: X\nas: ngp\nbudget: 2m\n")
    made = parse(
        fit.Arguments, ["-o", "o", "--config", str(file), "--steps", "9"], "geodistill fit"
    )
    assert (made.steps, made.budget) == (9, None)
    file.write_text("dataset: X\nas: ngp\nsteps: 5\nbudget: 2m\n")
    with pytest.raises(UsageError, match="both say when to stop"):
        parse(fit.Arguments, ["-o", "o", "--config", str(file)], "geodistill fit")


@pytest.mark.parametrize(
    ("made", "stem"),
    [("scan.v2.ply", "scan.v2"), ("lego/field.safetensors", "lego"), ("lego.v2/", "lego.v2")],
)
def test_outputs_are_named_after_what_they_are_made_of(
    tmp_path: Path, made: str, stem: str
) -> None:
    place = tmp_path / made
    (place if made.endswith("/") else place.parent).mkdir(exist_ok=True)
    if not made.endswith("/"):
        place.touch()
    assert stem_of(place) == stem


def test_the_settings_of_a_run_make_it_again(tmp_path: Path) -> None:
    from geodistill.config import to_yaml

    kept = "A --to mlp --from ngp --budget 90s --set x=1 --set y=2"
    argv = f"{kept} -o out --overwrite --threads 2 --json"
    made = parse(Arguments, argv.split(), "geodistill try")
    settings = made.settings()
    assert settings.keys().isdisjoint({"output", "overwrite", "threads", "json", "quiet", "config"})
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings))
    assert parse(Arguments, ["--config", str(file)], "try").settings() == settings


@pytest.mark.parametrize(
    "text, seconds", [("90", 90), ("90s", 90), ("2m", 120), ("1.5h", 5400), (" 10 S", 10)]
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5s", "5d", "0", "0s", "1e3", "five"])
def test_bad_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


def test_threads_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from geodistill.cli.options import prepare

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cuda: PyTorch sees no CUDA device here"):
        prepare(Machine(device="cuda"))
    before = torch.get_num_threads()
    try:
        prepare(Machine(threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


# Results


def test_report_on_stdout(main: Main) -> None:
    def work(arguments: Any) -> dict[str, Any]:
        log.say("working")
        return {"psnr_db": 31.25, "inner": {"yes": True, "n": 12345}}

    code, out, err = main(work, [])
    assert (code, err) == (0, "working\n")
    assert out == "psnr_db  31.25\ninner\n  yes  yes\n  n    12,345\n"


def test_json_is_the_last_line_and_alone_on_stdout(main: Main) -> None:
    def work(arguments: Any) -> dict[str, Any]:
        print("a library that prints")
        return {"psnr_db": float("nan"), "output": Path("a/b"), "list": (1, float("inf"))}

    code, out, err = main(work, ["--json"])
    assert code == 0
    assert json.loads(out) == {"psnr_db": None, "output": "a/b", "list": [1, None]}
    assert "a library that prints" in err and "psnr_db" in err


def test_quiet(main: Main) -> None:
    def work(arguments: Any) -> dict[str, Any]:
        log.say("working")
        return {"n": 1}

    assert main(work, ["--quiet"]) == (0, "n  1\n", "")
    assert main(work, ["--quiet", "--json"]) == (0, '{"n": 1}\n', "")
    assert log.level() == log.NORMAL


@pytest.mark.parametrize(
    "error, code, kind, text",
    [
        (InputError("bad\n  file"), 1, "input", "bad file"),
        (ShapeError("bad shape"), 1, "input", "bad shape"),
        (UsageError("bad option"), 2, "usage", "bad option"),
        (FileNotFoundError(2, "No such file", "x.png"), 1, "input", "x.png: No such file"),
        (MemoryError(), 1, "input", "out of memory: close other"),
        (RuntimeError("[enforce fail] can't allocate memory"), 1, "input", "out of memory: close"),
        (RuntimeError("CUDA out of memory."), 1, "input", "out of memory: close other"),
        (
            KeyboardInterrupt(),
            130,
            "interrupted",
            "interrupted; the same command goes on from",
        ),
        (KeyError("x"), 70, "internal", "internal error: KeyError: 'x' (set GEODISTILL_DEBUG=1"),
    ],
)
def test_failures(main: Main, error: BaseException, code: int, kind: str, text: str) -> None:
    got, out, err = main(raising(error), [])
    assert (got, out) == (code, "")
    assert err.startswith(f"geodistill convert: {text}") and err.count("\n") == 1
    got, out, err = main(raising(error), ["--json"])
    assert got == code and err.count("\n") == 1
    last = json.loads(out.splitlines()[-1])
    assert last["kind"] == kind and last["error"].startswith(text)


def test_debug_shows_the_traceback(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODISTILL_DEBUG", "1")
    with pytest.raises(KeyError):
        main(raising(KeyError("x")), [])
    assert main(raising(InputError("bad")), [])[0] == 1


def test_only_what_can_be_resumed_says_so() -> None:
    assert cli.explain(KeyboardInterrupt(), "compare")[2] == "interrupted"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are a POSIX notion")
def test_sigterm_is_an_interrupt(main: Main) -> None:
    def work(arguments: Any) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal did not stop the work")

    before = signal.getsignal(signal.SIGTERM)
    code, _, err = main(work, [])
    assert code == 130 and err.startswith("geodistill convert: interrupted;")
    assert signal.getsignal(signal.SIGTERM) is before


def test_failed_usage_with_json(main: Main) -> None:
    code, out, err = main(raising(AssertionError()), ["--jsn", "--json"])
    assert code == 2 and err.count("\n") == 1
    assert json.loads(out) == {
        "error": "unknown option '--jsn' (did you mean '--json'?); see geodistill convert --help",
        "kind": "usage",
    }


@pytest.mark.parametrize(
    "argv, code, text",
    [
        (["convrt"], 2, "unknown verb 'convrt' (did you mean 'convert'?); known: convert, fit,"),
        (["--json"], 2, "a verb comes first, got '--json'"),
        (["fit", "data", "--as", "ngp"], 2, "--output is required"),
        (["render", "x"], 2, "say what to render with one of --data, --orbit and --cameras"),
        (["render", "x", "--orbit", "0"], 2, "--orbit must be at least 1, got 0"),
        (["compare", "a", "b", "--views", "0"], 2, "--views must be at least 1, got 0"),
    ],
)
def test_bad_command_lines(
    argv: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == code
    assert text in (err := capsys.readouterr().err) and err.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"], ["help"]])
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    assert err == "" and all(f"\n  {verb} " in out for verb in cli.VERBS)
    assert all(len(line) <= 100 for line in out.splitlines())


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_verbs(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith(f"usage: geodistill {verb}") and "--json" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import geodistill

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"geodistill {geodistill.__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ")
def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "geodistill", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_result_that_has_no_room_is_told_in_one_line() -> None:
    command = f"{sys.executable} -m geodistill info none --json > /dev/full"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr


# Verbs


@pytest.mark.parametrize(
    "source, output",
    [
        (None, "bundled_mlp"),
        ("x/lego_ngp", "lego_ngp_mlp"),
        ("x/lego_ngp/field.safetensors", "lego_ngp_mlp"),
        ("x/lego.v2.safetensors", "lego.v2_mlp"),
        ("x/lego.safetensors.run", "lego_mlp"),
        ("x/lego.v2", "lego.v2_mlp"),
    ],
)
def test_default_output(source: str | None, output: str) -> None:
    assert default_output(Path(source) if source else None, "mlp") == Path(output)


def test_architectures_are_the_ones_that_exist() -> None:
    from geodistill.geometry.fields import ARCHITECTURES

    assert typing.get_args(Architecture) == tuple(ARCHITECTURES)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "geodistill", "doctor", "--json", "--quiet"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {"python", "torch", "threads", "devices", "kernels", "openmp", "extras"} <= found.keys()
    assert "cpu" in found["devices"] and "hash_encode" in found["kernels"]
    assert found["kernels"]["sparse_convolution"]["cpu"] == "reference"
    assert len(found["openmp"]) <= 1, "a second OpenMP runtime beside the one that torch brings"
    assert cli.main(["doctor"]) == 0
    assert "hash_encode" in capsys.readouterr().out


def test_doctor_warns_of_two_openmp_runtimes() -> None:
    from geodistill.cli import doctor

    found = {"kernels": {}, "openmp": ["libgomp.so.1", "libiomp5.so"]}
    assert "more than one OpenMP runtime" in doctor.report(found)


def test_info_of_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "nowhere.safetensors", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "nowhere.safetensors does not exist"


def test_fidelity_report() -> None:
    text = fidelity({"psnr_db": 31.256, "ssim": None, "parameters": 1234567, "depth_error": 0.0125})
    assert text == (
        "PSNR                31.26 dB\n"
        "median depth error  1.250% of the scene\n"
        "parameters          1,234,567"
    )
