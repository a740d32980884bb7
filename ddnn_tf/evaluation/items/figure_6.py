"""Figure 6: how the classes are distributed over the devices' views, absent views included.

Source: Teerapittayanon et al. 2017, Section IV-A, Figure 6 (a picture only: no numbers to compare).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddnn_tf.evaluation.drawing import HATCHES, canvas, colour, legend
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.result_table import Cell, Table, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "tables"]

_TITLE = "Figure 6: class distribution per device"


def tables(experiment: Experiment) -> list[Table]:
    """Views of each class by device, over all samples."""
    data = experiment.data()
    rows: list[dict[str, Cell]] = []
    for device, seen in zip(data.device_names, data.presence.T, strict=True):
        counts = np.bincount(data.labels[seen], minlength=len(data.class_names)).tolist()
        named = dict(zip(data.class_names, counts, strict=True))
        rows.append({"device": device, **named, "absent": int((~seen).sum())})
    return [Table("figure_6", _TITLE, rows, ("Views of all samples: training, validation and test.",))]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Stacked bars, one for each device."""
    rows = tables[0].rows
    figure, (axes,) = canvas(_TITLE, "device", "views")
    below = np.zeros(len(rows))
    for number, name in enumerate(tables[0].columns[1:]):
        heights = [mean(row[name]) for row in rows]
        hue = "white" if name == "absent" else colour(number)
        axes.bar(
            range(len(rows)), heights, bottom=below, color=hue, edgecolor="black", linewidth=0.6,
            hatch=HATCHES[number % len(HATCHES)], label=name,
        )  # fmt: skip
        below += heights
    axes.set_xticks(range(len(rows)), [str(row["device"]) for row in rows], fontsize=8)
    series = len(tables[0].columns) - 1
    axes.set_ylim(top=(1.1 + 0.1 * math.ceil(series / 4)) * below.max())
    legend(axes, columns=min(4, series))
    return {"figure_6": figure}


register_item(Item("figure-6", order=10, title=_TITLE, tables=tables, figures=figures))
