"""The exact model for HiGHS: flows take the place of products of binaries.

A binary z[i, k, n] says that the run of layers i to k is on unit n; y[n, n'] of a transfer says that its
first task is on n and its second on n'. Every layer is in one run, and

    sum over n' of y[n, n'] = sum over runs on n that end with the transfer's first task
    sum over n of y[n, n']  = sum over runs on n' that begin with its second task

so the flows of a chain are a unit flow from run to run: with z binary, y may be continuous, and without the
units' limits the linear relaxation is exact. A maximum becomes a variable that is at least the cost of each
branch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.choices import Choices
from ddnn_tf.placement.problem import Floats, Problem

__all__ = ["MilpResult", "solve_milp"]

_TOLERANCE = 1e-9  # of constraints, relative to the scaled limits
_ROOM = 1e-6  # far beyond rounding; overloads within it are forbidden one by one
_AGGREGATOR = 4096  # HiGHS 1.15's presolve rule of that name calls loads that fit exactly infeasible


@dataclass(frozen=True)
class MilpResult:
    """The result of HiGHS.

    Attributes:
        units: `(tasks,)` unit numbers; None without a solution.
        bound: Lower bound on the value of every solution.
        is_infeasible: Whether HiGHS proved that no solution exists.
    """

    units: NDArray[np.int64] | None
    bound: float
    is_infeasible: bool


def solve_milp(
    choices: Choices, *, start: NDArray[np.int64] | None, relative_gap: float, deadline: float
) -> MilpResult:
    """Solves a problem, or the part of it that bounds have not pruned.

    Args:
        choices: The runs and steps to choose from.
        start: A known solution `(tasks,)`, or None.
        relative_gap: HiGHS stops at a solution this close to its bound.
        deadline: Value of `time.monotonic()` at which it stops at the latest.

    Raises:
        RuntimeError: HiGHS failed.
    """
    model = _Model(choices)
    model.add_limits()
    model.add_holders()
    model.add_budget()
    model.add_objective()
    while True:
        result = _run(model, start, relative_gap, deadline, presolve="choose")
        # Presolve sometimes calls loads that fit exactly infeasible, so that verdict counts only without it.
        if result.is_infeasible:
            result = _run(model, start, relative_gap, deadline, presolve="off")
        if result.units is None or not model.forbid_overloads(result.units):
            return result
        if time.monotonic() > deadline:
            return MilpResult(None, result.bound, False)


def _run(
    model: _Model, start: NDArray[np.int64] | None, relative_gap: float, deadline: float, presolve: str
) -> MilpResult:
    import highspy

    solver = highspy.Highs()
    for option, setting in (
        ("output_flag", False),
        ("mip_rel_gap", relative_gap),
        ("mip_abs_gap", 0.0),
        # The default tolerances let a solution exceed limits, and lose flows, by a millionth.
        ("mip_feasibility_tolerance", _TOLERANCE),
        ("primal_feasibility_tolerance", _TOLERANCE),
        ("presolve", presolve),
        ("presolve_rule_off", _AGGREGATOR),
        ("time_limit", max(deadline - time.monotonic(), 0.01)),
        ("random_seed", 0),
        ("mip_allow_restart", False),
    ):
        solver.setOptionValue(option, setting)
    if solver.passModel(model.for_highs()) == highspy.HighsStatus.kError:
        raise RuntimeError("HiGHS rejected the model: its numbers differ by too many orders of magnitude.")
    if start is not None:
        known = np.flatnonzero(_is_run_of(start, model.runs, model.problem)).astype(np.int32)
        solver.setSolution(len(known), known, np.ones(len(known)))
    solver.run()
    status, states = solver.getModelStatus(), highspy.HighsModelStatus
    # Costs are never negative, so nothing is unbounded.
    if status in (states.kInfeasible, states.kUnboundedOrInfeasible):
        return MilpResult(None, np.inf, True)
    info = solver.getInfo()
    units = None
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        taken = model.runs[np.array(solver.getSolution().col_value)[: len(model.runs)] > 0.5]
        units = np.empty(len(model.problem.cost), np.int64)
        for begin, end, number in taken:
            units[begin : end + 1] = number
    elif status not in (states.kTimeLimit, states.kInterrupt):
        raise RuntimeError(f"HiGHS ended with '{solver.modelStatusToString(status)}'.")
    return MilpResult(units, float(info.mip_dual_bound) / model.scale, False)


class _Model:
    """Columns and rows of the model: runs (binary) first, then flows, then the rest.

    Args:
        choices: The runs and steps to choose from.
    """

    def __init__(self, choices: Choices) -> None:
        self.problem = choices.problem
        self.runs = _runs(choices)
        """`(runs, 3)`: first task, last task and unit."""
        self.scale = _scale(self.problem)
        """Factor on all costs that makes the solver's absolute tolerances small against them."""
        self._first, self._last, self._unit = self.runs.T
        self._columns = len(self.runs)
        self._integer = [np.arange(self._columns)]
        self._unlimited: list[int] = []
        self._cost: list[tuple[NDArray[np.int64], Floats]] = []
        self._row: list[NDArray[np.int64]] = []
        self._column: list[NDArray[np.int64]] = []
        self._value: list[Floats] = []
        self._lower: list[Floats] = []
        self._upper: list[Floats] = []
        self._rows = 0
        for task in range(len(self.problem.cost)):
            self._put(self._add(1, 1), np.flatnonzero(self._holds(task)), 1)
        self._flows: list[NDArray[np.int64]] = []
        self._distance: list[Floats] = []
        self._add_flows(choices)

    def add_limits(self) -> None:
        """Adds the limits of each unit on the runs there."""
        sums = np.cumsum(self.problem.demand, axis=1)
        sums = np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)
        demand = sums[:, self._last + 1] - sums[:, self._first]
        for resource, limits in enumerate(self.problem.capacity):
            for number in np.flatnonzero(np.isfinite(limits)):
                run = np.flatnonzero((self._unit == number) & (demand[resource] > 0))
                if demand[resource, run].sum() > self.problem.room[resource, number]:
                    # Relative, so that the solver's tolerance means the same for KB and for operations.
                    self._put(self._add(-np.inf, 1 + _ROOM), run, demand[resource, run] / limits[number])

    def forbid_overloads(self, units: NDArray[np.int64]) -> bool:
        """Forbids runs that exceed a limit together, within `_ROOM`; returns whether there are any."""
        over = (self.problem.load(units) > self.problem.room).any(axis=0)
        taken = _is_run_of(units, self.runs, self.problem)
        for number in np.flatnonzero(over):
            run = np.flatnonzero(taken & (self._unit == number))
            self._put(self._add(-np.inf, len(run) - 1), run, 1)
        return bool(over.any())

    def add_holders(self) -> None:
        """For exclusive units: each has at most one holder, and runs of its holder only."""
        if not self.problem.exclusive:
            return
        owner = self.problem.owner[self._first]
        pairs = np.unique(np.stack([self._unit, owner]), axis=1)
        holders = self._new(pairs.shape[1])
        self._integer.append(holders)
        units = np.unique(self._unit)
        one_each = self._add(-np.inf, 1, len(units))
        self._put(one_each[np.searchsorted(units, pairs[0])], holders, 1)
        holder = {(int(n), int(u)): column for (n, u), column in zip(pairs.T, holders, strict=True)}
        below = self._add(-np.inf, 0, len(self.runs))
        self._put(below, np.arange(len(self.runs)), 1)
        mine = np.array([holder[int(n), int(u)] for n, u in zip(self._unit, owner, strict=True)])
        self._put(below, mine, -1)

    def add_budget(self) -> None:
        """Adds the limit of the second cost."""
        budget = self.problem.budget
        if budget is None or not np.isfinite(budget.limit):
            return
        column, value = self._terms(range(len(budget.cost)), budget.cost, 1.0)
        chosen, values = [column], [value]
        for column, hops, per_hop in zip(self._flows, self._distance, budget.per_hop, strict=True):
            chosen.append(column)
            values.append(per_hop * hops)
        value = np.concatenate(values)
        largest = max(float(value.max(initial=0.0)), budget.limit)
        if largest > 0:
            row = self._add(-np.inf, budget.limit / largest)
            self._put(row, np.concatenate(chosen), value / largest)

    def add_objective(self) -> None:
        """Adds the cost of each phase: that of its only branch, or a variable above all of its branches."""
        for phase in self.problem.phases:
            most = None
            if len(phase.branches) > 1:
                most = self._new(1)
                self._unlimited.append(int(most[0]))
                self._cost.append((most, np.array([phase.weight])))
            for branch in phase.branches:
                column, value = self._terms(branch.tasks, self.problem.cost, self.scale)
                chosen, values = [column], [value]
                for transfer in branch.transfers:
                    chosen.append(self._flows[transfer])
                    values.append(
                        self.scale * self.problem.transfers[transfer].per_hop * self._distance[transfer]
                    )
                if most is None:
                    self._cost.append((np.concatenate(chosen), phase.weight * np.concatenate(values)))
                else:
                    row = self._add(-np.inf, 0)
                    self._put(row, np.concatenate(chosen), np.concatenate(values))
                    self._put(row, most, -1)

    def for_highs(self) -> Any:
        """The model in the form that HiGHS reads."""
        import highspy
        from scipy.sparse import csc_matrix

        entries = (np.concatenate(self._value), (np.concatenate(self._row), np.concatenate(self._column)))
        matrix = csc_matrix(entries, shape=(self._rows, self._columns))
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self._columns, self._rows
        cost, upper = np.zeros(self._columns), np.ones(self._columns)
        for column, value in self._cost:
            np.add.at(cost, column, value)
        upper[self._unlimited] = np.inf
        model.col_cost_, model.col_lower_, model.col_upper_ = cost, np.zeros(self._columns), upper
        model.row_lower_, model.row_upper_ = np.concatenate(self._lower), np.concatenate(self._upper)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
        model.a_matrix_.value_ = matrix.data
        types = np.full(self._columns, highspy.HighsVarType.kContinuous)
        types[np.concatenate(self._integer)] = highspy.HighsVarType.kInteger
        model.integrality_ = types.tolist()
        return model

    def _add_flows(self, choices: Choices) -> None:
        """Flows over each transfer: from runs that its first task ends to runs that its second begins."""
        for transfer, allowed in zip(self.problem.transfers, choices.steps, strict=True):
            ends, begins = choices.ends[transfer.first], choices.begins[transfer.second]
            leaving, entering = np.nonzero(allowed)
            flow = self._new(len(leaving))
            self._flows.append(flow)
            self._distance.append(self.problem.hops[ends[leaving], begins[entering]])
            leaves, enters = self._last == transfer.first, self._first == transfer.second
            if not self.problem.is_step(transfer):
                leaves, enters = self._holds(transfer.first), self._holds(transfer.second)
            for units, end, runs in ((ends, leaving, leaves), (begins, entering, enters)):
                row = self._add(0, 0, len(units))
                self._put(row[end], flow, 1)
                run = np.flatnonzero(runs)
                self._put(row[np.searchsorted(units, self._unit[run])], run, -1)

    def _holds(self, task: int) -> NDArray[np.bool_]:
        """Which runs contain a task, `(runs,)` bool."""
        return (self._first <= task) & (task <= self._last)

    def _terms(self, tasks: Sequence[int], cost: Floats, scale: float) -> tuple[NDArray[np.int64], Floats]:
        """Columns of runs that contain some of the tasks, and the scaled costs of these tasks there."""
        counted = np.zeros(len(cost), bool)
        counted[list(tasks)] = True
        values = np.where(counted[:, None] & np.isfinite(cost), cost, 0.0)
        sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
        total = sums[self._last + 1, self._unit] - sums[self._first, self._unit]
        column = np.flatnonzero(total)
        return column, scale * total[column]

    def _new(self, count: int) -> NDArray[np.int64]:
        """Adds columns, and returns their numbers."""
        self._columns += count
        return np.arange(self._columns - count, self._columns)

    def _add(self, lower: float, upper: float, count: int = 1) -> NDArray[np.int64]:
        """Adds rows between two bounds, and returns their numbers."""
        self._lower.append(np.full(count, float(lower)))
        self._upper.append(np.full(count, float(upper)))
        self._rows += count
        return np.arange(self._rows - count, self._rows)

    def _put(self, row: NDArray[np.int64], column: NDArray[np.int64], value: Floats | float) -> None:
        """Sets coefficients."""
        row, column, amount = np.broadcast_arrays(row, column, np.asarray(value, np.float64))
        self._row.append(row)
        self._column.append(column)
        self._value.append(amount)


