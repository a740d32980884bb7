"""What is still possible: runs of layers on a unit, and steps from unit to unit.

A CNN's way through the units is a sequence of runs: consecutive layers on one unit, as many as fit it, and
then a step to another unit. Told this way, a way that keeps no unit longer than it can is a plain path, so
bounds and model know that limit without any price or cut (with one layer a unit, the bound is fifty times
closer than that of a path of single layers which may stand still).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.problem import Problem

__all__ = ["Choices"]


class Choices:
    """Runs and steps that are left of a problem.

    Args:
        problem: The problem; at first all that its units' limits allow is left.

    Attributes:
        spans: By task, `(lengths, units)` bool: whether a run of so many layers (1, 2, ...) from there may be
            on a unit.
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
        """Steps and runs that are left."""
        return sum(int(each.sum()) for each in (*self.steps, *self.spans))

    def units(self, task: int) -> NDArray[np.int64]:
        """Units that a task may still be on."""
        chain = next(chain for chain in self.problem.chains if task in chain)
        possible = np.zeros(len(self.problem.hops), bool)
        for first in chain[: task - chain.start + 1]:
            possible |= self.spans[first][task - first :].any(axis=0)
        return np.flatnonzero(possible)

    def restrict(self, spans: list[NDArray[np.bool_]], steps: list[NDArray[np.bool_]]) -> None:
        """Leaves only some of what is left; both shaped as the attributes are now."""
        begins, ends = self.begins, self.ends
        self.spans = spans
        self._find_ends()
        for at, transfer in enumerate(self.problem.transfers):
            rows = np.isin(ends[transfer.first], self.ends[transfer.first])
            columns = np.isin(begins[transfer.second], self.begins[transfer.second])
            self.steps[at] = (self.steps[at] & steps[at])[np.ix_(rows, columns)]

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
