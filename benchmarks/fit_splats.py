"""Splats fitted to posed images, by both strategies, beside a field in the same time.

    python benchmarks/scenes.py                      # once: the three scenes
    python benchmarks/fit_splats.py [--scenes NAME ...] [--budget 300] [--only ngp|default|mcmc]

Each fit is the command line's, with its defaults, for the same seconds of wall time on otherwise
idle cores. Prints a table of the PSNR to the test views, what the result is made of and its bytes,
and appends a line per fit to ``benchmarks/results/fit_splats.jsonl``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converting.machine import machine

from assets import cache_root
from geodistill.cli import main as geodistill

SCENES = ("dragon", "controller", "robot")
WAYS = {
    "ngp": ("--as", "ngp"),
    "default": ("--as", "splats", "--strategy", "default"),
    "mcmc": ("--as", "splats", "--strategy", "mcmc"),
}
RECORDS = Path(__file__).resolve().parent / "results" / "fit_splats.jsonl"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs="+", default=SCENES, help="below the cache, or folders")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of each fit")
    parser.add_argument("--only", choices=WAYS, help="one way instead of all")
    parser.add_argument("--records", type=Path, default=RECORDS)
    arguments = parser.parse_args(argv)
    print("| scene | fit | PSNR to truth, dB | splats | parameters | bytes | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for scene in arguments.scenes:
        for way in [arguments.only] if arguments.only else WAYS:
            record = fitted(scene, way, arguments.budget)
            with arguments.records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            print(row(record), flush=True)


def fitted(scene: str, way: str, budget_s: float) -> dict[str, Any]:
    """One fit and where it was made; ends the program if the command fails."""
    data = Path(scene) if Path(scene).is_dir() else cache_root() / "scenes" / scene
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        command = ["fit", str(data), *WAYS[way], "--budget", f"{budget_s:g}s", "--json"]
        code = geodistill([*command, "-o", str(Path(folder) / "out")])
    if code:
        sys.exit(code)
    result = json.loads(said.getvalue().splitlines()[-1])
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = ("test_psnr_db", "splats", "parameters", "bytes", "seconds")
    figures = {name: result.get(name) for name in kept}
    where = {"date": date, "machine": machine()}
    return {"scene": data.name, "fit": way, "budget_s": budget_s, **figures, **where}


def row(record: dict[str, Any]) -> str:
    score = record["test_psnr_db"]
    cells = [
        record["scene"],
        record["fit"],
        "" if score is None else f"{score:.2f}",
        f"{record['splats']:,}" if record["splats"] else "",
        f"{record['parameters']:,}",
        f"{record['bytes']:,}",
        f"{record['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
