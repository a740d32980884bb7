"""Latency against energy: placements of which none is better in both.

    >>> for solution in pareto_front(instance, points=5):
    ...     print(solution.latency_s, solution.energy_j)

Between the fastest placement and the most frugal one, limits of energy at equal distances; at each, the
fastest placement within the limit (the epsilon-constraint method, Haimes, Lasdon and Wismer 1971).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddnn_tf.placement.instance import Instance
from ddnn_tf.placement.problem import Budget, Problem, energy_of, minimising, of_instance
from ddnn_tf.placement.solution import Solution, solution_of, solve
from ddnn_tf.placement.solver import Outcome, solve_problem

__all__ = ["pareto_front"]

_ROUNDING = 1e-6


def pareto_front(
    instance: Instance, points: int = 10, *, time_limit: float = 60.0, relative_gap: float = 1e-6
) -> list[Solution]:
    """Finds placements from the fastest to the most frugal.

    Args:
        instance: Its units and hops must cost energy (`energy_j_mop`, `energy_j_kb`).
        points: How many limits of energy, at least 2.
        time_limit: Seconds for each.
        relative_gap: As for `solve`.

    Returns:
        At most `points` solutions by rising latency and falling energy. Their `status` says whether each
        is proven.

    Raises:
        ValueError: Fewer than two points, or nothing costs energy.
        InfeasibleError: As `solve`.
    """
    if points < 2:
        raise ValueError(f"Expected `points` to be at least 2, but got {points}.")
    if not instance.energy_j_kb and not any(unit.energy_j_mop for unit in instance.units):
        raise ValueError(
            "Expected an instance whose units cost energy, but 'energy_j_mop' of every unit and "
            "'energy_j_kb' are 0: set them in the instance."
        )
    options = {"time_limit": time_limit, "relative_gap": relative_gap}
    problem = of_instance(instance)
    energy = minimising(problem, energy_of(instance, problem))
    least = solve_problem(energy, **options)
    fastest = _frugal(instance, energy, solve(instance, **options), options)
    if fastest.energy_j is None or least.units is None:
        return []
    found = [fastest]
    for limit in np.linspace(fastest.energy_j, least.objective, points)[1:]:
        allowed = float(limit) * (1 + _ROUNDING)
        solution = solve(instance, energy_limit_j=allowed, **options)
        found.append(_frugal(instance, energy, solution, options))
    return _undominated(found)


def _frugal(instance: Instance, energy: Problem, solution: Solution, options: dict[str, float]) -> Solution:
    """The most frugal of the placements that are as fast as a solution; itself if the slowest CNN counts."""
    if solution.latency_s is None or instance.objective != "sum":
        return solution
    latency = of_instance(instance)
    limit = Budget(
        np.where(np.isfinite(latency.cost), latency.cost, 0.0),
        np.array([link.per_hop for link in latency.links]),
        solution.latency_s * (1 + _ROUNDING),
    )
    found = solve_problem(replace(energy, budget=limit), **options)
    if found.units is None:
        return solution
    value = latency.objective(found.units)
    # How far from the least latency is known of the solution; the placement is another one as fast.
    return solution_of(
        instance,
        Outcome(
            found.units,
            value,
            min(solution.bound_s, value),
            solution.status,
            solution.seconds + found.seconds,
        ),
    )


def _undominated(solutions: list[Solution]) -> list[Solution]:
    """By latency; of those that are as fast, the most frugal."""
    placed = [each for each in solutions if each.latency_s is not None and each.energy_j is not None]
    front: list[Solution] = []
    for each in sorted(placed, key=lambda one: (one.latency_s, one.energy_j)):
        if not front or each.energy_j < front[-1].energy_j * (1 - _ROUNDING):  # type: ignore[operator]
            front.append(each)
    return front
