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
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.tables import Cell, Table, estimate, mean, percent
from ddnn_tf.exits import normalized_entropy
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FILTERS", "TITLE", "device_memory", "figures", "tables", "threshold_for_share", "units"]

TITLE = "Figure 9: cloud offloading"
FILTERS = (1, 2, 4, 8)
_SHARE = 0.75


def units(experiment: Experiment) -> list[Unit]:
    """One network for each number of filters and seed."""
    return [unit for filters in FILTERS for unit in _with_filters(experiment, filters)]


def tables(experiment: Experiment) -> list[Table]:
    """One row for each number of filters."""
    rows: list[dict[str, Cell]] = []
    for printed in paper("figure_9_offloading"):
        filters = printed["filters"]
        found = []
        for unit in _with_filters(experiment, filters):
            answers = experiment.trained(unit).validation["local"]
            threshold = threshold_for_share(answers, _SHARE)
            found.append(experiment.measure(unit, {"local": threshold}))
        rows.append(
            {
                "filters": filters,
                "local %": percent([one.local_accuracy for one in found]),
                "cloud %": percent([one.cloud_accuracy for one in found]),
                "overall %": percent([one.overall_accuracy for one in found]),
                "local exit %": percent([one.exit_shares["local"] for one in found]),
                "bytes": estimate([one.bytes_per_sample for one in found]),
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
        "two 32-bit numbers for each class (figure_9.device_memory).",
    )
    return [Table("figure_9", TITLE, rows, notes)]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Accuracy against the memory of a device; beside it the paper's accuracy."""
    rows = tables[0].rows
    figure, (axes,) = canvas(TITLE, "device memory / bytes (filters)", "accuracy / %", size=(7, 4))
    memory = [mean(row["device memory / B"]) for row in rows]
    for series in ("local", "cloud", "overall"):
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
    """Bytes that the weights of one device take, as they would be stored.

    A ConvP block with binary weights of c input channels and f filters takes 9 c f bits, and, with
    batch norm and sign folded, one int16 threshold and one direction bit for each filter:
    ceil(9cf/8) + 2f + ceil(f/8). The exit's binary FC block over o feature bits takes |C| o bits, and its
    batch norm a float32 scale and offset for each class: ceil(|C|o/8) + 8|C|. Float devices take 4 bytes
    a weight, and a scale and an offset for each filter.

    Args:
        topology: A hierarchy whose devices have at least one block.

    Raises:
        ValueError: Its devices have no block, so that nothing is stored.

    Source: Section IV-F ("under 2 KB"); the layout is ours.
    """
    devices = topology.devices
    if devices.blocks == 0:
        raise ValueError("'devices.blocks' is 0: a device that only sends its image stores no weights.")
    is_binary = devices.precision == "binary"
    total = 0
    channels = devices.image_shape[2]
    for _ in range(devices.blocks):
        weights = 9 * channels * devices.filters
        norm = 2 * devices.filters + math.ceil(devices.filters / 8) if is_binary else 8 * devices.filters
        total += norm + (math.ceil(weights / 8) if is_binary else 4 * weights)
        channels = devices.filters
    weights = topology.classes * math.prod(topology.feature_shape)
    return total + 8 * topology.classes + (math.ceil(weights / 8) if is_binary else 4 * weights)


def _with_filters(experiment: Experiment, filters: int) -> list[Unit]:
    return [experiment.network(seed, filters=filters) for seed in experiment.seeds]
