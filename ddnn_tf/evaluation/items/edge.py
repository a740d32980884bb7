"""The edge tier: the paper's measures for configurations (d), (e) and (f) of Figure 2.

The paper describes these hierarchies (Section III-A, Figure 2) and gives no numbers for them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.communication import raw_bytes
from ddnn_tf.evaluation.accuracy import Evaluation
from ddnn_tf.evaluation.drawing import HATCHES, bars, canvas, colour, legend
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.items.figure_8 import first_trials
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns
from ddnn_tf.evaluation.result_table import Cell, Table, estimate, mean, percent
from ddnn_tf.evaluation.trial import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "tables", "trials"]

_TITLE = "Edge tier: configurations (d), (e) and (f)"
_NAMES = {
    "d": "(d) one device, edge, cloud",
    "e": "(e) devices, edge, cloud",
    "f": "(f) devices, two edges, cloud",
}
_LETTERS = {name: f"({letter})" for letter, name in _NAMES.items()}
_TIERS = ("local", "edge", "cloud")


def trials(experiment: Experiment) -> list[Trial]:
    """A network for each configuration and seed."""
    return [trial for letter in _configurations(experiment) for trial in _of(experiment, letter)]


def tables(experiment: Experiment) -> list[Table]:
    """Accuracies, shares and bytes; then the bytes of every link."""
    rows: list[dict[str, Cell]] = []
    links: list[dict[str, Cell]] = []
    for letter in _configurations(experiment):
        group = _of(experiment, letter)
        found = [experiment.measure(trial) for trial in group]
        cost = estimate([each.bytes_per_sample for each in found])
        raw = statistics.fmean(raw_bytes(trial.topology) for trial in group)
        rows.append(
            {
                "configuration": _NAMES[letter],
                **accuracy_columns((*_TIERS, OVERALL), found, balance=experiment.shows_balance),
                **{
                    f"left at {tier} %": percent([each.exit_shares[tier] for each in found])
                    for tier in _TIERS
                },
                "bytes": cost,
                "reduction": raw / cost.mean,
            }
        )
        links += _links(letter, found)
    notes = (
        "MP at the local exit, CC above; thresholds chosen together on validation data. The one device of "
        "(d) is the best of its seed by individual accuracy on validation data. With two edges the surer "
        "one speaks for the tier. Bytes per sample and device, over all links; the reduction is that of the "
        "mean bytes.",
    )
    return [
        Table("edge", _TITLE, rows, notes),
        Table("edge_links", "Edge tier: bytes per sample on every link", links),
    ]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracies on the left, shares of the exits on the right."""
    rows = tables[0].rows
    labels = [_LETTERS[str(row["configuration"])] for row in rows]
    figure, (left, right) = canvas(_TITLE, "configuration", "accuracy / %", panels=2)
    bars(left, labels, {name: [row[f"{name} %"] for row in rows] for name in (*_TIERS, OVERALL)})
    left.set_ylim(0, 118)
    legend(left, columns=4)
    below = [0.0] * len(rows)
    for number, tier in enumerate(_TIERS):
        shares = [mean(row[f"left at {tier} %"]) for row in rows]
        right.bar(
            labels, shares, 0.6, bottom=below, label=f"left at {tier}", color=colour(number),
            edgecolor="black", linewidth=0.8, hatch=HATCHES[number],
        )  # fmt: skip
        below = [low + share for low, share in zip(below, shares, strict=True)]
    right.set_ylabel("samples / %")
    right.set_ylim(0, 118)
    legend(right, columns=3)
    return {"edge": figure}


def _links(letter: str, found: Sequence[Evaluation]) -> list[dict[str, Cell]]:
    """Bytes of every link over the seeds, each of which may have chosen another device for (d)."""
    rows: list[dict[str, Cell]] = []
    for link in zip(*(each.bytes_per_link.items() for each in found), strict=True):
        names = dict.fromkeys(name for name, _ in link)
        rows.append(
            {
                "configuration": _NAMES[letter],
                "link": " or ".join(names),
                "bytes": estimate([cost for _, cost in link]),
            }
        )
    return rows


def _configurations(experiment: Experiment) -> list[str]:
    return list(_NAMES) if len(experiment.devices) > 1 else ["d"]


def _of(experiment: Experiment, letter: str) -> list[Trial]:
    if letter != "d":
        return [experiment.network(seed, configuration=letter) for seed in experiment.seeds]
    return [
        experiment.network(seed, configuration=letter, devices=[_best_device(experiment, seed)])
        for seed in experiment.seeds
    ]


def _best_device(experiment: Experiment, seed: int) -> str:
    """The device that is the most accurate alone on validation data."""
    accuracy = experiment.individual_accuracy(seed, "validation", balanced=experiment.balance)
    return max(accuracy, key=lambda device: accuracy[device])


register_item(
    Item(
        "edge",
        order=100,
        title=_TITLE,
        first_trials=first_trials,
        trials=trials,
        tables=tables,
        figures=figures,
    )
)
