"""Table II: the exit threshold T against local exits, overall accuracy and bytes.

Source: Teerapittayanon et al. 2017, Section IV-D, Table II, and Eq. (1) for the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.tables import Cell, Table, estimate, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Table II: exit threshold"


def units(experiment: Experiment) -> list[Unit]:
    """The paper's network, MP-CC with all devices, for each seed."""
    return [experiment.network(seed) for seed in experiment.seeds]


def tables(experiment: Experiment) -> list[Table]:
    """The paper's eight thresholds, and the sweet spot: T chosen on validation, judged on test data."""
    rows: list[dict[str, Cell]] = []
    for printed in paper("table_2_threshold"):
        rows.append(
            {
                "T": f"{printed['T']:.1f}",
                **at_threshold(experiment, printed["T"]),
                "paper local exit %": printed["local_exit_pct"],
                "paper overall %": printed["overall_pct"],
                "paper bytes": printed["comm_bytes"],
            }
        )
    columns = list(rows[0])
    chosen = {"T": f"{sweet_spot(experiment)} (chosen)", **at_threshold(experiment, None)}
    rows.append({column: chosen.get(column) for column in columns})
    notes = (
        "Bytes per sample and device, Eq. (1). The last row is the sweet spot: for each seed the T of best "
        "accuracy on validation data (of equal ones that with the fewest bytes), judged on test data.",
    )
    return [Table("table_2", TITLE, rows, notes, frozenset({len(rows) - 1}))]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """None: its figure is Figure 7."""
    return {}


def at_threshold(experiment: Experiment, threshold: float | None) -> dict[str, Cell]:
    """Measures of the paper's network on test data at a threshold; None: at the chosen one."""
    given = None if threshold is None else {"local": threshold}
    found = [experiment.measure(unit, given) for unit in units(experiment)]
    return {
        "local exit %": percent([one.exit_shares["local"] for one in found]),
        "overall %": percent([one.overall_accuracy for one in found]),
        "bytes": estimate([one.bytes_per_sample for one in found]),
    }


def sweet_spot(experiment: Experiment) -> Cell:
    """The threshold chosen on validation data, over the seeds."""
    return estimate([experiment.thresholds(unit)["local"] for unit in units(experiment)])
