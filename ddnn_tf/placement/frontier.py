"""Latency against energy: placements of which none is better in both.

    >>> from ddnn_tf.placement import Unit, Workload
    >>> board = Unit(name="board", type="jetson", energy_j_mop=0.5)
    >>> camera = Unit(name="camera", type="orange_pi_zero", energy_j_mop=0.1)
    >>> load = Workload(cnn="sevenlayer", source="camera")
    >>> instance = Instance(units=[board, camera], links=[("board", "camera")], cnns=[load])
    >>> for solution in latency_energy_front(instance, points=3):
    ...     print(f"{solution.latency_s:.4f} s, {solution.energy_j:.2f} J, {solution.status}")
    0.0176 s, 11.06 J, optimal
    0.0514 s, 3.02 J, optimal
    0.0524 s, 2.52 J, optimal

The epsilon-constraint method: limits of energy lie at equal distances between the fastest placement and the
most frugal one, and at each limit `solve` finds the fastest placement within it.

Source: Haimes, Lasdon and Wismer, IEEE Transactions on Systems, Man, and Cybernetics, 1971.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddnn_tf.fronts import undominated
from ddnn_tf.placement.instance import Instance
from ddnn_tf.placement.problem import Budget, Problem, energy_of, minimising, of_instance
from ddnn_tf.placement.solution import Solution, solution_of, solve
from ddnn_tf.placement.solver import Outcome, solve_problem

__all__ = ["latency_energy_front"]

_ROUNDING = 1e-6  # relative; far above rounding, far below a difference that matters


def latency_energy_front(
    instance: Instance, points: int = 10, *, time_limit: float = 60.0, relative_gap: float = 1e-6
) -> list[Solution]:
    """Finds placements from the fastest to the most frugal.

    Args:
        instance: An instance whose units or hops cost energy (`energy_j_mop`, `energy_j_kb`).
        points: Number of limits of energy, at least 2.
        time_limit: Seconds for each limit.
        relative_gap: As for `solve`.

    Returns:
        At most `points` solutions, by rising latency and falling energy. `Solution.status` says whether each
        is proven.

    Raises:
        ValueError: Fewer than two points, or neither units nor hops cost energy.
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
    solutions = [fastest]
    for limit in np.linspace(fastest.energy_j, least.objective, points)[1:]:
        allowed = float(limit) * (1 + _ROUNDING)
        solution = solve(instance, energy_limit_j=allowed, **options)
        solutions.append(_frugal(instance, energy, solution, options))
    return _front(solutions)


def _frugal(instance: Instance, energy: Problem, solution: Solution, options: dict[str, float]) -> Solution:
    """The most frugal placement that is as fast as a solution; for the objective `max`, the solution."""
    if solution.latency_s is None or instance.objective != "sum":
        return solution
    latency = of_instance(instance)
    limit = Budget(
        np.where(np.isfinite(latency.cost), latency.cost, 0.0),
        np.array([transfer.per_hop for transfer in latency.transfers]),
        solution.latency_s * (1 + _ROUNDING),
    )
    frugal = solve_problem(replace(energy, budget=limit), **options)
    if frugal.units is None:
        return solution
    value = latency.objective(frugal.units)
    # The bound on the latency is that of the solution; the placement is another one that is as fast.
    bound = min(solution.bound_s, value)
    seconds = solution.seconds + frugal.seconds
    return solution_of(instance, Outcome(frugal.units, value, bound, solution.status, seconds))


def _front(solutions: list[Solution]) -> list[Solution]:
    """The solutions that no other one beats in latency and energy, fastest first."""
    placed = [each for each in solutions if each.latency_s is not None and each.energy_j is not None]
    costs = [(each.latency_s, each.energy_j) for each in placed]
    return [placed[index] for index in undominated(costs, _ROUNDING)]  # type: ignore[arg-type]
