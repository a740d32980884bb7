"""Table I: local and cloud accuracy of the nine pairs of aggregation schemes.

Schemes that a user registers follow below the paper's: each in place of MP at the local exit, and in place of
CC in the cloud.

Source: Teerapittayanon et al. 2017, Section IV-C, Table I.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.drawing import bars, canvas, legend
from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns, column
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Cell, Table, mean
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.schemes import SCHEMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "schemes", "tables", "trials"]

_TITLE = "Table I: aggregation schemes"


def schemes() -> list[tuple[str, str]]:
    """Pairs of schemes, at the local exit and above: the paper's nine, then those of others."""
    pairs = [_pair(row["scheme"]) for row in paper("table_1_aggregation")]
    known = {name for pair in pairs for name in pair}
    others = [name for name in SCHEMES if name not in known]
    # A wide scheme makes no class vector, so it cannot stand at the local exit.
    local = [(name, "CC") for name in others if not SCHEMES[name].is_wide]
    return [*pairs, *local, *(("MP", name) for name in others)]


def trials(experiment: Experiment) -> list[Trial]:
    """A network for each pair of schemes and seed."""
    return [trial for pair in schemes() for trial in _of(experiment, pair)]


def tables(experiment: Experiment) -> list[Table]:
    """One row per pair, `local-cloud`; accuracies in percent."""
    printed = {_pair(row["scheme"]): row for row in paper("table_1_aggregation")}
    rows: list[dict[str, Cell]] = []
    for pair in schemes():
        found = [experiment.measure(trial) for trial in _of(experiment, pair)]
        theirs = printed.get(pair, {})
        rows.append(
            {
                "scheme": "-".join(pair),
                **accuracy_columns(("local", "cloud", OVERALL), found, balance=experiment.shows_balance),
                "paper local %": theirs.get("local_pct"),
                "paper cloud %": theirs.get("cloud_pct"),
            }
        )
    notes = (
        "Scheme: aggregation at the local exit, then in the cloud. Overall: T chosen on validation data "
        "for each scheme and seed; the paper's table has no such column.",
    )
    judged = column(OVERALL, balanced=experiment.balance)
    best = max(range(len(rows)), key=lambda number: mean(rows[number][judged]))
    return [Table("table_1", _TITLE, rows, notes, frozenset({best}))]


def figures(tables: Sequence[Table]) -> dict[str, Figure]:
    """Ours beside the paper's, scheme by scheme."""
    rows = [row for row in tables[0].rows if row["paper local %"] is not None]
    figure, (axes,) = canvas(_TITLE, "scheme (local-cloud)", "accuracy / %", size=(8.5, 3.8))
    names = ("local", "paper local", "cloud", "paper cloud")
    groups: dict[str, Sequence[Cell]] = {name: [row[f"{name} %"] for row in rows] for name in names}
    bars(axes, [str(row["scheme"]) for row in rows], groups)
    axes.set_ylim(bottom=40, top=108)
    legend(axes, columns=4)
    return {"table_1": figure}


def _pair(printed: str) -> tuple[str, str]:
    """A pair of schemes as the paper prints it, e.g. `MP-CC`."""
    local, upper = printed.split("-")
    return local, upper


def _of(experiment: Experiment, pair: tuple[str, str]) -> list[Trial]:
    local, upper = pair
    return [experiment.network(seed, local=local, upper=upper) for seed in experiment.seeds]


register_item(Item("table-1", order=20, title=_TITLE, trials=trials, tables=tables, figures=figures))
