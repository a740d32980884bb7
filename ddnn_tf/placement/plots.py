"""Figures of instances and solutions: network, paths of the CNNs, exit probabilities.

Markers distinguish unit types without colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddnn_tf.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, colour
from ddnn_tf.placement.instance import Instance
from ddnn_tf.placement.solution import Solution
from ddnn_tf.placement.units import Location

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["exits_figure", "network_figure", "paths_figure"]

_MARKERS = ["o", "D", "X", "s", "^", "v", "P"]
_PATHS = (VERMILION, BLACK, PURPLE, GREEN, BLUE, ORANGE)


def network_figure(instance: Instance) -> Figure | None:
    """Units by type, links between those in range, and sources (stars); None without positions."""
    if any(unit.position is None for unit in instance.units):
        return None
    figure, axes = _canvas("Network")
    _draw_network(axes, instance, strength=1.0)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def paths_figure(solution: Solution) -> Figure | None:
    """Path of each CNN from its source through its units to its sink; None without positions."""
    instance = solution.instance
    if any(unit.position is None for unit in instance.units):
        return None
    figure, axes = _canvas(f"Paths: {solution.latency_s:.4g} s, gap {solution.gap:.2g} ({solution.status})")
    _draw_network(axes, instance, strength=0.35)
    for number, (load, units) in enumerate(zip(instance.cnns, solution.assignment, strict=True)):
        stops = np.array([_point(instance, stop) for stop in (load.source, *units, load.target)])
        shift = 0.01 * np.ptp(stops, axis=0).max() * (number - (len(instance.cnns) - 1) / 2)
        path_colour = _PATHS[number % len(_PATHS)]
        axes.plot(*(stops + shift).T, color=path_colour, linewidth=1.6, label=f"{number}: {load.cnn.name}")
        for layer, unit in enumerate(units):
            if layer == 0 or units[layer - 1] != unit:
                last = max(at for at in range(layer, len(units)) if set(units[layer : at + 1]) == {unit})
                text = f"{layer}" if last == layer else f"{layer}-{last}"
                axes.annotate(
                    text, _point(instance, unit), color=path_colour, fontsize=8, xytext=(4, 4 + 8 * number),
                    textcoords="offset points",
                )  # fmt: skip
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def exits_figure(solution: Solution) -> Figure:
    """Probability that the decision of each CNN leaves after each layer, by layer and unit."""
    from matplotlib.figure import Figure

    instance = solution.instance
    count = len(instance.cnns)
    figure = Figure(figsize=(7, 1.2 + 1.9 * count), layout="constrained")
    for axes, load, units in zip(
        figure.subplots(count, 1, squeeze=False)[:, 0], instance.cnns, solution.assignment, strict=True
    ):
        places = np.arange(len(units))
        axes.bar(places, load.cnn.exit_probability, color=BLUE, edgecolor="black", label="leaves here")
        axes.step(places, load.cnn.run_probability, where="mid", color=VERMILION, label="layer runs")
        axes.set_xticks(places, units, rotation=45, ha="right", fontsize=7)
        axes.set_ylim(0, 1.05)
        axes.set_ylabel("probability")
        axes.set_title(load.cnn.name, fontsize=9)
    figure.axes[0].legend(fontsize=8)
    return figure


def _canvas(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel("x, m")
    axes.set_ylabel("y, m")
    axes.set_aspect("equal")
    return figure, axes


def _draw_network(axes: Axes, instance: Instance, strength: float) -> None:
    positions = np.array([unit.position for unit in instance.units])
    if instance.range_m is not None:
        count = len(positions)
        for first, second in zip(*np.nonzero(np.triu(instance.adjacency[:count, :count])), strict=True):
            axes.plot(*positions[[first, second]].T, color="#BBBBBB", linewidth=0.4, zorder=0, alpha=strength)
    for number, unit_type in enumerate(sorted({unit.type for unit in instance.units})):
        own = positions[[unit.type == unit_type for unit in instance.units]]
        look: dict[str, Any] = {
            "marker": _MARKERS[number % len(_MARKERS)],
            "color": colour(number),
            "alpha": max(0.5, strength),
        }
        axes.scatter(own[:, 0], own[:, 1], s=42, label=unit_type, zorder=1, **look)
    for load in instance.cnns:
        for end in dict.fromkeys((load.source, load.target)):
            axes.scatter(
                *_point(instance, end), s=150, marker="*", color=VERMILION, edgecolor="black", zorder=3
            )


def _point(instance: Instance, location: Location) -> tuple[float, float]:
    if not isinstance(location, str):
        return location
    position = instance.units[instance.unit_names.index(location)].position
    assert position is not None
    return position
