"""Section IV-H: bytes against sending raw inputs to the cloud.

Source: Teerapittayanon et al. 2017, Section IV-H ("over 20x").
"""

from __future__ import annotations

from ddnn_tf.communication import raw_bytes
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns
from ddnn_tf.evaluation.paper import RAW_BYTES, paper
from ddnn_tf.evaluation.result_table import Cell, Table, estimate
from ddnn_tf.evaluation.trial import Trial

__all__ = ["tables", "trials"]

_TITLE = "Section IV-H: communication against raw offload"


def trials(experiment: Experiment) -> list[Trial]:
    """The paper's network for each seed."""
    return [experiment.network(seed) for seed in experiment.seeds]


def tables(experiment: Experiment) -> list[Table]:
    """Bytes per sample and device, the reduction factor, and what accuracy comes with it."""
    raw = raw_bytes(experiment.topology())
    printed = {row["T"]: row["comm_bytes"] for row in paper("table_2_threshold")}
    settings: list[tuple[str, float | None, float]] = [
        ("feature maps of all samples go to the cloud (T = 0)", 0.0, printed[0.1]),
        ("T chosen on validation data", None, printed[0.8]),
        ("every sample leaves at the local exit (T = 1)", 1.0, printed[1.0]),
    ]
    ours: list[dict[str, Cell]] = []
    for name, threshold, theirs in settings:
        thresholds = None if threshold is None else {"local": threshold}
        found = [experiment.measure(trial, thresholds) for trial in trials(experiment)]
        cost = estimate([each.bytes_per_sample for each in found])
        ours.append(
            {
                "what is sent": name,
                "bytes": cost,
                "reduction": raw / cost.mean,
                **accuracy_columns((OVERALL,), found, balance=experiment.shows_balance),
                "paper bytes": theirs,
                "paper reduction": RAW_BYTES / theirs,
            }
        )
    are_images = all(len(shape) == 3 for shape in experiment.data().shapes.values())
    sent: dict[str, Cell] = {
        "what is sent": "raw images" if are_images else "raw inputs",
        "bytes": raw,
        "reduction": 1.0,
        "paper bytes": RAW_BYTES,
        "paper reduction": 1.0,
    }
    rows: list[dict[str, Cell]] = [{column: sent.get(column) for column in ours[0]}, *ours]
    subject = "A raw image has" if are_images else "Raw inputs have a mean of"
    notes = (
        "Per sample and device; the reduction is that of the mean bytes.",
        f"{subject} {raw:g} bytes here, {RAW_BYTES} in the paper, whose chosen T is 0.8.",
    )
    return [Table("reduction", _TITLE, rows, notes, frozenset({2}))]


register_item(Item("reduction", order=90, title=_TITLE, trials=trials, tables=tables))
