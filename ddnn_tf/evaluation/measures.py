"""Accuracies of several evaluations as columns of a table, by seed or as means with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.result_table import Cell, percent

if TYPE_CHECKING:
    from ddnn_tf.evaluation.accuracy import Evaluation

__all__ = ["OVERALL", "accuracies", "accuracy_columns", "column"]

OVERALL = "overall"
"""Name of the accuracy of all samples, each classified where it leaves."""


def accuracies(evaluation: Evaluation, *, balanced: bool = False) -> dict[str, float]:
    """Accuracy of each tier with an exit, by its name, and `OVERALL`; fractions.

    Args:
        evaluation: What was measured.
        balanced: The mean over the classes in place of the mean over the samples.
    """
    if balanced:
        return {**evaluation.exit_balanced_accuracy, OVERALL: evaluation.overall_balanced_accuracy}
    return {**evaluation.exit_accuracy, OVERALL: evaluation.overall_accuracy}


def column(name: str, *, balanced: bool = False) -> str:
    """Name of the column of an accuracy in percent.

    Args:
        name: A tier, `OVERALL`, `individual`, ...
        balanced: Whether the column holds balanced accuracy.
    """
    return f"{name} balanced %" if balanced else f"{name} %"


def accuracy_columns(
    names: Sequence[str], evaluations: Sequence[Evaluation], *, balance: bool
) -> dict[str, Cell]:
    """A column for each accuracy, and one of balanced accuracy beside it where classes are unequal.

    Args:
        names: Tiers and `OVERALL`, in the order of the columns.
        evaluations: One per seed.
        balance: Whether there are columns of balanced accuracy.

    Raises:
        ValueError: A tier that the networks do not have.
    """
    kinds = (False, True) if balance else (False,)
    columns: dict[str, Cell] = {}
    for name in names:
        for balanced in kinds:
            by_seed: list[Mapping[str, float]] = [accuracies(each, balanced=balanced) for each in evaluations]
            columns[column(name, balanced=balanced)] = percent([values.get(name) for values in by_seed])
    return columns
