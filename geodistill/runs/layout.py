"""What stands where in a run folder, and the moves that turn one state of it into the next.

    config.yaml     what was asked; written last when a run begins, so its presence marks a run
    env.json        the command, digests of its inputs, versions, platform and threads
    metrics.jsonl   one JSON object per logged step
    checkpoint.safetensors   the newest resumable state; gone once the run is finished
    DONE            JSON: the outputs and the files of the run; its presence marks a finished run

A folder can be moved or copied: nothing that is read back names its own place. A finished run that
is being overwritten stays as it is; the new one grows in `.work` inside it and takes its place at
the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from geodistill.checks import InputError, UsageError
from geodistill.config import differing_keys, read_yaml, to_yaml
from geodistill.runs.environment import environment
from geodistill.runs.files import atomic_write, remove_leftovers

CONFIG, ENV, METRICS = "config.yaml", "env.json", "metrics.jsonl"
CHECKPOINT, DONE = "checkpoint.safetensors", "DONE"
WORK, LOCK = ".work", ".lock"
BESIDE = ".run"
"""What the run folder of a file adds to its name."""
RESULTS = ("field.safetensors", "splats.ply", "mesh.glb", "detector.safetensors")
"""What results are called inside of run folders."""
OTHER_FORMATS = (
    *(".pth", ".pt", ".th", ".ckpt", ".npz", ".npy", ".ply", ".splat", ".spz", ".ingp"),
    *(".msgpack", ".onnx", ".png", ".json", ".yaml", ".safetensors"),
    *(".glb", ".gltf", ".obj", ".off", ".stl", ".ksplat", ".sog", ".yml", ".html", ".mp4"),
)


def output_paths(
    out: Path | str,
    inside: str = "field.safetensors",
    endings: Collection[str] = (".safetensors",),
) -> tuple[Path, Path]:
    """The run folder and the result's file that an `-o` stands for.

    A name with one of the `endings` is the file's, with its run folder beside it, named the same
    with `.run` behind; any other is the run folder's, with the file `inside` it.

    Raises:
        UsageError: the name ends like a file of another format.
    """
    out = Path(out)
    ending = next((e for e in sorted(endings, key=len)[::-1] if out.name.lower().endswith(e)), "")
    if ending:
        return out.with_name(f"{out.name}{BESIDE}"), out
    if out.suffix.lower() in OTHER_FORMATS:
        known = ", ".join(f"NAME{e}" for e in endings)
        raise UsageError(f"-o {out}: name a folder or {known}, {out.suffix} is not written")
    return out, out / inside


def result_file(path: Path | str) -> Path:
    """The file that a path means: of a finished run's folder its result, in it or beside it."""
    path = Path(path)
    if not (path / DONE).is_file():
        return path
    places = [path / name for name in RESULTS]
    if path.name.endswith(BESIDE):
        places.append(path.with_name(path.name.removesuffix(BESIDE)))
    return next((place for place in places if place.is_file()), path)


def is_unfinished(folder: Path) -> bool:
    """Whether a folder is that of a run that was interrupted."""
    return (folder / CONFIG).is_file() and not (folder / DONE).is_file()


def result(folder: Path | str) -> dict[str, Any] | None:
    """The outputs of a finished run folder; None if it is not finished or not a run."""
    return _done(Path(folder)).get("outputs")


