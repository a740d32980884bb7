"""Figure 7: overall accuracy and local exits as the threshold T sweeps from 0 to 1.

Source: Teerapittayanon et al. 2017, Section IV-D, Figure 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.drawing import band, below_hundred, canvas, curve, legend, paper_curve
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items.table_2 import at_threshold, sweet_spot, trials
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Cell, Table, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "tables", "trials"]

_TITLE = "Figure 7: accuracy and local exits against the threshold"
_STEPS = 50


def tables(experiment: Experiment) -> list[Table]:
    """A fine sweep of T on test data, and the sweet spot that validation data chose."""
    rows: list[dict[str, Cell]] = [
        {"T": step / _STEPS, **at_threshold(experiment, step / _STEPS), "sweet spot": ""}
        for step in range(_STEPS + 1)
    ]
    chosen = {"T": sweet_spot(experiment), **at_threshold(experiment, None), "sweet spot": "chosen"}
    return [Table("figure_7", _TITLE, [*rows, chosen], (), frozenset({len(rows)}))]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracy and local exits against T; accuracy against bytes."""
    *sweep, chosen = tables[0].rows
    figure, (left, right) = canvas(_TITLE, "threshold T", "overall accuracy / %", panels=2)
    x = [mean(row["T"]) for row in sweep]
    printed = paper("table_2_threshold")
    band(left, "overall", x, [row["overall %"] for row in sweep], "overall accuracy")
    paper_curve(left, "overall", [row["T"] for row in printed], [row["overall_pct"] for row in printed])
    spot = mean(chosen["T"])
    left.axvline(spot, color="black", linewidth=1, linestyle="--", label="sweet spot (validation)")
    exits = left.twinx()
    band(exits, "local", x, [row["local exit %"] for row in sweep], "local exits")
    paper_curve(exits, "local", [row["T"] for row in printed], [row["local_exit_pct"] for row in printed])
    exits.set_ylabel("samples that leave at the local exit / %")
    exits.set_ylim(0, 105)
    handles, labels = left.get_legend_handles_labels()
    exit_handles, exit_labels = exits.get_legend_handles_labels()
    left.legend(handles + exit_handles, labels + exit_labels, fontsize=7, loc="lower center")

    right.set_xlabel("bytes per sample and device")
    order = sorted(sweep, key=lambda row: mean(row["bytes"]))
    costs = [mean(row["bytes"]) for row in order]
    band(right, "overall", costs, [row["overall %"] for row in order], "overall accuracy")
    curve(right, "overall", [mean(chosen["bytes"])], [chosen["overall %"]], label="sweet spot (validation)")
    paper_curve(
        right, "overall", [row["comm_bytes"] for row in printed], [row["overall_pct"] for row in printed]
    )
    for axes in (left, right):
        below_hundred(axes)
    legend(right)
    return {"figure_7": figure}


register_item(Item("figure-7", order=40, title=_TITLE, trials=trials, tables=tables, figures=figures))
