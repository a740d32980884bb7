"""Figure 9: cloud offloading: small devices of 1, 2, 4 and 8 filters helped by the cloud.

Source: Teerapittayanon et al. 2017, Section IV-F, Figure 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ddnn_tf.evaluation.drawing import below_hundred, canvas, curve, legend, paper_curve
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Cell, Table, estimate, mean, percent
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.exits import normalized_entropy
from ddnn_tf.hierarchy import Node, convp_shape
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FILTERS",
    "device_memory",
    "figures",
    "no_filters",
    "tables",
    "threshold_for_share",
    "trials",
]

FILTERS = (1, 2, 4, 8)
"""The paper's numbers of filters."""

_TITLE = "Figure 9: cloud offloading"
_SHARE = 0.75


def no_filters(experiment: Experiment) -> str | None:
    """Why there are no filters to vary, if no device has a ConvP block."""
    devices = experiment.topology().hierarchy.devices
    if any(block.kind == "convp" for node in devices for block in node.blocks):
        return None
    return (
        f"Every device of the data set '{experiment.source.name}' senses a vector: no device has a ConvP "
        "block whose filters could vary."
    )


def trials(experiment: Experiment) -> list[Trial]:
    """One network for each number of filters and seed."""
    return [trial for filters in FILTERS for trial in _with_filters(experiment, filters)]


def tables(experiment: Experiment) -> list[Table]:
    """One row for each number of filters."""
    rows: list[dict[str, Cell]] = []
    for printed in paper("figure_9_offloading"):
        filters = printed["filters"]
        found = []
        for trial in _with_filters(experiment, filters):
            known = experiment.answers(trial).validation["local"]
            threshold = threshold_for_share(known, _SHARE)
            found.append(experiment.measure(trial, {"local": threshold}))
        rows.append(
            {
                "filters": filters,
                **accuracy_columns(("local", "cloud", OVERALL), found, balance=experiment.shows_balance),
                "local exit %": percent([each.exit_shares["local"] for each in found]),
                "bytes": estimate([each.bytes_per_sample for each in found]),
                "device memory / B": device_memory(experiment.topology(filters=filters)),
                "paper local %": round(100 * printed["local"]),
                "paper cloud %": round(100 * printed["cloud"]),
                "paper overall %": round(100 * printed["overall"]),
                "paper local exit %": printed["local_exit_pct"],
                "paper bytes": printed["comm_bytes"],
            }
        )
    notes = (
        f"T lets {_SHARE:.0%} of the validation samples leave at the local exit; judged on test data. The "
        "paper's bytes fit Eq. (1) with 64 positions a filter, not with the 256 of its Table II: they are "
        "not comparable with ours.",
        "Device memory: binary weights at one bit, a 16-bit threshold and a direction bit for each filter, "
        "two 32-bit numbers for each class (figure_9.device_memory); of unlike devices, the largest.",
    )
    return [Table("figure_9", _TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracy against the memory of a device; beside it the paper's accuracy."""
    rows = tables[0].rows
    figure, (axes,) = canvas(_TITLE, "device memory / bytes (filters)", "accuracy / %", size=(7, 4))
    memory = [mean(row["device memory / B"]) for row in rows]
    for series in ("local", "cloud", OVERALL):
        curve(axes, series, memory, [row[f"{series} %"] for row in rows])
        paper_curve(axes, series, memory, [mean(row[f"paper {series} %"]) for row in rows])
    axes.set_xscale("log", base=2)
    axes.set_xticks(
        memory, [f"{size:.0f} ({row['filters']})" for size, row in zip(memory, rows, strict=True)]
    )
    below_hundred(axes)
    legend(axes, columns=2)
    return {"figure_9": figure}


def threshold_for_share(probabilities: ArrayLike, share: float) -> float:
    """The lowest T at which a share of samples, or more, would leave at an exit.

    Args:
        probabilities: `(samples, classes)` of the exit.
        share: The share wanted, 0..1, 0 excluded.

    Raises:
        ValueError: A share outside 0..1, or as `normalized_entropy`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"Expected `share` to be above 0 and at most 1, but got {share}.")
    entropies = np.sort(normalized_entropy(probabilities))
    lowest = float(entropies[math.ceil(share * len(entropies)) - 1])
    # T = 0 means "never": a share of entropy 0 wants the smallest T above.
    return max(lowest, float(np.finfo(np.float32).tiny))


def device_memory(topology: Topology) -> int:
    """Bytes that the weights of one device take, as they would be stored; of unlike devices, the most.

    A ConvP block with binary weights of c input channels and f filters takes 9 c f bits (3 c f on series),
    and, with batch norm and sign folded, one int16 threshold and one direction bit for each filter:
    ceil(9cf/8) + 2f + ceil(f/8). An FC block is counted in the same way, with one weight for each input and
    unit. The exit's binary FC block over o feature bits takes |C| o bits, and its batch norm a float32 scale
    and offset for each class: ceil(|C|o/8) + 8|C|. Float devices take 4 bytes a weight, and a scale and an
    offset for each filter or unit.

    Args:
        topology: A hierarchy whose devices have at least one block.

    Raises:
        ValueError: A device has no block, so that nothing is stored.

    Source: Section IV-F ("under 2 KB"); the layout is ours.
    """
    hierarchy = topology.hierarchy
    for node in hierarchy.devices:
        if not node.blocks:
            raise ValueError(
                f"'{node.name}' has neither 'filters' nor 'units': a device that only sends its raw input "
                "stores no weights."
            )
    return max(_memory(node, hierarchy.classes) for node in hierarchy.devices)


def _memory(node: Node, classes: int) -> int:
    """Bytes of the weights of one device."""
    total = 0
    shape = node.sensor.shape
    for block in node.blocks:
        if block.kind == "convp":
            inputs = 3 ** (len(shape) - 1) * shape[-1]
            shape = convp_shape(shape, block.size)
        else:
            inputs = math.prod(shape)
            shape = (block.size,)
        total += _weight_bytes(node, inputs * block.size)
        total += 2 * block.size + math.ceil(block.size / 8) if node.is_binary else 8 * block.size
    assert node.output is not None
    return total + 8 * classes + _weight_bytes(node, classes * node.output.elements)


def _weight_bytes(node: Node, weights: int) -> int:
    return math.ceil(weights / 8) if node.is_binary else 4 * weights


def _with_filters(experiment: Experiment, filters: int) -> list[Trial]:
    return [experiment.network(seed, filters=filters) for seed in experiment.seeds]


register_item(
    Item(
        "figure-9",
        order=60,
        title=_TITLE,
        trials=trials,
        tables=tables,
        figures=figures,
        obstacle=no_filters,
    )
)
