"""The edge tier: the paper's measures for configurations (d), (e) and (f) of Figure 2.

The paper describes these hierarchies (Section III-A, Figure 2) and gives no numbers for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.communication import raw_bytes
from ddnn_tf.evaluation.accuracy import Evaluation
from ddnn_tf.evaluation.drawing import HATCHES, bars, canvas, colour, legend
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.figure_8 import first_units
from ddnn_tf.evaluation.tables import Cell, Table, estimate, mean, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TITLE", "figures", "first_units", "tables", "units"]

TITLE = "Edge tier: configurations (d), (e) and (f)"
_NAMES = {
    "d": "(d) one device, edge, cloud",
    "e": "(e) devices, edge, cloud",
    "f": "(f) devices, two edges, cloud",
}
_TIERS = ("local", "edge", "cloud")


def units(experiment: Experiment) -> list[Unit]:
    """A network for each configuration and seed."""
    return [unit for letter in _letters(experiment) for unit in _of(experiment, letter)]


def tables(experiment: Experiment) -> list[Table]:
    """Accuracies, shares and bytes; then the bytes of every link."""
    rows: list[dict[str, Cell]] = []
    links: list[dict[str, Cell]] = []
    for letter in _letters(experiment):
        found = [experiment.measure(unit) for unit in _of(experiment, letter)]
        row: dict[str, Cell] = {"configuration": _NAMES[letter]}
        for name in (*_TIERS, "overall"):
            row[f"{name} %"] = percent([getattr(one, f"{name}_accuracy") for one in found])
        for tier in _TIERS:
            row[f"left at {tier} %"] = percent([one.exit_shares[tier] for one in found])
        cost = estimate([one.bytes_per_sample for one in found])
        row["bytes"] = cost
        row["reduction"] = raw_bytes(experiment.topology()) / cost.mean
        rows.append(row)
        links += _links(letter, found)
    notes = (
        "MP at the local exit, CC above; thresholds chosen together on validation data. The one device of "
        "(d) is the best of its seed by individual accuracy on validation data. With two edges the surer "
        "one speaks for the tier. Bytes per sample and device, over all links; the reduction is that of the "
        "mean bytes.",
    )
    return [
        Table("edge", TITLE, rows, notes),
        Table("edge_links", "Edge tier: bytes per sample on every link", links),
    ]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracies on the left, shares of the exits on the right."""
    rows = tables[0].rows
    labels = [str(row["configuration"])[:3] for row in rows]
    figure, (left, right) = canvas(TITLE, "configuration", "accuracy / %", panels=2)
    bars(left, labels, {name: [row[f"{name} %"] for row in rows] for name in (*_TIERS, "overall")})
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
    return [
        {
            "configuration": _NAMES[letter],
            "link": link,
            "bytes": estimate([one.bytes_per_link[link] for one in found]),
        }
        for link in found[0].bytes_per_link
    ]


def _letters(experiment: Experiment) -> list[str]:
    return list(_NAMES) if experiment.devices > 1 else ["d"]


def _of(experiment: Experiment, letter: str) -> list[Unit]:
    if letter != "d":
        return [experiment.network(seed, configuration=letter) for seed in experiment.seeds]
    found = []
    for seed in experiment.seeds:
        accuracy = experiment.individual_accuracy(seed, "validation")
        best = max(range(experiment.devices), key=lambda device: accuracy[device])
        found.append(experiment.network(seed, configuration=letter, columns=[best]))
    return found
