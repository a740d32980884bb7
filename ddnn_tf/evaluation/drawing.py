"""One look for all figures: readable in greyscale (markers, dashes, hatches) and by the colour-blind.

A series of the paper is drawn like ours, but hollow and dotted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.result_table import Cell, Estimate, mean
from ddnn_tf.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["HATCHES", "band", "bars", "below_hundred", "canvas", "colour", "curve", "legend", "paper_curve"]

_LOOKS = {
    "individual": (BLACK, "v", (0, (1, 1))),
    "local": (ORANGE, "s", (0, (5, 2))),
    "edge": (PURPLE, "D", (0, (3, 1, 1, 1))),
    "cloud": (BLUE, "^", (0, (3, 1))),
    "overall": (GREEN, "o", "solid"),
}
HATCHES = ["", "///", "...", "xxx", "\\\\\\", "ooo", "+++", "---", "**", "|||"]
"""One for each series of bars."""


def canvas(
    title: str, x: str, y: str, *, panels: int = 1, size: tuple[float, float] = (5.6, 3.8)
) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side, without pyplot's global state.

    Args:
        title: Above all panels.
        x: Label of the horizontal axes.
        y: Label of the vertical axes.
        panels: How many.
        size: Width and height of one panel in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * panels, size[1]), layout="constrained")
    all_axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in all_axes:
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(True, linewidth=0.4, alpha=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(title)
    return figure, all_axes


def curve(axes: Axes, series: str, x: Sequence[float], cells: Sequence[Cell], label: str = "") -> None:
    """Draws a series with its 95 % interval as error bars.

    Args:
        axes: Where.
        series: `individual`, `local`, `edge`, `cloud` or `overall`: its colour, marker and dashes.
        x: Horizontal positions.
        cells: Numbers or estimates, one for each position.
        label: Text in the legend; empty: the series.
    """
    hue, marker, dashes = _LOOKS[series]
    axes.errorbar(
        x,
        [mean(cell) for cell in cells],
        yerr=[_half_width(cell) for cell in cells],
        color=hue,
        marker=marker,
        markersize=5,
        linestyle=dashes,
        linewidth=1.4,
        capsize=2.5,
        label=label or series,
    )


def band(axes: Axes, series: str, x: Sequence[float], cells: Sequence[Cell], label: str) -> None:
    """Draws a fine curve with its 95 % interval as a shaded band; arguments as `curve`."""
    hue, _, dashes = _LOOKS[series]
    middle = [mean(cell) for cell in cells]
    widths = [_half_width(cell) for cell in cells]
    axes.plot(x, middle, color=hue, linestyle=dashes, linewidth=1.6, label=label)
    if any(widths):
        low = [value - width for value, width in zip(middle, widths, strict=True)]
        high = [value + width for value, width in zip(middle, widths, strict=True)]
        axes.fill_between(x, low, high, color=hue, alpha=0.18, linewidth=0)


def paper_curve(axes: Axes, series: str, x: Sequence[float], values: Sequence[float]) -> None:
    """Draws the paper's series; arguments as `curve`."""
    hue, marker, _ = _LOOKS[series]
    axes.plot(
        x,
        values,
        color=hue,
        marker=marker,
        linestyle=":",
        linewidth=0.9,
        markersize=5,
        markerfacecolor="white",
        label=f"{series} (paper)",
    )


def bars(axes: Axes, labels: Sequence[str], groups: dict[str, Sequence[Cell]]) -> None:
    """Draws groups of bars side by side, with their intervals; the paper's are hollow.

    Args:
        axes: Where.
        labels: One for each group.
        groups: By the name of a series its cells, one for each label. A series of the paper, which has no
            estimates, follows ours and shares its hatch.
    """
    width = 0.8 / len(groups)
    look = -1
    for number, (name, cells) in enumerate(groups.items()):
        errors = [_half_width(cell) for cell in cells]
        places = [at + (number - (len(groups) - 1) / 2) * width for at in range(len(labels))]
        is_ours = any(isinstance(cell, Estimate) for cell in cells)
        look += is_ours
        axes.bar(
            places,
            [mean(cell) for cell in cells],
            width,
            yerr=errors if any(errors) else None,
            capsize=2,
            label=name,
            color=colour(look) if is_ours else "white",
            edgecolor="black" if is_ours else colour(look),
            linewidth=0.8,
            hatch=HATCHES[look],
        )
    axes.set_xticks(range(len(labels)), labels)


def below_hundred(axes: Axes) -> None:
    """Ends a percentage axis just above 100, where an interval may reach beyond."""
    axes.set_ylim(top=min(101.0, axes.get_ylim()[1]))


def legend(axes: Axes, columns: int = 1) -> None:
    """Puts a small legend where there is room."""
    axes.legend(fontsize=8, ncols=columns, framealpha=0.85)


def _half_width(cell: Cell) -> float:
    return (cell.half_width or 0.0) if isinstance(cell, Estimate) else 0.0
