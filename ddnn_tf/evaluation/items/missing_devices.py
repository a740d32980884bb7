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
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Cell, Table, mean
from ddnn_tf.evaluation.trial import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "lines", "obstacle", "tables", "trials"]

_TITLE = "Missing devices on partitioned MNIST"
_DEVICES = 6


def obstacle(experiment: Experiment) -> str | None:
    """Nothing stands in the way if MNIST is there, whatever the experiment's data.

    Raises:
        FileNotFoundError: MNIST is not on this machine and cannot be downloaded.
    """
    _digits(experiment).data()
    return None


def trials(experiment: Experiment) -> list[Trial]:
    """One network on MNIST for each seed.

    Raises:
        FileNotFoundError: MNIST is not on this machine and cannot be downloaded.
    """
    digits = _digits(experiment)
    if digits is experiment:
        # Figure 10 asks its own network for every set of failed devices.
        return [digits.network(seed) for seed in digits.seeds]
    sets = [failed for failed in _sets(digits) if failed]
    # The sets are part of the trial's key: each one once, in one order.
    return [digits.network(seed, missing=list(dict.fromkeys(sets))) for seed in experiment.seeds]


def tables(experiment: Experiment) -> list[Table]:
    """The twelve rows of the README, with local and overall accuracy besides."""
    digits = _digits(experiment)
    rows: list[dict[str, Cell]] = []
    for printed, failed in zip(paper("missing_devices"), _sets(digits), strict=True):
        found = [digits.measure(trial, missing=failed) for trial in trials(experiment)]
        rows.append(
            {
                "missing": str(printed["missing"]),
                **accuracy_columns(("cloud", "local", OVERALL), found, balance=digits.shows_balance),
                "reference cloud %": printed["accuracy_pct"],
            }
        )
    notes = (
        f"MNIST, {digits.data().split_rule}; tiles numbered column by column. Ours: binary DDNN, MP-CC, 4 "
        f"filters, {digits.epochs} epochs, failed devices masked. The reference: a float residual network.",
    )
    return [Table("missing_devices", _TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Ours beside the reference's."""
    rows = tables[0].rows
    figure, (axes,) = canvas(_TITLE, "missing devices", "accuracy of the cloud exit / %", size=(9, 4))
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


def lines(tables: Sequence[Table]) -> list[str]:
    """The rows in the form in which the reference prints them."""
    return [f"Missing Device(s) {row['missing']}: {mean(row['cloud %']):.2f}" for row in tables[0].rows]


def _sets(digits: Experiment) -> list[tuple[str, ...]]:
    """The failed devices of each row; the reference numbers them."""
    return [tuple(digits.devices[number] for number in row["missing"]) for row in paper("missing_devices")]


def _digits(experiment: Experiment) -> Experiment:
    is_digits = experiment.source.name == "mnist"
    if is_digits and len(experiment.devices) == _DEVICES:
        return experiment
    path = experiment.source.path if is_digits else None
    source = DataSource(name="mnist", path=path, devices=_DEVICES)
    return experiment.with_source(source, max(1, round(experiment.epochs / 10)))


register_item(
    Item(
        "missing-devices",
        order=80,
        title=_TITLE,
        trials=trials,
        tables=tables,
        figures=figures,
        obstacle=obstacle,
        lines=lines,
    )
)
