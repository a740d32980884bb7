"""Figure 10: fault tolerance: what is left when devices fail, without retraining.

Source: Teerapittayanon et al. 2017, Section IV-G, Figure 10; several failures at once are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.accuracy import Evaluation
from ddnn_tf.evaluation.drawing import canvas, curve, legend
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items.figure_8 import (
    draw_beside_paper,
    first_trials,
    individual_columns,
    one_device,
    paper_columns,
)
from ddnn_tf.evaluation.measures import OVERALL, accuracies, accuracy_columns, column
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Cell, Table, estimate, mean, percent
from ddnn_tf.evaluation.trial import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "tables", "trials"]

_TITLE = "Figure 10: fault tolerance"
_EXITS = ("local", "cloud", OVERALL)


def trials(experiment: Experiment) -> list[Trial]:
    """The paper's network for each seed, and the individual models."""
    return [*first_trials(experiment), *(experiment.network(seed) for seed in experiment.seeds)]


def tables(experiment: Experiment) -> list[Table]:
    """Each device failed alone; and all sets of failed devices, by how many fail."""
    return [_single(experiment), _subsets(experiment)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Single failures beside the paper's; below, any number of failures."""
    single, several = tables
    figure, axes = canvas(_TITLE, "failed device, from worst to best", "accuracy / %", panels=2)
    draw_beside_paper(axes, single, "rank")
    return {"figure_10": figure, "figure_10_subsets": _draw_subsets(several)}


def _draw_subsets(table: Table) -> Figure:
    figure, panels = canvas(
        "Any devices failed at once", "failed devices", "accuracy / %", panels=3, size=(4, 3.6)
    )
    numbers = [mean(row["failed"]) for row in table.rows]
    for axes, series in zip(panels, _EXITS, strict=True):
        curve(axes, series, numbers, [row[f"{series} mean %"] for row in table.rows], label="mean")
        low = [mean(row[f"{series} worst %"]) for row in table.rows]
        high = [mean(row[f"{series} best %"]) for row in table.rows]
        axes.fill_between(numbers, low, high, color="black", alpha=0.13, label="worst to best set")
        axes.set_title(series, fontsize=10)
        axes.set_ylim(0, 103)
        legend(axes)
    return figure


def _single(experiment: Experiment) -> Table:
    printed = {row["failed_device_rank"]: row for row in paper("figure_10_fault")}
    rows: list[dict[str, Cell]] = []
    for rank in range(1, len(experiment.devices) + 1):
        found = []
        for seed in experiment.seeds:
            device = experiment.worst_to_best(seed)[rank - 1]
            found.append(experiment.measure(experiment.network(seed), missing=(device,)))
        rows.append(
            {
                "rank": rank,
                **individual_columns(experiment, rank),
                **accuracy_columns(_EXITS, found, balance=experiment.shows_balance),
                **paper_columns(printed.get(rank)),
            }
        )
    notes = (
        "One device failed, and masked in every aggregation; ranked from worst to best by individual "
        "accuracy (its own is shown). T stays as chosen with all devices.",
    )
    return Table("figure_10", _TITLE, rows, notes)


def _subsets(experiment: Experiment) -> Table:
    """Mean, worst and best over the sets of one size; then over the seeds."""
    sets = [(), *experiment.network(0).missing]
    rows: list[dict[str, Cell]] = []
    for number in sorted({len(failed) for failed in sets}):
        chosen = [failed for failed in sets if len(failed) == number]
        by_seed = [_without(experiment, seed, chosen) for seed in experiment.seeds]
        row: dict[str, Cell] = {"failed": number, "sets": len(chosen)}
        for name in _EXITS:
            row |= _mean_worst_best(name, by_seed, experiment.shows_balance)
        row["bytes"] = estimate(
            [sum(each.bytes_per_sample for each in found) / len(found) for found in by_seed]
        )
        rows.append(row)
    is_complete = rows[-1]["failed"] == len(experiment.devices)
    notes = (
        "Every set of failed devices, summarised by its size. With all failed the network knows nothing and "
        "always gives the same answer."
        if is_complete
        else "Every set of one or two failed devices, summarised by its size.",
        "Bytes per sample and device as if the failed ones still sent.",
    )
    return Table("figure_10_subsets", "Beyond the paper: any devices failed at once", rows, notes)


def _without(experiment: Experiment, seed: int, sets: Sequence[tuple[str, ...]]) -> list[Evaluation]:
    """Measures of a seed's network without each set of devices; T stays as chosen with all."""
    trial = experiment.network(seed)
    thresholds = experiment.thresholds(trial)
    return [experiment.measure(trial, thresholds, missing=failed) for failed in sets]


def _mean_worst_best(name: str, by_seed: Sequence[Sequence[Evaluation]], balance: bool) -> dict[str, Cell]:
    columns: dict[str, Cell] = {}
    for balanced in (False, True) if balance else (False,):
        values = [[accuracies(each, balanced=balanced)[name] for each in found] for found in by_seed]
        columns[column(f"{name} mean", balanced=balanced)] = percent(
            [sum(found) / len(found) for found in values]
        )
        columns[column(f"{name} worst", balanced=balanced)] = percent([min(found) for found in values])
        columns[column(f"{name} best", balanced=balanced)] = percent([max(found) for found in values])
    return columns


register_item(
    Item(
        "figure-10",
        order=70,
        title=_TITLE,
        first_trials=first_trials,
        trials=trials,
        tables=tables,
        figures=figures,
        obstacle=one_device,
    )
)
