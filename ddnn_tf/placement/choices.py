"""Decisions that are still open: runs of layers on a unit, and steps from unit to unit.

The path of a CNN through the units is a sequence of runs and steps: a run is a number of consecutive layers
that fit one unit, and a step leads to another unit. So every path keeps the limits within each run, and
bounds and model need neither prices nor cuts for them. With one layer per unit, the bound is fifty times
closer than with steps that may stay on the unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.problem import Problem

__all__ = ["Choices"]


class Choices:
    """The runs and steps of a problem that are not pruned.

    Args:
        problem: The problem; at first nothing is pruned but what exceeds the units' limits.

    Attributes:
        spans: By task, `(lengths, units)` bool: whether a run of 1, 2, ... layers that begins with the task
            may be on a unit.
        begins: By task, units on which a run may begin with it.
        ends: By task, units on which a run may end with it.
        steps: By transfer, `(first's ends, second's begins)` bool. Within a chain a step leads to another
            unit.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.spans = self._all_spans()
        self.begins: list[NDArray[np.int64]] = []
        self.ends: list[NDArray[np.int64]] = []
        self.steps: list[NDArray[np.bool_]] = []
        self._find_ends()
        for transfer in problem.transfers:
            apart = self.ends[transfer.first][:, None] != self.begins[transfer.second][None]
            if not problem.is_step(transfer):
                apart |= problem.together(transfer)[self.ends[transfer.first]][:, None]
            self.steps.append(apart)

    @property
    def size(self) -> int:
        """Number of steps and runs that are left."""
        return sum(int(each.sum()) for each in (*self.steps, *self.spans))

    def units(self, task: int) -> NDArray[np.int64]:
        """Numbers of the units that a task may be on."""
        chain = next(chain for chain in self.problem.chains if task in chain)
        possible = np.zeros(len(self.problem.hops), bool)
        for first in chain[: task - chain.start + 1]:
            possible |= self.spans[first][task - first :].any(axis=0)
        return np.flatnonzero(possible)

    def restrict(self, spans: list[NDArray[np.bool_]], steps: list[NDArray[np.bool_]]) -> None:
        """Prunes runs and steps; both arguments have the shapes of the attributes, and False prunes."""
        begins, ends = self.begins, self.ends
        self.spans = spans
        self._find_ends()
        for index, transfer in enumerate(self.problem.transfers):
            rows = np.isin(ends[transfer.first], self.ends[transfer.first])
            columns = np.isin(begins[transfer.second], self.begins[transfer.second])
            self.steps[index] = (self.steps[index] & steps[index])[np.ix_(rows, columns)]

    def _all_spans(self) -> list[NDArray[np.bool_]]:
        problem = self.problem
        fits = np.isfinite(problem.cost)
        spans = []
        for chain in problem.chains:
            for first in chain:
                rows = []
                load, possible = np.zeros(len(problem.demand)), np.ones(fits.shape[1], bool)
                for task in range(first, chain.stop):
                    load = load + problem.demand[:, task]
                    possible = possible & fits[task] & (load[:, None] <= problem.room).all(axis=0)
                    if not possible.any():
                        break
                    rows.append(possible)
                spans.append(np.array(rows or [possible]))
        return spans

    def _find_ends(self) -> None:
        count = len(self.problem.hops)
        ends = np.zeros((len(self.spans), count), bool)
        for first, rows in enumerate(self.spans):
            for length, row in enumerate(rows):
                ends[first + length] |= row
        self.begins = [np.flatnonzero(rows.any(axis=0)) for rows in self.spans]
        self.ends = [np.flatnonzero(row) for row in ends]
