"""Solves placement problems: bound, search, leave out, and prove with HiGHS what is left.

    >>> solution = solve(random_instance("mixed", seed=1))
    >>> solution.status, solution.latency_s, solution.gap

A Lagrangian bound and a search for good placements (`relaxation`, `heuristics`) leave out nearly all of the
problem; HiGHS proves the optimum of the rest (`milp`). What bound and search settle alone, HiGHS never sees.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.choices import Choices
from ddnn_tf.placement.feasibility import InfeasibleError, check_feasible, explain_infeasible
from ddnn_tf.placement.heuristics import construct, improve
from ddnn_tf.placement.milp import solve_milp
from ddnn_tf.placement.problem import Problem
from ddnn_tf.placement.relaxation import Prices, Relaxation, raise_bound

__all__ = ["Outcome", "Status", "solve_problem"]

Status = Literal["optimal", "feasible", "unknown"]

_ROUNDS = 4
_ITERATIONS = 600
_SMALL = 1500  # steps that HiGHS settles sooner than another round of bounds
_WORTH = 0.7  # a round that left less than this is worth another
_SHARE_FOR_BOUNDS = 0.3
_ORDERS = 6
_AT_ONCE = 2
_KICKS = 200
_KICKED = 3
_NOISE = 0.5
_CLOSED = 1e-4  # a larger gap is nowhere called optimal


@dataclass(frozen=True)
class Outcome:
    """What `solve_problem` found.

    Attributes:
        units: `(tasks,)` unit numbers; None if none was found in time.
        objective: Its value; infinite without one.
        bound: No solution is better than this.
        status: `optimal` if the gap is proven closed (to 1e-4 at most), `feasible` if a gap is left,
            `unknown` if time ran out without a solution.
        seconds: How long it took.
    """

    units: NDArray[np.int64] | None
    objective: float
    bound: float
    status: Status
    seconds: float

    @property
    def gap(self) -> float:
        """Relative distance of objective and bound; infinite without a solution."""
        if self.units is None:
            return math.inf
        return max(0.0, self.objective - self.bound) / max(abs(self.objective), 1e-12)


class _Search:
    """The best solution so far, and the heuristics that look for better ones."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.relaxation = problem, Relaxation(problem)
        self.units: NDArray[np.int64] | None = None
        self.value = math.inf
        self._seen: set[bytes] = set()
        orders = itertools.permutations(range(len(problem.chains)))
        self._orders = itertools.cycle(itertools.islice(orders, _ORDERS))

    def run(self, relative_gap: float, deadline: float) -> float:
        """Bounds, searches and leaves out by turns, while that helps; returns the bound."""
        relaxation, prices, bound = self.relaxation, self.relaxation.start(), -math.inf
        for _ in range(_ROUNDS):
            before = relaxation.choices.size
            found, prices = raise_bound(
                relaxation, prices, self.value, self.look,
                iterations=_ITERATIONS, tolerance=relative_gap, deadline=deadline,
            )  # fmt: skip
            bound = max(bound, found)
            if self.units is None or self.value - bound <= relative_gap * abs(self.value):
                break
            relaxation.prune(prices, self.value)
            self.shake(prices, deadline)
            relaxation.no_return = self.problem.is_single
            after = relaxation.choices.size
            if after < _SMALL or after > _WORTH * before or time.monotonic() > deadline:
                break
        return bound

    def look(self, prices: Prices, relaxed: NDArray[np.int64]) -> float:
        """Looks for a better solution at some prices, and from their paths; returns the best value so far."""
        if self.problem.is_feasible(relaxed):
            self.offer(relaxed)
        for _ in range(_AT_ONCE):
            built = construct(self.relaxation, prices, next(self._orders))
            if built is not None and built.tobytes() not in self._seen:
                self._seen.add(built.tobytes())
                self.offer(improve(self.relaxation, prices, built))
        return self.value

    def shake(self, prices: Prices, deadline: float) -> None:
        """Changes the best solution, or the prices to build one at, at random, and improves the outcome."""
        generator = np.random.default_rng(len(self.problem.cost))
        for _ in range(_KICKS):
            if time.monotonic() > deadline:
                break
            units = self._kicked(generator) if self.problem.is_single else self._noisy(prices, generator)
            if units is not None:
                self.offer(improve(self.relaxation, prices, units))

    def _kicked(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """The best solution with a few layers on other units still in question; who is there gives way."""
        assert self.units is not None
        units = self.units.copy()
        for task in generator.choice(len(units), min(len(units), _KICKED), replace=False):
            unit = generator.choice(self.relaxation.choices.units(int(task)))
            units[units == unit] = units[task]
            units[task] = unit
        return units

    def _noisy(self, prices: Prices, generator: np.random.Generator) -> NDArray[np.int64] | None:
        """A solution built at prices that are a little off."""
        noise = generator.uniform(1 - _NOISE, 1 + _NOISE, prices.unit.shape)
        built = construct(self.relaxation, replace(prices, unit=prices.unit * noise), next(self._orders))
        if built is None or built.tobytes() in self._seen:
            return None
        self._seen.add(built.tobytes())
        return built

    def offer(self, units: NDArray[np.int64]) -> None:
        """Takes a placement if it keeps all limits and is better."""
        if self.problem.is_feasible(units):
            value = self.problem.objective(units)
            if value < self.value:
                self.units, self.value = units, value


def solve_problem(problem: Problem, *, time_limit: float = 60.0, relative_gap: float = 1e-6) -> Outcome:
    """Solves a problem.

    Args:
        problem: The problem.
        time_limit: Seconds; afterwards the best solution so far is returned, with its bound.
        relative_gap: When to stop: at a solution this close to the bound.

    Raises:
        InfeasibleError: There is no solution; the message names the limit that breaks.
        ValueError: A time limit that is not positive, or a gap that is not between 0 and 1.
    """
    for name, limit, most in (("time_limit", time_limit, math.inf), ("relative_gap", relative_gap, 1.0)):
        if not 0 < limit < most:
            raise ValueError(f"Expected `{name}` to be positive{_below(most)}, but got {limit}.")
    start = time.monotonic()
    check_feasible(problem)
    deadline = start + time_limit
    search = _Search(problem) if problem.is_chains else None
    bound = -math.inf if search is None else search.run(relative_gap, start + _SHARE_FOR_BOUNDS * time_limit)
    best, value = (None, math.inf) if search is None else (search.units, search.value)
    if best is None or value - bound > relative_gap * abs(value):
        result = solve_milp(
            Choices(problem) if search is None else search.relaxation.choices,
            start=best,
            relative_gap=relative_gap,
            deadline=deadline,
        )
        if result.is_infeasible and best is None:
            raise InfeasibleError(explain_infeasible(problem))
        found = result.units
        if found is not None and problem.is_feasible(found) and problem.objective(found) < value:
            best, value = found, problem.objective(found)
        bound = max(bound, result.bound)
    bound = min(max(bound, 0.0), value)  # costs are never negative
    if best is None:
        status: Status = "unknown"
    else:
        is_closed = value - bound <= min(relative_gap, _CLOSED) * abs(value)
        status = "optimal" if is_closed else "feasible"
    return Outcome(best, value, bound, status, time.monotonic() - start)


def _below(most: float) -> str:
    return "" if math.isinf(most) else f" and below {most:g}"
