"""Draws the measured ratios: a bar for each, and a line for the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

WIDTH, ROW, LEFT, RIGHT, TOP = 900, 26, 330, 90, 44
INK, LINE, COLOURS = "#222222", "#999999", {"layers": "#2a78b5", "vmap": "#9dbfd8"}
OTHER = "#c9a26b"


def bars(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, float, float, float]]:
    """Returns (label, engine, median, smallest, largest) of every time over the plain step's."""
    names = {"layers": "dpgen", "vmap": "vmap", "hooks": "Opacus, hooks", "ghost": "Opacus, ghost"}
    return [
        (
            f"{row['preset']} {row['side']}x{row['side']}, K = {row['draws']}: "
            f"{names[row['engine']]}",
            row["engine"], *row["time_over_plain"],
        )
        for row in rows
        if "time_over_plain" in row and not (row["section"] == "peer" and row["engine"] == "layers")
    ]  # fmt: skip


def save_picture(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], out: Path) -> None:
    """Writes a PNG of `bars`."""
    found = sorted(bars(rows), key=lambda bar: bar[0])
    image = Image.new("RGB", (WIDTH, TOP + ROW * len(found) + 34), "white")
    pen = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    pen.text((12, 12), "Time of a private step over a plain one (1 = no cost)", INK, font=font)
    widest = max(bar[4] for bar in found)
    scale = (WIDTH - LEFT - RIGHT) / widest
    bottom = TOP + ROW * len(found)
    for tick in range(int(widest) + 1):
        x = LEFT + tick * scale
        pen.line([(x, TOP), (x, bottom)], fill=INK if tick == 1 else "#dddddd")
        pen.text((x - 3, bottom + 4), str(tick), INK, font=small)
    for number, (label, engine, middle, low, high) in enumerate(found):
        y = TOP + ROW * number
        pen.text((12, y + 5), label, INK, font=small)
        colour = COLOURS.get(engine, OTHER)
        pen.rectangle([LEFT, y + 5, LEFT + middle * scale, y + ROW - 6], fill=colour)
        y_mean = y + ROW // 2
        pen.line([(LEFT + low * scale, y_mean), (LEFT + high * scale, y_mean)], fill=INK, width=2)
        pen.text((LEFT + high * scale + 8, y + 5), f"{middle:.2f}", INK, font=small)
    words = f"{machine['device']}, {machine['threads']} thread(s), torch {machine['torch']}"
    pen.text((LEFT, bottom + 18), words, LINE, font=small)
    image.save(out)
