"""Table II: the exit threshold T against local exits, overall accuracy and bytes.

Source: Teerapittayanon et al. 2017, Section IV-D, Table II, and Eq. (1) for the bytes.
"""

from __future__ import annotations

from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.item import Item, register_item
from ddnn_tf.evaluation.measures import OVERALL, accuracy_columns
from ddnn_tf.evaluation.paper import paper
from ddnn_tf.evaluation.result_table import Cell, Table, estimate, percent
from ddnn_tf.evaluation.trial import Trial

__all__ = ["at_threshold", "recall", "sweet_spot", "tables", "trials"]

_TITLE = "Table II: exit threshold"


def trials(experiment: Experiment) -> list[Trial]:
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
    chosen = {"T": f"{sweet_spot(experiment)} (chosen)", **at_threshold(experiment, None)}
    rows.append({column: chosen.get(column) for column in rows[0]})
    notes = (
        "Bytes per sample and device, Eq. (1). The last row is the sweet spot: for each seed the T of best "
        "accuracy on validation data (of equal ones that with the fewest bytes), judged on test data.",
    )
    return [Table("table_2", _TITLE, rows, notes, frozenset({len(rows) - 1})), recall(experiment)]


def recall(experiment: Experiment) -> Table:
    """The share of each class's test samples that is classified right, at the chosen thresholds."""
    found = [experiment.measure(trial) for trial in trials(experiment)]
    rows: list[dict[str, Cell]] = []
    for label, name in enumerate(experiment.data().class_names):
        # A class may have no test samples with some seed.
        by_seed = [each.class_recall[label] for each in found if each.class_recall[label] is not None]
        rows.append({"class": name, "recall %": percent(by_seed) if by_seed else None})
    notes = ("Each sample classified where it leaves; the mean of the classes is the balanced accuracy.",)
    return Table("table_2_recall", "Recall of each class", rows, notes)


def at_threshold(experiment: Experiment, threshold: float | None) -> dict[str, Cell]:
    """Measures of the paper's network on test data at a threshold; None: at the chosen one."""
    thresholds = None if threshold is None else {"local": threshold}
    found = [experiment.measure(trial, thresholds) for trial in trials(experiment)]
    return {
        "local exit %": percent([each.exit_shares["local"] for each in found]),
        **accuracy_columns((OVERALL,), found, balance=experiment.shows_balance),
        "bytes": estimate([each.bytes_per_sample for each in found]),
    }


def sweet_spot(experiment: Experiment) -> Cell:
    """The threshold chosen on validation data, over the seeds."""
    return estimate([experiment.thresholds(trial)["local"] for trial in trials(experiment)])


register_item(Item("table-2", order=30, title=_TITLE, trials=trials, tables=tables))
