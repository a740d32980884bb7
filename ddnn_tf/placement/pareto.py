"""Latency against energy: placements of which none is better in both.

    >>> for solution in pareto_front(instance, points=5):
    ...     print(solution.latency_s, solution.energy_j)

Between the fastest placement and the most frugal one, limits of energy at equal distances; at each, the
fastest placement within the limit (the epsilon-constraint method, Haimes, Lasdon and Wismer 1971).
"""

from __future__ import annotations

import numpy as np

from ddnn_tf.placement.instance import Instance
from ddnn_tf.placement.problem import energy_of, minimising, of_instance
from ddnn_tf.placement.solution import Solution, solve
from ddnn_tf.placement.solver import solve_problem

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
    fastest = solve(instance, time_limit=time_limit, relative_gap=relative_gap)
    problem = of_instance(instance)
    least = solve_problem(
        minimising(problem, energy_of(instance, problem)), time_limit=time_limit, relative_gap=relative_gap
    )
    if fastest.energy_j is None or least.units is None:
        return []
    limits = np.linspace(fastest.energy_j, least.objective, points)[1:]
    found = [fastest]
    for limit in limits:
        allowed = float(limit) * (1 + _ROUNDING)
        found.append(
            solve(instance, time_limit=time_limit, relative_gap=relative_gap, energy_limit_j=allowed)
        )
    return _undominated(found)


def _undominated(solutions: list[Solution]) -> list[Solution]:
    """By latency; of those that are as fast, the most frugal."""
    placed = [each for each in solutions if each.latency_s is not None and each.energy_j is not None]
    front: list[Solution] = []
    for each in sorted(placed, key=lambda one: (one.latency_s, one.energy_j)):
        if not front or each.energy_j < front[-1].energy_j * (1 - _ROUNDING):  # type: ignore[operator]
            front.append(each)
    return front
