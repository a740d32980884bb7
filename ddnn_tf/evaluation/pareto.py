"""Accuracy against bytes over all aggregation schemes, filters and thresholds.

Beyond the paper: which networks, at which T, are worth their bytes. The front is drawn on validation
data and judged on test data, so that its points are not merely those that were lucky in the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation import figure_9, table_1
from ddnn_tf.evaluation.drawing import canvas, colour
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.tables import Cell, Table, estimate, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TITLE", "figures", "front", "tables", "units"]

TITLE = "Accuracy against bytes"
_STEPS = 50


def units(experiment: Experiment) -> list[Unit]:
    """The networks of Table I and of Figure 9."""
    return [*table_1.units(experiment), *figure_9.units(experiment)]


def tables(experiment: Experiment) -> list[Table]:
    """The front; and all points, `on front` telling which they are."""
    rows: list[dict[str, Cell]] = []
    for scheme, filters in _networks():
        local, upper = scheme.split("-")
        group = [
            experiment.network(seed, local=local, upper=upper, filters=filters) for seed in experiment.seeds
        ]
        for step in range(_STEPS + 1):
            limits = {"local": step / _STEPS}
            known = [experiment.measure(unit, limits, "validation") for unit in group]
            tested = [experiment.measure(unit, limits) for unit in group]
            rows.append(
                {
                    "scheme": scheme,
                    "filters": filters,
                    "T": step / _STEPS,
                    "validation bytes": estimate([one.bytes_per_sample for one in known]),
                    "validation overall %": percent([one.overall_accuracy for one in known]),
                    "bytes": estimate([one.bytes_per_sample for one in tested]),
                    "overall %": percent([one.overall_accuracy for one in tested]),
                }
            )
    best = front([(mean(row["validation bytes"]), mean(row["validation overall %"])) for row in rows])
    all_rows = [{**row, "on front": "yes" if at in best else ""} for at, row in enumerate(rows)]
    notes = (
        "Networks and thresholds that no other one beats in both bytes and accuracy, on validation data "
        "(mean over the seeds); the last two columns judge them on test data.",
    )
    return [
        Table("pareto", f"{TITLE}: the Pareto front", [rows[at] for at in best], notes),
        Table("pareto_all", f"{TITLE}: all networks and thresholds", all_rows),
    ]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """All networks on test data, thin; the front that validation data chose, thick."""
    best, everything = tables
    figure, (axes,) = canvas(
        f"{TITLE}, test data", "bytes per sample and device", "overall accuracy / %", size=(9.5, 4.6)
    )
    dashes = ("-", "--", ":", "-.")
    markers = "osv^D<>phX*P"
    for number, (scheme, filters) in enumerate(_networks()):
        points = [row for row in everything.rows if (row["scheme"], row["filters"]) == (scheme, filters)]
        axes.plot(
            [mean(row["bytes"]) for row in points],
            [mean(row["overall %"]) for row in points],
            color=colour(number), linestyle=dashes[number % 4], linewidth=0.8, marker=markers[number],
            markersize=4, markevery=5, alpha=0.8, label=f"{scheme}, {filters} filters",
        )  # fmt: skip
    axes.plot(
        [mean(row["bytes"]) for row in best.rows],
        [mean(row["overall %"]) for row in best.rows],
        color="black", linewidth=2.2, marker="o", markersize=5, label="front (chosen on validation)",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return {"pareto": figure}


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that none beats, by rising cost.

    Args:
        points: `(cost, gain)` of each: less cost and more gain is better. Of equal points the first.
    """
    found: list[int] = []
    highest = float("-inf")
    for at in sorted(range(len(points)), key=lambda number: (points[number][0], -points[number][1])):
        if points[at][1] > highest:
            highest = points[at][1]
            found.append(at)
    return found


def _networks() -> list[tuple[str, int]]:
    schemes = [(row["scheme"], 4) for row in paper("table_1_aggregation")]
    return schemes + [("MP-CC", filters) for filters in figure_9.FILTERS if filters != 4]
