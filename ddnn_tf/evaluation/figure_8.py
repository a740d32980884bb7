"""Figure 8: accuracy as end devices are added, from the worst to the best one.

Source: Teerapittayanon et al. 2017, Section IV-E, Figure 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.drawing import canvas, curve, legend, paper_curve
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.tables import Cell, Table, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Figure 8: scaling over end devices"
MEASURES = ("individual", "local", "cloud", "overall")


def first_units(experiment: Experiment) -> list[Unit]:
    """The individual models, which tell the order of the devices: to be trained before `units`."""
    return [experiment.individual(seed) for seed in experiment.seeds]


def units(experiment: Experiment) -> list[Unit]:
    """A fresh network for each number of devices and seed."""
    numbers = range(1, experiment.devices + 1)
    return [unit for number in numbers for unit in with_devices(experiment, number)]


def tables(experiment: Experiment) -> list[Table]:
    """One row for each number of devices; `individual` is the device added last, on its own."""
    printed = {row["devices"]: row for row in paper("figure_8_scaling")}
    rows: list[dict[str, Cell]] = []
    for number in range(1, experiment.devices + 1):
        found = [experiment.measure(unit) for unit in with_devices(experiment, number)]
        alone = [sorted(experiment.individual_accuracy(seed))[number - 1] for seed in experiment.seeds]
        row: dict[str, Cell] = {
            "devices": number,
            "individual %": percent(alone),
            "local %": percent([one.local_accuracy for one in found]),
            "cloud %": percent([one.cloud_accuracy for one in found]),
            "overall %": percent([one.overall_accuracy for one in found]),
        }
        for measure in MEASURES:
            theirs = printed.get(number)
            row[f"paper {measure} %"] = None if theirs is None else round(100 * theirs[measure])
        rows.append(row)
    notes = (
        "Each network is trained anew with its devices, added from the worst to the best by individual "
        "accuracy on test data, for each seed by itself. Alone, a sample that the device does not see "
        "counts as wrong.",
    )
    return [Table("figure_8", TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Ours on the left, the paper's on the right."""
    rows = tables[0].rows
    figure, (ours, theirs) = canvas(TITLE, "end devices, from worst to best", "accuracy / %", panels=2)
    numbers = [mean(row["devices"]) for row in rows]
    printed = [row for row in rows if row["paper cloud %"] is not None]
    for series in MEASURES:
        curve(ours, series, numbers, [row[f"{series} %"] for row in rows])
        values = [mean(row[f"paper {series} %"]) for row in printed]
        paper_curve(theirs, series, numbers[: len(printed)], values)
    for axes, title in ((ours, "ours"), (theirs, "the paper's")):
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 103)
        legend(axes)
    return {"figure_8": figure}


def with_devices(experiment: Experiment, number: int) -> list[Unit]:
    """The networks of the worst devices, as many as asked for; one for each seed."""
    if number == experiment.devices:
        return [experiment.network(seed) for seed in experiment.seeds]
    return [
        experiment.network(seed, columns=experiment.worst_to_best(seed)[:number]) for seed in experiment.seeds
    ]
