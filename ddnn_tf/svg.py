"""Boxes in rows with lines between them, drawn as an SVG document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["Box", "Line", "draw"]

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 118, 44, 18, 58, 12


@dataclass(frozen=True)
class Box:
    """A box with two lines of text.

    Attributes:
        name: The first line; lines name their boxes by it.
        caption: The second line.
        fill: Colour, e.g. `#e8f1fb`.
    """

    name: str
    caption: str
    fill: str


@dataclass(frozen=True)
class Line:
    """A line between two boxes.

    Attributes:
        ends: Names of the boxes.
        title: What a pointer over it shows.
        stroke: Colour.
        is_dashed: Whether it is dashed.
    """

    ends: tuple[str, str]
    title: str
    stroke: str
    is_dashed: bool


def draw(title: str, rows: Sequence[Sequence[Box]], lines: Sequence[Line]) -> str:
    """An SVG document.

    Args:
        title: What it shows, for those who cannot see it.
        rows: The boxes, from top to bottom and from left to right.
        lines: The lines between boxes of different rows.
    """
    widest = max(map(len, rows))
    total = widest * _WIDTH + (widest - 1) * _GAP_X
    width, height = total + 2 * _MARGIN, len(rows) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    place: dict[str, tuple[float, float]] = {}
    for down, row in enumerate(rows):
        step = total / len(row)
        for across, box in enumerate(row):
            place[box.name] = (_MARGIN + step * (across + 0.5), _MARGIN + down * (_HEIGHT + _GAP_Y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
    ]
    for line in lines:
        # From the lower edge of the upper box to the upper edge of the lower one.
        (x1, y1), (x2, y2) = sorted((place[name] for name in line.ends), key=lambda point: point[1])
        dashes = "4 3" if line.is_dashed else "none"
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1 + _HEIGHT:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{line.stroke}" stroke-width="1.5" stroke-dasharray="{dashes}">'
            f"<title>{escape(line.title)}</title></line>"
        )
    for box in (box for row in rows for box in row):
        x, y = place[box.name]
        parts += [
            f'<rect x="{x - _WIDTH / 2:.1f}" y="{y:.1f}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
            f'fill="{box.fill}" stroke="#444"/>',
            _text(x, y + 18, box.name, 'font-weight="bold"'),
            _text(x, y + 34, box.caption, 'fill="#555"'),
        ]
    return "\n".join([*parts, "</svg>"])


def _text(x: float, y: float, content: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" {style}>{escape(content)}</text>'
