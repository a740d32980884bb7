"""Figure 8: accuracy as end devices are added, from the worst to the best one.

Source: Teerapittayanon et al. 2017, Section IV-E, Figure 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ddnn_tf.evaluation.drawing import canvas, curve, legend, paper_curve
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns, column
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Cell, Table, mean, percent
from ddnn_tf.evaluation.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_beside_paper",
    "figures",
    "first_trials",
    "individual_columns",
    "one_device",
    "paper_columns",
    "tables",
    "trials",
    "with_devices",
]

_TITLE = "Figure 8: scaling over end devices"
_MEASURES = ("individual", "local", "cloud", OVERALL)


def one_device(experiment: Experiment) -> str | None:
    """Why nothing can be said of several devices, if the data set has only one."""
    if len(experiment.devices) > 1:
        return None
    return f"The data set '{experiment.source.name}' has one device: there is none to add or to lose."


def first_trials(experiment: Experiment) -> list[Trial]:
    """The individual models, which tell the order of the devices."""
    return [experiment.individual(seed) for seed in experiment.seeds]


def trials(experiment: Experiment) -> list[Trial]:
    """A fresh network for each number of devices and seed."""
    numbers = range(1, len(experiment.devices) + 1)
    return [trial for number in numbers for trial in with_devices(experiment, number)]


def tables(experiment: Experiment) -> list[Table]:
    """One row for each number of devices; `individual` is the device added last, on its own."""
    printed = {row["devices"]: row for row in paper("figure_8_scaling")}
    rows: list[dict[str, Cell]] = []
    for number in range(1, len(experiment.devices) + 1):
        found = [experiment.measure(trial) for trial in with_devices(experiment, number)]
        rows.append(
            {
                "devices": number,
                **individual_columns(experiment, number),
                **accuracy_columns(("local", "cloud", OVERALL), found, balance=experiment.shows_balance),
                **paper_columns(printed.get(number)),
            }
        )
    notes = (
        "Each network is trained anew with its devices, added from the worst to the best by individual "
        "accuracy on test data, for each seed by itself. Alone, a sample that the device does not see "
        "counts as wrong.",
    )
    return [Table("figure_8", _TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Ours on the left, the paper's on the right."""
    figure, axes = canvas(_TITLE, "end devices, from worst to best", "accuracy / %", panels=2)
    draw_beside_paper(axes, tables[0], "devices")
    return {"figure_8": figure}


def with_devices(experiment: Experiment, number: int) -> list[Trial]:
    """The networks of the worst devices, as many as asked for; one for each seed."""
    if number == len(experiment.devices):
        return [experiment.network(seed) for seed in experiment.seeds]
    return [
        experiment.network(seed, devices=experiment.worst_to_best(seed)[:number]) for seed in experiment.seeds
    ]


def individual_columns(experiment: Experiment, rank: int) -> dict[str, Cell]:
    """Accuracy of the device of a rank alone, 1 being the worst of each seed."""
    kinds = (False, True) if experiment.shows_balance else (False,)
    columns: dict[str, Cell] = {}
    for balanced in kinds:
        by_seed = []
        for seed in experiment.seeds:
            device = experiment.worst_to_best(seed)[rank - 1]
            by_seed.append(experiment.individual_accuracy(seed, balanced=balanced)[device])
        columns[column("individual", balanced=balanced)] = percent(by_seed)
    return columns


def paper_columns(printed: Mapping[str, Any] | None) -> dict[str, Cell]:
    """The paper's four accuracies in percent, out of a row of fractions; empty cells if there is none."""
    return {f"paper {name} %": None if printed is None else round(100 * printed[name]) for name in _MEASURES}


def draw_beside_paper(panels: Sequence[Axes], table: Table, x: str) -> None:
    """Draws the four accuracies of a table on the left, the paper's on the right.

    Args:
        panels: Two.
        table: With the columns of `individual_columns`, `accuracy_columns` and `paper_columns`.
        x: The column of the horizontal axis.
    """
    ours, theirs = panels
    numbers = [mean(row[x]) for row in table.rows]
    printed = [row for row in table.rows if row["paper cloud %"] is not None]
    for series in _MEASURES:
        curve(ours, series, numbers, [row[f"{series} %"] for row in table.rows])
        values = [mean(row[f"paper {series} %"]) for row in printed]
        paper_curve(theirs, series, numbers[: len(printed)], values)
    for axes, title in ((ours, "ours"), (theirs, "the paper's")):
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 103)
        legend(axes)


register_item(
    Item(
        "figure-8",
        order=50,
        title=_TITLE,
        first_trials=first_trials,
        trials=trials,
        tables=tables,
        figures=figures,
        obstacle=one_device,
    )
)
