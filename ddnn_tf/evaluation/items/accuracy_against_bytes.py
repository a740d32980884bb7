"""Accuracy against bytes over all aggregation schemes, filters and thresholds.

Beyond the paper: which networks, at which T, are worth their bytes. The front is drawn on validation
data and judged on test data, so that its points are not merely those that were lucky in the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.drawing import canvas, colour
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items import figure_9, table_1
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns
from ddnn_tf.evaluation.result_table import Cell, Table, estimate, mean, percent
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.fronts import undominated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "tables", "trials"]

_TITLE = "Accuracy against bytes"
_STEPS = 50
_FILTERS = 4
_DASHES = ("-", "--", ":", "-.")
_MARKERS = "osv^D<>phX*P"


def trials(experiment: Experiment) -> list[Trial]:
    """The networks of Table I and of Figure 9."""
    return [trial for pair, filters in _networks(experiment) for trial in _of(experiment, pair, filters)]


def tables(experiment: Experiment) -> list[Table]:
    """The front; and all points, `on front` telling which they are."""
    rows: list[dict[str, Cell]] = []
    for pair, filters in _networks(experiment):
        group = _of(experiment, pair, filters)
        for step in range(_STEPS + 1):
            limits = {"local": step / _STEPS}
            known = [experiment.measure(trial, limits, "validation") for trial in group]
            tested = [experiment.measure(trial, limits) for trial in group]
            rows.append(
                {
                    "scheme": "-".join(pair),
                    "filters": filters,
                    "T": step / _STEPS,
                    "validation bytes": estimate([each.bytes_per_sample for each in known]),
                    "validation overall %": percent([each.overall_accuracy for each in known]),
                    "bytes": estimate([each.bytes_per_sample for each in tested]),
                    **accuracy_columns((OVERALL,), tested, balance=experiment.shows_balance),
                }
            )
    best = undominated([(mean(row["validation bytes"]), -mean(row["validation overall %"])) for row in rows])
    all_rows = [{**row, "on front": "yes" if number in best else ""} for number, row in enumerate(rows)]
    notes = (
        "Networks and thresholds that no other one beats in both bytes and accuracy, on validation data "
        "(mean over the seeds); the last columns judge them on test data.",
    )
    return [
        Table("pareto", f"{_TITLE}: the Pareto front", [rows[number] for number in best], notes),
        Table("pareto_all", f"{_TITLE}: all networks and thresholds", all_rows),
    ]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """All networks on test data, thin; the front that validation data chose, thick."""
    best, everything = tables
    figure, (axes,) = canvas(
        f"{_TITLE}, test data", "bytes per sample and device", "overall accuracy / %", size=(9.5, 4.6)
    )
    networks = dict.fromkeys((row["scheme"], row["filters"]) for row in everything.rows)
    for number, (scheme, filters) in enumerate(networks):
        points = [row for row in everything.rows if (row["scheme"], row["filters"]) == (scheme, filters)]
        axes.plot(
            [mean(row["bytes"]) for row in points],
            [mean(row["overall %"]) for row in points],
            color=colour(number), linestyle=_DASHES[number % len(_DASHES)], linewidth=0.8,
            marker=_MARKERS[number % len(_MARKERS)], markersize=4, markevery=5, alpha=0.8,
            label=f"{scheme}, {filters} filters",
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


def _networks(experiment: Experiment) -> list[tuple[tuple[str, str], int]]:
    """Aggregation schemes and filters of each network; filters vary where a device has a ConvP block."""
    networks = [(pair, _FILTERS) for pair in table_1.schemes()]
    if figure_9.no_filters(experiment) is None:
        networks += [(("MP", "CC"), filters) for filters in figure_9.FILTERS if filters != _FILTERS]
    return networks


def _of(experiment: Experiment, pair: tuple[str, str], filters: int) -> list[Trial]:
    local, upper = pair
    return [experiment.network(seed, local=local, upper=upper, filters=filters) for seed in experiment.seeds]


register_item(Item("pareto", order=130, title=_TITLE, trials=trials, tables=tables, figures=figures))
