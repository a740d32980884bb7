"""The exact model, for HiGHS: products of binaries become flows.

A binary z[i, k, n] says that the run of layers i to k is on unit n, and y[n, n'] of a link that its first
task is on n and its second on n'. Every layer is in one run, and

    sum over n' of y[n, n'] = sum over runs on n that end with the link's first task
    sum over n of y[n, n']  = sum over runs on n' that begin with its second task

so the flows of a chain are a unit flow from run to run: for binary z they need not be binary, and without the
units' limits the linear relaxation is exact. A maximum becomes a variable that is at least each of its
branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.choices import Choices
from ddnn_tf.placement.problem import Floats, Problem

__all__ = ["MilpResult", "solve_milp"]


@dataclass(frozen=True)
class MilpResult:
    """What HiGHS found.

    Attributes:
        units: `(tasks,)` unit numbers; None without a solution.
        bound: Lower bound on the objective.
        is_infeasible: Whether it proved that there is no solution.
    """

    units: NDArray[np.int64] | None
    bound: float
    is_infeasible: bool


class _Rows:
    """Rows of a sparse matrix, collected as triplets."""

    def __init__(self) -> None:
        self.row: list[NDArray[np.int64]] = []
        self.column: list[NDArray[np.int64]] = []
        self.value: list[Floats] = []
        self.lower: list[Floats] = []
        self.upper: list[Floats] = []
        self.count = 0

    def add(self, lower: Floats | float, upper: Floats | float, rows: int = 1) -> NDArray[np.int64]:
        """New rows between two bounds; returns their numbers."""
        self.lower.append(np.broadcast_to(np.asarray(lower, np.float64), rows))
        self.upper.append(np.broadcast_to(np.asarray(upper, np.float64), rows))
        self.count += rows
        return np.arange(self.count - rows, self.count)

    def put(self, row: NDArray[np.int64], column: NDArray[np.int64], value: Floats | float) -> None:
        """Coefficients."""
        row, column, amount = np.broadcast_arrays(row, column, np.asarray(value, np.float64))
        self.row.append(row.ravel())
        self.column.append(column.ravel())
        self.value.append(amount.ravel())


def solve_milp(
    choices: Choices, *, start: NDArray[np.int64] | None, relative_gap: float, seconds: float
) -> MilpResult:
    """Solves a problem, or what bounds have left of it.

    Args:
        choices: The runs and steps to choose from.
        start: A known solution, if any.
        relative_gap: When to stop.
        seconds: When to stop at the latest.

    Raises:
        RuntimeError: HiGHS failed.
    """
    import highspy
    from scipy.sparse import csc_matrix

    problem, rows = choices.problem, _Rows()
    runs = _runs(choices)
    binaries = columns = len(runs)
    first, last, unit = runs.T
    # Every task is in one run.
    for task in range(len(problem.cost)):
        rows.put(rows.add(1, 1), np.flatnonzero((first <= task) & (task <= last)), 1)
    # What runs end with flows over the links to what they begin with.
    within = {task for chain in problem.chains for task in chain[:-1]}
    flows: list[NDArray[np.int64]] = []
    distance: list[Floats] = []
    for link, allowed in zip(problem.links, choices.steps, strict=True):
        is_step = link.first in within and link.second == link.first + 1
        ends, begins = choices.ends[link.first], choices.begins[link.second]
        one, two = np.nonzero(allowed)
        column = np.arange(columns, columns + len(one))
        columns += len(one)
        flows.append(column)
        distance.append(problem.hops[ends[one], begins[two]])
        for place, end, leaving in (
            (ends, one, last == link.first if is_step else (first <= link.first) & (link.first <= last)),
            (
                begins,
                two,
                first == link.second if is_step else (first <= link.second) & (link.second <= last),
            ),
        ):
            row = rows.add(0, 0, len(place))
            rows.put(row[end], column, 1)
            run = np.flatnonzero(leaving)
            rows.put(row[np.searchsorted(place, unit[run])], run, -1)
    sums = np.concatenate([np.zeros((len(problem.demand), 1)), np.cumsum(problem.demand, axis=1)], axis=1)
    demand = sums[:, last + 1] - sums[:, first]
    for resource, limits in enumerate(problem.capacity):
        for number in np.flatnonzero(np.isfinite(limits)):
            run = np.flatnonzero((unit == number) & (demand[resource] > 0))
            if demand[resource, run].sum() > problem.room[resource, number]:
                # Scaled, so that the solver's tolerance means the same for KB and for operations.
                rows.put(rows.add(-np.inf, 1), run, demand[resource, run] / limits[number])
    holders = np.empty(0, np.int64)
    if problem.exclusive:
        owner = problem.owner[first]
        pairs = np.unique(np.stack([unit, owner]), axis=1)
        holders = np.arange(columns, columns + pairs.shape[1])
        columns += len(holders)
        units = np.unique(unit)
        rows.put(rows.add(-np.inf, 1, len(units))[np.searchsorted(units, pairs[0])], holders, 1)
        holder = {(int(n), int(u)): column for (n, u), column in zip(pairs.T, holders, strict=True)}
        below = rows.add(-np.inf, 0, binaries)
        rows.put(below, np.arange(binaries), 1)
        rows.put(below, np.array([holder[int(n), int(u)] for n, u in zip(unit, owner, strict=True)]), -1)
    cost = np.zeros(columns)
    maxima = []
    for stage in problem.stages:
        is_maximum = len(stage.branches) > 1
        for branch in stage.branches:
            column, value = _terms(problem, runs, branch.tasks, problem.cost)
            chosen = [column] + [flows[link] for link in branch.links]
            values = [value] + [problem.links[link].per_hop * distance[link] for link in branch.links]
            if is_maximum:
                row = rows.add(-np.inf, 0)
                rows.put(row, np.concatenate(chosen), np.concatenate(values))
                rows.put(row, np.array([columns]), -1)
            else:
                np.add.at(cost, np.concatenate(chosen), stage.weight * np.concatenate(values))
        if is_maximum:
            cost = np.append(cost, stage.weight)
            maxima.append(columns)
            columns += 1
    if problem.budget is not None and np.isfinite(problem.budget.limit):
        scale = 1 / max(abs(problem.budget.limit), 1e-30)
        row = rows.add(-np.inf, problem.budget.limit * scale)
        column, value = _terms(problem, runs, tuple(range(len(problem.cost))), problem.budget.cost)
        rows.put(row, column, scale * value)
        for column, hops, per_hop in zip(flows, distance, problem.budget.per_hop, strict=True):
            rows.put(row, column, scale * per_hop * hops)

    matrix = csc_matrix(
        (np.concatenate(rows.value), (np.concatenate(rows.row), np.concatenate(rows.column))),
        shape=(rows.count, columns),
    )
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = columns, rows.count
    model.col_cost_ = cost
    model.col_lower_ = np.zeros(columns)
    upper = np.ones(columns)
    upper[maxima] = np.inf
    model.col_upper_ = upper
    model.row_lower_, model.row_upper_ = np.concatenate(rows.lower), np.concatenate(rows.upper)
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
    model.a_matrix_.value_ = matrix.data
    kinds = np.full(columns, highspy.HighsVarType.kContinuous)
    kinds[np.concatenate([np.arange(binaries), holders])] = highspy.HighsVarType.kInteger
    model.integrality_ = kinds.tolist()

    solver = highspy.Highs()
    for option, setting in (
        ("output_flag", False),
        ("mip_rel_gap", relative_gap),
        ("mip_abs_gap", 0.0),
        ("time_limit", max(seconds, 0.01)),
        ("random_seed", 0),
        ("mip_allow_restart", False),
    ):
        solver.setOptionValue(option, setting)
    solver.passModel(model)
    if start is not None:
        known = np.flatnonzero(_is_run_of(start, runs, problem)).astype(np.int32)
        solver.setSolution(len(known), known, np.ones(len(known)))
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return MilpResult(None, np.inf, True)
    info = solver.getInfo()
    found = None
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        taken = runs[np.array(solver.getSolution().col_value)[:binaries] > 0.5]
        found = np.empty(len(problem.cost), np.int64)
        for begin, end, number in taken:
            found[begin : end + 1] = number
    elif status not in (highspy.HighsModelStatus.kTimeLimit, highspy.HighsModelStatus.kInterrupt):
        raise RuntimeError(f"HiGHS ended with '{solver.modelStatusToString(status)}'.")
    return MilpResult(found, float(info.mip_dual_bound), False)


def _runs(choices: Choices) -> NDArray[np.int64]:
    """`(runs, 3)`: first task, last task and unit of every run that is left."""
    found = []
    for first, rows in enumerate(choices.spans):
        length, unit = np.nonzero(rows)
        found.append(np.stack([np.full(len(unit), first), first + length, unit], axis=1))
    return np.concatenate(found)


def _terms(
    problem: Problem, runs: NDArray[np.int64], tasks: Sequence[int], cost: Floats
) -> tuple[NDArray[np.int64], Floats]:
    """Columns of runs that hold some of the tasks, and the costs of these tasks there."""
    first, last, unit = runs.T
    counted = np.zeros(len(problem.cost), bool)
    counted[list(tasks)] = True
    values = np.where(counted[:, None] & np.isfinite(cost), cost, 0.0)
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    total = sums[last + 1, unit] - sums[first, unit]
    column = np.flatnonzero(total)
    return column, total[column]


def _is_run_of(units: NDArray[np.int64], runs: NDArray[np.int64], problem: Problem) -> NDArray[np.bool_]:
    """Which runs an assignment consists of."""
    heads = {chain.start for chain in problem.chains}
    tails = {chain.stop - 1 for chain in problem.chains}
    chosen = np.zeros(len(runs), bool)
    for at, (first, last, unit) in enumerate(runs):
        begins = first in heads or units[first - 1] != unit
        ends = last in tails or units[last + 1] != unit
        chosen[at] = begins and ends and bool((units[first : last + 1] == unit).all())
    return chosen
