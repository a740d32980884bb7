"""Section IV-H: bytes against sending raw images to the cloud.

Source: Teerapittayanon et al. 2017, Section IV-H ("over 20x").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.communication import raw_bytes
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.paper import RAW_BYTES, paper
from ddnn_tf.evaluation.tables import Cell, Table, estimate, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Section IV-H: communication against raw offload"


def units(experiment: Experiment) -> list[Unit]:
    """The paper's network for each seed."""
    return [experiment.network(seed) for seed in experiment.seeds]


def tables(experiment: Experiment) -> list[Table]:
    """Bytes per sample and device, the reduction factor, and what accuracy comes with it."""
    raw = raw_bytes(experiment.topology())
    printed = {row["T"]: row["comm_bytes"] for row in paper("table_2_threshold")}
    settings: list[tuple[str, float | None, float | None]] = [
        ("feature maps of all samples go to the cloud (T = 0)", 0.0, printed[0.1]),
        ("T chosen on validation data", None, printed[0.8]),
        ("every sample leaves at the local exit (T = 1)", 1.0, printed[1.0]),
    ]
    rows: list[dict[str, Cell]] = [
        {
            "what is sent": "raw images",
            "bytes": float(raw),
            "reduction": 1.0,
            "overall %": None,
            "paper bytes": RAW_BYTES,
            "paper reduction": 1.0,
        }
    ]
    for name, threshold, theirs in settings:
        given = None if threshold is None else {"local": threshold}
        found = [experiment.measure(unit, given) for unit in units(experiment)]
        rows.append(
            {
                "what is sent": name,
                "bytes": estimate([one.bytes_per_sample for one in found]),
                "reduction": raw / estimate([one.bytes_per_sample for one in found]).mean,
                "overall %": percent([one.overall_accuracy for one in found]),
                "paper bytes": theirs,
                "paper reduction": None if theirs is None else RAW_BYTES / theirs,
            }
        )
    notes = (
        "Per sample and device; the reduction is that of the mean bytes.",
        f"A raw image has {raw} bytes here, {RAW_BYTES} in the paper, whose chosen T is 0.8.",
    )
    return [Table("reduction", TITLE, rows, notes, frozenset({2}))]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """None: four numbers need no picture."""
    return {}
