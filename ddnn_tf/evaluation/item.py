"""What a table or figure of the report is, and the registry of all of them.

A new one is one module under `ddnn_tf/evaluation/items`, or a module of a user's own (see
`ddnn_tf.registry`), that ends with

    register_item(Item("my-table", order=200, title="My table", trials=trials, tables=tables))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddnn_tf.evaluation.experiment import Experiment
from ddnn_tf.evaluation.result_table import Table
from ddnn_tf.evaluation.trial import Trial
from ddnn_tf.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ITEMS", "Item", "items_in_order", "register_item"]


def _no_trials(experiment: Experiment) -> list[Trial]:
    return []


def _no_figures(tables: Sequence[Table]) -> dict[str, Figure]:
    return {}


def _no_obstacle(experiment: Experiment) -> str | None:
    return None


def _no_lines(tables: Sequence[Table]) -> list[str]:
    return []


@dataclass(frozen=True)
class Item:
    """A table or figure, as functions of an experiment.

    Attributes:
        name: Its name on the command line.
        order: Its place in the report; lower is earlier.
        title: Its heading.
        tables: Computes the results.
        trials: The networks that must be trained for them.
        first_trials: Those that must be trained before `trials` can tell which the others are.
        figures: Pictures of the tables, by file name.
        obstacle: Why the item makes no sense for the experiment's data; None: it does. May raise
            FileNotFoundError for data of its own that are unavailable.
        lines: The tables in a form that another program prints, for comparison.
        is_extra: Takes part only where it is named: it goes beyond the paper, and trains long.
    """

    name: str
    order: int
    title: str
    tables: Callable[[Experiment], list[Table]]
    trials: Callable[[Experiment], list[Trial]] = _no_trials
    first_trials: Callable[[Experiment], list[Trial]] = _no_trials
    figures: Callable[[Sequence[Table]], dict[str, Figure]] = _no_figures
    obstacle: Callable[[Experiment], str | None] = _no_obstacle
    lines: Callable[[Sequence[Table]], list[str]] = _no_lines
    is_extra: bool = False


ITEMS: Registry[Item] = Registry("table or figure", "ddnn_tf.evaluation.items")
"""Every table and figure, by the name that the command line takes."""


def register_item(item: Item) -> None:
    """Makes a table or figure known by its name.

    Raises:
        ValueError: Another one has that name.
    """
    ITEMS.register(item.name, item, item.tables.__module__)


def items_in_order() -> dict[str, Item]:
    """All tables and figures by name, in the order of the report."""
    items = [ITEMS[name] for name in ITEMS]
    return {item.name: item for item in sorted(items, key=lambda item: item.order)}
