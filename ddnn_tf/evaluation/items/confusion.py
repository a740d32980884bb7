"""Confusion matrix of every exit.

Beyond the paper, which gives accuracies only. The exits are those of the paper's network, and the
edge exit of configuration (e).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.evaluation.drawing import canvas
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.result_table import Cell, Table, mean
from ddnn_tf.evaluation.trial import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["exits", "figures", "tables", "trials"]

_TITLE = "Confusion matrix per exit"


def exits(experiment: Experiment) -> dict[str, list[tuple[Trial, str]]]:
    """The exits to look at: for each its networks, one per seed, and its tier."""
    groups = {
        tier: [(experiment.network(seed), tier) for seed in experiment.seeds] for tier in ("local", "cloud")
    }
    if len(experiment.devices) > 1:
        groups["edge of (e)"] = [
            (experiment.network(seed, configuration="e"), "edge") for seed in experiment.seeds
        ]
    return groups


def trials(experiment: Experiment) -> list[Trial]:
    """The networks of `exits`."""
    return [trial for group in exits(experiment).values() for trial, _ in group]


def tables(experiment: Experiment) -> list[Table]:
    """One row for each exit and true class: how its test samples are classified, in percent."""
    classes = experiment.data().class_names
    rows: list[dict[str, Cell]] = []
    for name, group in exits(experiment).items():
        counts = np.sum([_counts(experiment, trial, tier) for trial, tier in group], axis=0)
        for label, row in zip(classes, counts, strict=True):
            shares = 100 * row / max(1, row.sum())
            named = {f"as {other} %": float(share) for other, share in zip(classes, shares, strict=True)}
            rows.append({"exit": name, "true class": label, **named, "samples": int(row.sum())})
    notes = ("Test samples of all seeds together, all of them classified at the exit.",)
    return [Table("confusion", _TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """One matrix for each exit, with the numbers written in."""
    names = list(dict.fromkeys(str(row["exit"]) for row in tables[0].rows))
    classes = list(dict.fromkeys(str(row["true class"]) for row in tables[0].rows))
    side = 2.6 + 0.32 * len(classes)
    figure, panels = canvas(_TITLE, "classified as", "true class", panels=len(names), size=(side, side - 0.4))
    for name, axes in zip(names, panels, strict=True):
        rows = [row for row in tables[0].rows if row["exit"] == name]
        matrix = np.array([[mean(row[f"as {other} %"]) for other in classes] for row in rows])
        axes.imshow(matrix, cmap="Greys", vmin=0, vmax=100)
        axes.grid(False)
        axes.set_title(name, fontsize=10)
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
        for (down, across), share in np.ndenumerate(matrix):
            hue = "white" if share > 55 else "black"
            axes.text(across, down, f"{share:.0f}", ha="center", va="center", color=hue, fontsize=8)
    return {"confusion": figure}


def _counts(experiment: Experiment, trial: Trial, tier: str) -> NDArray[np.int64]:
    """`(true, predicted)` counts of the test samples."""
    classes = len(experiment.data().class_names)
    predicted = experiment.answers(trial).test[tier].argmax(axis=1)
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (experiment.labels(trial), predicted), 1)
    return counts


register_item(Item("confusion", order=110, title=_TITLE, trials=trials, tables=tables, figures=figures))
