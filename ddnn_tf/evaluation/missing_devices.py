"""The table "Missing Device(s)" of the reference's README, on partitioned MNIST.

Each digit is cut into 2 rows by 3 columns of tiles, one for each of six devices; the cloud exit
answers without the tiles of the missing ones. The reference trains a float residual network; this is
the paper's binary DDNN, MP-CC with 4 filters, trained for a tenth of the epochs (MNIST has 80 times
the samples).

Source: README of the authors' PyTorch code; its values are in `paper.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.datasets import DataSource
from ddnn_tf.evaluation.drawing import bars, canvas, legend
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.tables import Cell, Table, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TITLE", "figures", "lines", "tables", "units"]

TITLE = "Missing devices on partitioned MNIST"
_DEVICES = 6


def units(experiment: Experiment) -> list[Unit]:
    """One network on MNIST for each seed.

    Raises:
        FileNotFoundError: MNIST is not on this machine and cannot be downloaded.
    """
    digits = _digits(experiment)
    if digits is experiment:
        # Its own network is asked for every set of failed devices by Figure 10.
        return [digits.network(seed) for seed in digits.seeds]
    missing = [tuple(row["missing"]) for row in paper("missing_devices") if row["missing"]]
    # The sets are part of the unit's key: each one once, in one order.
    sets = sorted(set(missing), key=missing.index)
    return [digits.network(seed, missing=sets) for seed in experiment.seeds]


def tables(experiment: Experiment) -> list[Table]:
    """The twelve rows of the README, with local and overall accuracy besides."""
    digits = _digits(experiment)
    rows: list[dict[str, Cell]] = []
    for printed in paper("missing_devices"):
        failed = tuple(printed["missing"])
        found = [digits.measure(unit, missing=failed) for unit in units(experiment)]
        rows.append(
            {
                "missing": str(list(failed)),
                "cloud %": percent([one.cloud_accuracy for one in found]),
                "local %": percent([one.local_accuracy for one in found]),
                "overall %": percent([one.overall_accuracy for one in found]),
                "reference cloud %": printed["accuracy_pct"],
            }
        )
    notes = (
        f"MNIST, {digits.data().split_rule}; tiles numbered column by column. Ours: binary DDNN, MP-CC, 4 "
        f"filters, {digits.epochs} epochs, failed devices masked. The reference: a float residual network.",
    )
    return [Table("missing_devices", TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Ours beside the reference's."""
    rows = tables[0].rows
    figure, (axes,) = canvas(TITLE, "missing devices", "accuracy of the cloud exit / %", size=(9, 4))
    labels = [str(row["missing"]).replace(" ", "") for row in rows]
    bars(
        axes,
        labels,
        {"ours": [row["cloud %"] for row in rows], "reference": [row["reference cloud %"] for row in rows]},
    )
    axes.tick_params(axis="x", labelrotation=30)
    axes.set_ylim(0, 112)
    legend(axes, columns=2)
    return {"missing_devices": figure}


def lines(table: Table) -> list[str]:
    """The rows in the form in which the reference prints them."""
    return [f"Missing Device(s) {row['missing']}: {mean(row['cloud %']):.2f}" for row in table.rows]


def _digits(experiment: Experiment) -> Experiment:
    if experiment.source.name == "mnist" and experiment.devices == _DEVICES:
        return experiment
    source = DataSource(name="mnist", devices=_DEVICES)
    return experiment.with_source(source, max(1, round(experiment.epochs / 10)))