def expect_usable(folder: Path, overwrite: bool) -> None:
    """Raise UsageError, before anything is touched, for a folder that a run may not use."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a run folder: choose another -o")
    if (folder / DONE).exists():
        if not overwrite:
            raise UsageError(
                f"{folder} exists and is finished: choose another -o or pass --overwrite"
            )
    elif folder.exists() and not (folder / CONFIG).exists():
        foreign = sorted(p.name for p in folder.iterdir() if p.name not in (LOCK, ENV))
        foreign = [name for name in foreign if not name.startswith((f".{ENV}", f".{CONFIG}"))]
        if foreign:
            raise UsageError(
                f"{folder} is not a run folder (it holds {foreign[0]}): choose another -o"
            )


def holds_same(
    folder: Path,
    command: str,
    config: dict[str, Any],
    inputs: Mapping[str, str],
    overwrite: bool,
) -> bool:
    """Whether `folder` holds an interrupted run of this command and config, on the same inputs.

    An interrupted run of anything else is a UsageError that says what differs, unless `overwrite`
    or it has no checkpoint to lose.
    """
    if not (folder / CONFIG).exists():
        return False
    env = _read_json(folder / ENV)
    before, known = env.get("command"), env.get("inputs", {})
    try:
        settings = read_yaml(folder / CONFIG)
    except InputError as error:
        if overwrite:
            return False
        raise InputError(f"{error}; --overwrite begins the run anew") from None
    differing = differing_keys(settings, config)
    differing += [f"contents of {name}" for name in inputs if known.get(name) != inputs[name]]
    if before == command and not differing:
        return True
    if overwrite or not (folder / CHECKPOINT).exists():
        return False
    what = f"with other {', '.join(differing)}" if before == command else f"of {before!r}"
    raise UsageError(
        f"{folder} holds an interrupted run {what}: run it as before, choose another -o or "
        "pass --overwrite"
    )


def begin(folder: Path, command: str, config: dict[str, Any], inputs: Mapping[str, str]) -> None:
    """Make `folder` a new run, dropping an interrupted one."""
    if (folder / CONFIG).exists():  # and what that has put out so far
        for path in [*folder.glob("*.safetensors"), *folder.glob("tensorboard")]:
            _remove(path)
    for name in (CHECKPOINT, METRICS):
        (folder / name).unlink(missing_ok=True)
    atomic_write(folder / ENV, _json({"command": command, "inputs": inputs, **environment()}))
    atomic_write(folder / CONFIG, to_yaml(config).encode())


def abandon(folder: Path, work: Path) -> None:
    """Take back a run that came to nothing; one that has more than its beginning stays."""
    if any(path.name not in (CONFIG, ENV, LOCK) for path in work.iterdir()):
        return
    for path in (work / CONFIG, work / ENV, folder / LOCK):
        path.unlink(missing_ok=True)
    for path in (work, folder):
        with contextlib.suppress(OSError):
            path.rmdir()


def conclude(work: Path, outputs: Mapping[str, Any], copied: Collection[str] = ()) -> None:
    """Mark the run in `work` as finished; the files that were copied elsewhere go."""
    skipped = {LOCK, DONE, CHECKPOINT, WORK, *copied}
    files = sorted(path.name for path in work.iterdir() if path.name not in skipped)
    atomic_write(work / DONE, _json({"outputs": outputs, "files": files}))
    for name in (CHECKPOINT, *copied):
        (work / name).unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Put a finished run that grew in `.work` into its place. Safe to repeat after a kill."""
    work = folder / WORK
    if not (work / DONE).exists():
        return
    remove_leftovers(work)
    (work / CHECKPOINT).unlink(missing_ok=True)
    stale = set(_done(folder).get("files", ())) - set(_done(work).get("files", ()))
    for path in folder.iterdir():
        if path.name in stale - {WORK, LOCK}:
            _remove(path)
    # DONE moves last: until then this function finds it in .work and goes on.
    for path in sorted(work.iterdir(), key=lambda path: path.name == DONE):
        place = folder / path.name
        if path.is_dir() or place.is_dir():  # a file alone takes a file's place
            _remove(place)
        os.replace(path, place)
    work.rmdir()


def jsonable(value: Any) -> Any:
    """Plain JSON values: NaN and infinity become None, paths text, arrays and tensors lists."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return (json.dumps(jsonable(value), indent=1) + "\n").encode()


def _done(folder: Path) -> dict[str, Any]:
    return _read_json(folder / DONE)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
