"""Curves in panels side by side, drawn as SVG without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

Curve = Sequence[tuple[float, float]]

COLORS = ("#d55e00", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#777777")  # Okabe and Ito's
ACROSS = 4  # panels in a row
WIDTH, HEIGHT = 190, 150  # of the area of a panel, in pixels
LEFT, TOP, GAP, BELOW = 60, 60, 44, 30


def draw(path: Path, panels: Mapping[str, Mapping[str, Curve]], x: str, y: str) -> None:
    """Curves by panel and name over a logarithmic x; y from 0 to 1."""
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    ticks = sorted({t for curves in panels.values() for c in curves.values() for t, _ in c})
    colors = dict(zip(names, COLORS[: len(names)], strict=True))
    rows = -(-len(panels) // ACROSS)
    wide = LEFT + min(ACROSS, len(panels)) * (WIDTH + GAP)
    high = TOP + rows * (HEIGHT + GAP + BELOW)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{wide}" height="{high}" fill="white"/>',
        *(_key(number, name, colors[name]) for number, name in enumerate(names)),
    ]
    for number, (title, curves) in enumerate(panels.items()):
        down, across = divmod(number, ACROSS)
        place = LEFT + across * (WIDTH + GAP), TOP + down * (HEIGHT + GAP + BELOW)
        parts.append(f'<g transform="translate({place[0]} {place[1]})">')
        parts += _panel(title, curves, colors, ticks, x, y if across == 0 else "")
        parts.append("</g>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _key(number: int, name: str, color: str) -> str:
    left = LEFT + number * 150
    line = f'<line x1="{left}" x2="{left + 22}" y1="16" y2="16" stroke="{color}" stroke-width="3"/>'
    return f'{line}<text x="{left + 28}" y="20">{name}</text>'


def _panel(
    title: str,
    curves: Mapping[str, Curve],
    colors: Mapping[str, str],
    ticks: Sequence[float],
    x: str,
    y: str,
) -> list[str]:
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def across(t: float) -> float:
        return WIDTH * (math.log(t) - low) / ((high - low) or 1)

    parts = [f'<text y="-8" font-weight="bold">{title}</text>']
    for value in (0, 0.25, 0.5, 0.75, 1):
        at = HEIGHT * (1 - value)
        parts.append(f'<line x2="{WIDTH}" y1="{at:g}" y2="{at:g}" stroke="#dddddd"/>')
        parts.append(f'<text x="-6" y="{at + 4:g}" text-anchor="end" fill="#555">{value:g}</text>')
    for t in ticks:
        where = f'x="{across(t):.1f}" y="{HEIGHT + 16}"'
        parts.append(f'<text {where} text-anchor="middle" fill="#555">{t:g}</text>')
    label = f'x="{WIDTH / 2:g}" y="{HEIGHT + 32}" text-anchor="middle"'
    parts.append(f'<text {label} fill="#555">{x}</text>')
    if y:
        turned = f'transform="translate(-42 {HEIGHT / 2:g}) rotate(-90)" text-anchor="middle"'
        parts.append(f'<text {turned} fill="#555">{y}</text>')
    for name, curve in reversed(curves.items()):  # the first is drawn last, over the others
        points = " ".join(f"{across(t):.1f},{HEIGHT * (1 - v):.1f}" for t, v in curve)
        look = f'fill="none" stroke="{colors[name]}" stroke-width="2.5" stroke-linejoin="round"'
        parts.append(f'<polyline points="{points}" {look}/>')
    return parts
