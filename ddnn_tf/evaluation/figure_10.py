"""Figure 10: fault tolerance: what is left when devices fail, without retraining.

Source: Teerapittayanon et al. 2017, Section IV-G, Figure 10; several failures at once are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.drawing import canvas, curve, legend, paper_curve
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.figure_8 import MEASURES, first_units
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.tables import Cell, Table, estimate, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TITLE", "figures", "first_units", "tables", "units"]

TITLE = "Figure 10: fault tolerance"
_EXITS = ("local", "cloud", "overall")


def units(experiment: Experiment) -> list[Unit]:
    """The paper's network for each seed, and the individual models."""
    return [*first_units(experiment), *(experiment.network(seed) for seed in experiment.seeds)]


def tables(experiment: Experiment) -> list[Table]:
    """Each device failed alone; and all sets of failed devices, by how many fail."""
    return [_single(experiment), _subsets(experiment)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Single failures beside the paper's; below, any number of failures."""
    single, several = tables
    figure, (ours, theirs) = canvas(TITLE, "failed device, from worst to best", "accuracy / %", panels=2)
    ranks = [mean(row["rank"]) for row in single.rows]
    printed = [row for row in single.rows if row["paper cloud %"] is not None]
    for series in MEASURES:
        curve(ours, series, ranks, [row[f"{series} %"] for row in single.rows])
        paper_curve(
            theirs, series, ranks[: len(printed)], [mean(row[f"paper {series} %"]) for row in printed]
        )
    for axes, title in ((ours, "ours"), (theirs, "the paper's")):
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 103)
        legend(axes)

    beyond, panels = canvas(
        "Any devices failed at once", "failed devices", "accuracy / %", panels=3, size=(4, 3.6)
    )
    numbers = [mean(row["failed"]) for row in several.rows]
    for axes, series in zip(panels, _EXITS, strict=True):
        curve(axes, series, numbers, [row[f"{series} mean %"] for row in several.rows], label="mean")
        low, high = (
            [mean(row[f"{series} {which} %"]) for row in several.rows] for which in ("worst", "best")
        )
        axes.fill_between(numbers, low, high, color="black", alpha=0.13, label="worst to best set")
        axes.set_title(series, fontsize=10)
        axes.set_ylim(0, 103)
        legend(axes)
    return {"figure_10": figure, "figure_10_subsets": beyond}


def _single(experiment: Experiment) -> Table:
    printed = {row["failed_device_rank"]: row for row in paper("figure_10_fault")}
    rows: list[dict[str, Cell]] = []
    for rank in range(1, experiment.devices + 1):
        found, alone = [], []
        for seed in experiment.seeds:
            device = experiment.worst_to_best(seed)[rank - 1]
            found.append(experiment.measure(experiment.network(seed), missing=(device,)))
            alone.append(experiment.individual_accuracy(seed)[device])
        row: dict[str, Cell] = {"rank": rank, "individual %": percent(alone)}
        for name in _EXITS:
            row[f"{name} %"] = percent([getattr(one, f"{name}_accuracy") for one in found])
        for name in MEASURES:
            theirs = printed.get(rank)
            row[f"paper {name} %"] = None if theirs is None else round(100 * theirs[name])
        rows.append(row)
    notes = (
        "One device failed, and masked in every aggregation; ranked from worst to best by individual "
        "accuracy (its own is shown). T stays as chosen with all devices.",
    )
    return Table("figure_10", TITLE, rows, notes)


def _subsets(experiment: Experiment) -> Table:
    """Mean, worst and best over the sets of one size; then over the seeds."""
    sets = [(), *experiment.network(0).missing]
    rows: list[dict[str, Cell]] = []
    for number in sorted({len(failed) for failed in sets}):
        by_seed = []
        for seed in experiment.seeds:
            unit = experiment.network(seed)
            thresholds = experiment.thresholds(unit)
            by_seed.append(
                [
                    experiment.measure(unit, thresholds, missing=failed)
                    for failed in sets
                    if len(failed) == number
                ]
            )
        row: dict[str, Cell] = {"failed": number, "sets": len(by_seed[0])}
        for name in _EXITS:
            values = [[getattr(one, f"{name}_accuracy") for one in found] for found in by_seed]
            row[f"{name} mean %"] = percent([sum(found) / len(found) for found in values])
            row[f"{name} worst %"] = percent([min(found) for found in values])
            row[f"{name} best %"] = percent([max(found) for found in values])
        row["bytes"] = estimate(
            [sum(one.bytes_per_sample for one in found) / len(found) for found in by_seed]
        )
        rows.append(row)
    complete = rows[-1]["failed"] == experiment.devices
    notes = (
        "Every set of failed devices, summarised by its size. With all failed the network knows nothing and "
        "always gives the same answer."
        if complete
        else "Every set of one or two failed devices, summarised by its size.",
        "Bytes per sample and device as if the failed ones still sent.",
    )
    return Table("figure_10_subsets", "Beyond the paper: any devices failed at once", rows, notes)
