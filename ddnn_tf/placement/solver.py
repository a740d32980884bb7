"""Solves placement problems: bound, search, prune, and a proof by HiGHS for the rest.

    >>> from ddnn_tf.placement import random_instance
    >>> from ddnn_tf.placement.problem import of_instance
    >>> outcome = solve_problem(of_instance(random_instance("single", seed=1)))
    >>> outcome.status, round(outcome.objective, 4)
    ('optimal', 1.6021)

A Lagrangian bound (`relaxation`) and a search for good placements (`heuristics`) prune nearly the whole
problem; HiGHS proves the optimum of the rest (`milp`). A problem that bound and search settle alone never
reaches HiGHS.
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

# Tuned on the reference's scenarios, seeds 0 to 9; none of them changes a result, only the time it takes.
_ROUNDS = 4  # of bounding and pruning
_ITERATIONS = 600  # subgradient steps of a round
_SMALL = 1500  # HiGHS solves this many steps sooner than another round bounds them
_WORTH = 0.7  # a round that leaves less than this share is worth another
_SHARE_FOR_BOUNDS = 0.3  # of the time limit; HiGHS gets the rest
_ORDERS = 6  # orders of the CNNs in which `construct` places them
_AT_ONCE = 2  # placements that are built at the same prices
_KICKS = 200  # random changes after a round
_KICKED = 3  # layers that a random change moves
_NOISE = 0.5  # most relative change of a price
_CLOSED = 1e-4  # no larger gap counts as optimal


@dataclass(frozen=True)
class Outcome:
    """The result of `solve_problem`.

    Attributes:
        units: `(tasks,)` int64, number of the unit of each task; None if the time ended without a solution.
        objective: Value of the solution; infinite without one.
        bound: Lower bound on the value of every solution.
        status: `optimal` if the gap is proven closed (at most 1e-4), `feasible` if a gap is left, `unknown`
            if the time ended without a solution.
        seconds: Duration of the search.
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
        """Bounds, searches and prunes by turns, as long as that helps; returns the bound."""
        relaxation, prices, bound = self.relaxation, self.relaxation.start(), -math.inf
        for _ in range(_ROUNDS):
            before = relaxation.choices.size
            raised, prices = raise_bound(
                relaxation, prices, self.value, self.look,
                iterations=_ITERATIONS, tolerance=relative_gap, deadline=deadline,
            )  # fmt: skip
            bound = max(bound, raised)
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
        """Searches from prices and their relaxed paths; returns the best value so far."""
        if self.problem.is_feasible(relaxed):
            self.offer(relaxed)
        for _ in range(_AT_ONCE):
            built = construct(self.relaxation, prices, next(self._orders))
            if built is not None and built.tobytes() not in self._seen:
                self._seen.add(built.tobytes())
                self.offer(improve(self.relaxation, prices, built))
        return self.value

    def shake(self, prices: Prices, deadline: float) -> None:
        """Changes the best solution, or the prices to build one from, at random, and improves the result."""
        generator = np.random.default_rng(len(self.problem.cost))
        for _ in range(_KICKS):
            if time.monotonic() > deadline:
                break
            units = self._kicked(generator) if self.problem.is_single else self._noisy(prices, generator)
            if units is not None:
                self.offer(improve(self.relaxation, prices, units))

    def _kicked(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """The best solution with a few layers moved to other units, and the layers there in their place."""
        assert self.units is not None
        units = self.units.copy()
        for task in generator.choice(len(units), min(len(units), _KICKED), replace=False):
            unit = generator.choice(self.relaxation.choices.units(int(task)))
            units[units == unit] = units[task]
            units[task] = unit
        return units

    def _noisy(self, prices: Prices, generator: np.random.Generator) -> NDArray[np.int64] | None:
        """A solution built at prices with random noise; None if it is known or does not fit."""
        noise = generator.uniform(1 - _NOISE, 1 + _NOISE, prices.unit.shape)
        built = construct(self.relaxation, replace(prices, unit=prices.unit * noise), next(self._orders))
        if built is None or built.tobytes() in self._seen:
            return None
        self._seen.add(built.tobytes())
        return built

    def offer(self, units: NDArray[np.int64]) -> None:
        """Keeps a placement if it is feasible and better than the best one so far."""
        if self.problem.is_feasible(units):
            value = self.problem.objective(units)
            if value < self.value:
                self.units, self.value = units, value


def solve_problem(problem: Problem, *, time_limit: float = 60.0, relative_gap: float = 1e-6) -> Outcome:
    """Solves a problem.

    Args:
        problem: The problem.
        time_limit: Seconds; when they end, the best solution so far is returned, with its bound.
        relative_gap: The search stops at a solution this close to the bound.

    Raises:
        InfeasibleError: The problem has no solution; the message names the violated limit.
        ValueError: The time limit is not positive, or the gap is not between 0 and 1.
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
        proven = result.units
        if proven is not None and problem.is_feasible(proven) and problem.objective(proven) < value:
            best, value = proven, problem.objective(proven)
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