def _scale(problem: Problem) -> float:
    """Factor that brings the least cost of all tasks together to 100."""
    finite = np.where(np.isfinite(problem.cost), problem.cost, np.nan)
    hops = max((transfer.per_hop for transfer in problem.transfers), default=0.0)
    size = float(np.nansum(np.nanmin(finite, axis=1))) or float(np.nanmax(finite)) or hops
    return 100.0 / size if size > 0 else 1.0


def _runs(choices: Choices) -> NDArray[np.int64]:
    """`(runs, 3)`: first task, last task and unit of every run that is left."""
    runs = []
    for first, rows in enumerate(choices.spans):
        length, unit = np.nonzero(rows)
        runs.append(np.stack([np.full(len(unit), first), first + length, unit], axis=1))
    return np.concatenate(runs)


def _is_run_of(units: NDArray[np.int64], runs: NDArray[np.int64], problem: Problem) -> NDArray[np.bool_]:
    """Which runs an assignment consists of, `(runs,)` bool."""
    heads = {chain.start for chain in problem.chains}
    tails = {chain.stop - 1 for chain in problem.chains}
    chosen = np.zeros(len(runs), bool)
    for index, (first, last, unit) in enumerate(runs):
        begins = first in heads or units[first - 1] != unit
        ends = last in tails or units[last + 1] != unit
        chosen[index] = begins and ends and bool((units[first : last + 1] == unit).all())
    return chosen
