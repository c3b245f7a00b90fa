"""Every kind of scene into every other: one table, and one picture of it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from converting import plan
from converting.cells import Cell
from converting.store import Store
from converting.wording import EMPTY, Record, decibel, marked, section

TILE_PX = 112
MARGIN_PX = 76
HEAD_PX = 18
ROW = 1
"""Which view of the contact sheets is shown."""


def sources(scale: plan.Scale) -> tuple[str, ...]:
    return (*scale.architectures, *plan.OTHERS)


def targets(scale: plan.Scale) -> tuple[str, ...]:
    return (*scale.architectures, "splats", "mesh")


def pairs(scale: plan.Scale) -> dict[tuple[str, str], Cell]:
    """The cell of every source and target that are measured: of fields those of the matrix."""
    remakes = {task.cell for task in plan.kinds(scale)}
    found = {}
    for source, target in product(sources(scale), targets(scale)):
        if {source, target} <= {*scale.architectures}:
            found[source, target] = plan.matrix_pair(scale, source, target)
        elif source != target and (cell := plan.remake(scale, source, target)) in remakes:
            found[source, target] = cell
    return found


def table(scale: plan.Scale, store: Store) -> str:
    """PSNR to the source and seconds of every pair."""
    known = {pair: store.record(cell) for pair, cell in pairs(scale).items()}
    lines = []
    for source in sources(scale):
        row = [known.get((source, target)) for target in targets(scale)]
        found = [record for record in row if record is not None]
        if found:
            lines.append([marked(source, found), *map(_figure, row)])
    return section(
        "Any to any",
        f"PSNR to the source, and seconds. Scene {scale.scenes[0]}, seed {scale.seeds[0]}; from "
        "fields to fields as below, everything else over 10 views of 400 pixels. The splats and "
        f"the mesh are made of the {plan.TEACHER} first, the points are spread over that mesh, "
        "with its colours and normals, and drawn as discs where something is compared with them. "
        "Meshes are made of fields and splats.",
        ["from", *targets(scale)],
        lines,
    )


def _figure(record: Record | None) -> str:
    return f"{decibel(record['psnr_db'])} dB, {record['seconds']:.0f} s" if record else EMPTY


def picture(scale: plan.Scale, store: Store, before: Path) -> Image.Image | None:
    """A row of tiles per source: itself, then what was made of it. None without contact sheets.

    Tiles whose contact sheet is not in the cache are those of the picture `before`, if there is
    one: sheets stay on the machine where their cells were measured.
    """
    sheets = {pair: store.path(cell, ".png") for pair, cell in pairs(scale).items()}
    sheets = {pair: sheet for pair, sheet in sheets.items() if sheet.is_file()}
    if not sheets:
        return None
    rows, columns = sources(scale), targets(scale)
    size = (MARGIN_PX + TILE_PX * (len(columns) + 1), HEAD_PX + TILE_PX * len(rows))
    page = Image.new("RGB", size, "white")
    if before.is_file() and (known := Image.open(before)).size == size:
        page.paste(known)
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, size[0], HEAD_PX - 1), "white")
    draw.rectangle((0, 0, MARGIN_PX - 1, size[1]), "white")
    for place, name in enumerate(("source", *columns)):
        draw.text((MARGIN_PX + TILE_PX * place + 4, 3), name, "black")
    for line, source in enumerate(rows):
        top = HEAD_PX + TILE_PX * line
        draw.text((4, top + TILE_PX // 2 - 6), source, "black")
        made = [(place, sheets.get((source, name))) for place, name in enumerate(columns, start=1)]
        tiles = [(place, sheet, 1) for place, sheet in made if sheet is not None]
        for place, sheet, column in [(0, tiles[-1][1], 0), *tiles] if tiles else []:
            page.paste(_tile(sheet, column), (MARGIN_PX + TILE_PX * place, top))
    return page


def _tile(sheet: Path, column: int) -> Image.Image:
    """One picture of a contact sheet: column 0 is the source, 1 what was made of it."""
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    side = pixels.shape[1] // 3
    part = pixels[ROW * side : (ROW + 1) * side, column * side : (column + 1) * side]
    return Image.fromarray(part).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
