"""Why an instance has no placement: the layer and the limit.

`check_feasible` tests what is easy to see: layers that fit no unit, limits that are too small in total, too
few units for the layers that need large ones. For all other cases, `explain_infeasible` finds the smallest
excess over one kind of limit that would make a placement possible.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.problem import RESOURCES, Floats, Problem

__all__ = ["InfeasibleError", "check_feasible", "explain_infeasible"]

_MEASURES = ("KB of memory", "million operations")
_FIELDS = ("memory_kb", "compute_limit_mop")
_SECONDS = 2.0  # an explanation is not worth a longer wait


class InfeasibleError(ValueError):
    """No placement keeps all limits."""


def check_feasible(problem: Problem) -> None:
    """Checks necessary conditions of a placement.

    Raises:
        InfeasibleError: A layer fits no unit, or the units' limits together are too small.
    """
    fits = np.isfinite(problem.cost)
    for task in np.flatnonzero(~fits.any(axis=1)):
        for resource, (measure, field) in enumerate(zip(_MEASURES, _FIELDS, strict=True)):
            if not (problem.demand[resource, task] <= problem.room[resource]).any():
                largest = int(problem.capacity[resource].argmax())
                raise InfeasibleError(
                    f"No placement: {problem.task_names[task]} needs "
                    f"{problem.demand[resource, task]:g} {measure}, but the largest unit, "
                    f"{problem.unit_names[largest]}, has {problem.capacity[resource, largest]:g} "
                    f"('{field}'). Add a larger unit, or split the {problem.noun}."
                )
        raise InfeasibleError(
            f"No placement: {problem.task_names[task]} fits no unit; the 'compute_limit_mop' of those "
            f"with enough memory is too small. Add a larger unit, or split the {problem.noun}."
        )
    for resource in range(len(RESOURCES)):
        measure, field = _words(problem, resource)
        needed, there = problem.demand[resource].sum(), problem.room[resource].sum()
        if needed > there:
            raise InfeasibleError(
                f"No placement: all {problem.noun}s together need {needed:g} {measure}, but all units "
                f"together hold {problem.capacity[resource].sum():g} ('{field}'). Add units, or raise it."
            )
    _check_large(problem, fits)


def _check_large(problem: Problem, fits: NDArray[np.bool_]) -> None:
    """Checks that large units have room for all layers that fit no other unit.

    Raises:
        InfeasibleError: Some layers fit too few units.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    tasks = len(problem.cost)
    offers = np.minimum(problem.capacity[RESOURCES.index("layers")], tasks).astype(np.int64)
    place = np.repeat(np.arange(len(offers)), offers)
    matched = maximum_bipartite_matching(csr_matrix(fits[:, place]), perm_type="column")
    if (matched >= 0).all():
        return
    # From a layer without a place, all that alternating paths reach are too many for too few units (Hall).
    crowd = {int(np.flatnonzero(matched < 0)[0])}
    reached: set[int] = set()
    holder = {int(column): task for task, column in enumerate(matched) if column >= 0}
    todo = list(crowd)
    while todo:
        for column in np.flatnonzero(fits[todo.pop(), place]):
            if int(column) not in reached:
                reached.add(int(column))
                task = holder.get(int(column))
                if task is not None and task not in crowd:
                    crowd.add(task)
                    todo.append(task)
    units = sorted({int(place[column]) for column in reached})
    raise InfeasibleError(
        f"No placement: {len(crowd)} {problem.noun}s "
        f"({_listed([problem.task_names[task] for task in sorted(crowd)])}) fit only {len(units)} units "
        f"({_listed([problem.unit_names[unit] for unit in units])}), which take {len(reached)} "
        f"{problem.noun}s ('{problem.noun}s_per_unit'). Add units that can hold them, or raise it."
    )


def explain_infeasible(problem: Problem) -> str:
    """Why a problem that passes `check_feasible` has no placement; the explanation names the limit."""
    excesses = []
    if problem.budget is not None and _least_excess(problem, None, exclusive=problem.exclusive) == 0:
        return f"No placement takes at most {problem.budget.limit:g} J ('energy_limit_j'): raise that limit."
    if problem.exclusive and _least_excess(problem, None, exclusive=False) == 0:
        return (
            "No placement: the units have too little room as long as each serves one CNN ('shared: false'), "
            "but enough if CNNs share them. Add units, or share them."
        )
    for resource in range(len(RESOURCES)):
        excess = _least_excess(problem, resource, exclusive=problem.exclusive)
        if np.isfinite(excess) and excess > 0:
            measure, field = _words(problem, resource)
            excesses.append(f"{excess:g} {measure} more ('{field}')")
    if not excesses:
        return "No placement: several limits are too small at once. Add units, or raise their limits."
    return (
        f"No placement: the {problem.noun}s fit the units one by one, and in total, but not all at once. It "
        f"would take {' or '.join(excesses)}, on units that can hold them one by one. Add units, or raise "
        "their limits."
    )


def _least_excess(problem: Problem, lifted: int | None, *, exclusive: bool) -> float:
    """The least total excess over one kind of limit that makes a placement possible, or infinity."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_matrix

    task, unit = np.nonzero(np.isfinite(problem.cost))
    tasks, units = problem.cost.shape
    owners = np.unique(problem.owner)
    columns = len(task)
    own = columns + units  # after x and the excess of each unit, who holds which unit
    total = own + (len(owners) * units if exclusive else 0)
    x_columns = np.arange(columns)

    def rows(values: Floats, row: NDArray[np.int64], column: NDArray[np.int64], count: int) -> Any:
        return coo_matrix((values, (row, column)), shape=(count, total))

    constraints = [LinearConstraint(rows(np.ones(columns), task, x_columns, tasks), 1, 1)]
    for resource in range(len(RESOURCES)):
        scale = np.maximum(problem.capacity[resource], 1e-9)
        finite = np.isfinite(scale)
        scale = np.where(finite, scale, 1.0)
        values = np.where(finite[unit], problem.demand[resource, task] / scale[unit], 0.0)
        matrix = rows(values, unit, x_columns, units)
        if resource == lifted:
            matrix = matrix + rows(-1 / scale, np.arange(units), columns + np.arange(units), units)
        constraints.append(LinearConstraint(matrix, -np.inf, 1 + 1e-9))
    if exclusive:
        holds = own + np.searchsorted(owners, problem.owner[task]) * units + unit
        ones = np.ones(columns)
        constraints.append(
            LinearConstraint(
                rows(ones, x_columns, x_columns, columns) - rows(ones, x_columns, holds, columns), -np.inf, 0
            )
        )
        every = np.arange(own, total)
        constraints.append(
            LinearConstraint(rows(np.ones(len(every)), (every - own) % units, every, units), -np.inf, 1)
        )
    goal = np.zeros(total)
    goal[columns:own] = 1
    upper = np.ones(total)
    upper[columns:own] = np.inf if lifted is not None else 0
    integer = np.ones(total)
    integer[columns:own] = 0
    result = milp(
        goal, constraints=constraints, bounds=Bounds(0, upper), integrality=integer,
        options={"time_limit": _SECONDS},
    )  # fmt: skip
    return np.inf if result.x is None else float(np.round(result.fun, 6))


def _words(problem: Problem, resource: int) -> tuple[str, str]:
    """The measure of a resource, and the field of its limit."""
    if resource < len(_FIELDS):
        return _MEASURES[resource], _FIELDS[resource]
    return f"{problem.noun}s", f"{problem.noun}s_per_unit"


def _listed(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
