"""Table I: local and cloud accuracy of the nine pairs of aggregation schemes.

Source: Teerapittayanon et al. 2017, Section IV-C, Table I.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.drawing import bars, canvas, legend
from ddnn_tf.evaluation.experiment import Experiment, Unit
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.tables import Table, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Table I: aggregation schemes"


def units(experiment: Experiment) -> list[Unit]:
    """Nine networks for each seed."""
    return [unit for row in paper("table_1_aggregation") for unit in _of(experiment, row["scheme"])]


def tables(experiment: Experiment) -> list[Table]:
    """One row per scheme, `local-cloud`; accuracies in percent."""
    rows = []
    for printed in paper("table_1_aggregation"):
        found = [experiment.measure(unit) for unit in _of(experiment, printed["scheme"])]
        rows.append(
            {
                "scheme": printed["scheme"],
                "local %": percent([one.local_accuracy for one in found]),
                "cloud %": percent([one.cloud_accuracy for one in found]),
                "overall %": percent([one.overall_accuracy for one in found]),
                "paper local %": printed["local_pct"],
                "paper cloud %": printed["cloud_pct"],
            }
        )
    notes = (
        "Scheme: aggregation at the local exit, then in the cloud. Overall: T chosen on validation data "
        "for each scheme and seed; the paper's table has no such column.",
    )
    best = max(range(len(rows)), key=lambda at: rows[at]["overall %"].mean)
    return [Table("table_1", TITLE, rows, notes, frozenset({best}))]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Ours beside the paper's, scheme by scheme."""
    rows = tables[0].rows
    figure, (axes,) = canvas(TITLE, "scheme (local-cloud)", "accuracy / %", size=(8.5, 3.8))
    names = ("local %", "paper local %", "cloud %", "paper cloud %")
    bars(
        axes, [str(row["scheme"]) for row in rows], {name[:-2]: [row[name] for row in rows] for name in names}
    )
    axes.set_ylim(bottom=40, top=108)
    legend(axes, columns=4)
    return {"table_1": figure}


def _of(experiment: Experiment, scheme: str) -> list[Unit]:
    local, upper = scheme.split("-")
    return [experiment.network(seed, local=local, upper=upper) for seed in experiment.seeds]
