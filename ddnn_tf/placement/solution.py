"""A placement, its latency and energy, and the proof that no placement is better.

>>> from ddnn_tf.placement import random_instance
>>> solution = solve(random_instance("early-exit", seed=0))
>>> solution.status, round(solution.latency_s, 8)
('optimal', 0.72899008)
>>> len(solution.assignment[0]), round(solution.cnns[0].transmission_s, 4)
(8, 0.1071)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ddnn_tf.placement.checker import CnnLatency, check_placement
from ddnn_tf.placement.instance import Instance
from ddnn_tf.placement.problem import of_instance
from ddnn_tf.placement.solver import Outcome, Status, solve_problem

__all__ = ["Solution", "solution_of", "solve"]

_AGREEMENT = 1e-6  # relative; the checker adds the same terms in another order


@dataclass(frozen=True)
class Solution:
    """The result of `solve`.

    Attributes:
        instance: The problem.
        assignment: Name of the unit of each layer, by CNN; empty if the time ended without a placement.
        cnns: Latency and energy of each CNN, recomputed by the checker.
        latency_s: The objective: sum or maximum of the CNNs' latencies, seconds; None without a placement.
        bound_s: Lower bound on the latency of every placement, seconds.
        gap: (latency - bound) / latency; None without a placement.
        status: `optimal` (proven, with a gap of at most 1e-4), `feasible` (a gap is left) or `unknown` (the
            time ended without a placement).
        seconds: Duration of the search.
        energy_j: Energy for one image of each CNN, joules; None without a placement.
    """

    instance: Instance = field(repr=False)
    assignment: tuple[tuple[str, ...], ...]
    cnns: tuple[CnnLatency, ...]
    latency_s: float | None
    bound_s: float
    gap: float | None
    status: Status
    seconds: float
    energy_j: float | None

    def summary(self) -> dict[str, Any]:
        """Latency, bound, status, and the unit of each layer by CNN, as JSON values."""
        return {
            "latency_s": self.latency_s,
            "bound_s": self.bound_s,
            "gap": self.gap,
            "status": self.status,
            "seconds": self.seconds,
            "energy_j": self.energy_j,
            "objective": self.instance.objective,
            "assignment": [
                {
                    "cnn": load.cnn.name,
                    "units": dict(zip(load.cnn.layers, units, strict=True)),
                    "processing_s": cost.processing_s,
                    "transmission_s": cost.transmission_s,
                }
                for load, units, cost in zip(self.instance.cnns, self.assignment, self.cnns, strict=False)
            ],
        }


def solve(
    instance: Instance,
    *,
    time_limit: float = 60.0,
    relative_gap: float = 1e-6,
    energy_limit_j: float | None = None,
) -> Solution:
    """Places the layers of an instance's CNNs onto its units.

    Args:
        instance: The problem.
        time_limit: Seconds; when they end, the best placement so far is returned, with its bound and gap.
        relative_gap: The search stops at a placement this close to the bound.
        energy_limit_j: Most energy for one image of each CNN, joules; None: no limit.

    Returns:
        The placement, checked by `check_placement`.

    Raises:
        InfeasibleError: No placement keeps the limits; the message names the layer and the limit.
        ValueError: The time limit or gap is not positive, or the limit of energy is negative.
    """
    if energy_limit_j is not None and not energy_limit_j >= 0:
        raise ValueError(f"Expected `energy_limit_j` to be 0 or more, but got {energy_limit_j}.")
    problem = of_instance(instance, energy_limit_j)
    return solution_of(instance, solve_problem(problem, time_limit=time_limit, relative_gap=relative_gap))


def solution_of(instance: Instance, outcome: Outcome) -> Solution:
    """Translates an outcome into names of units, and checks it.

    Raises:
        RuntimeError: The checker finds another latency or a violated limit: a defect of the solver.
    """
    if outcome.units is None:
        return Solution(instance, (), (), None, outcome.bound, None, outcome.status, outcome.seconds, None)
    names = iter([instance.unit_names[unit] for unit in outcome.units])
    assignment = tuple(tuple(next(names) for _ in load.cnn.layers) for load in instance.cnns)
    checked = check_placement(instance, assignment)
    if checked.violations:
        raise RuntimeError(f"The solver's placement violates a limit: {checked.violations[0]}.")
    if abs(checked.latency_s - outcome.objective) > _AGREEMENT * abs(checked.latency_s):
        raise RuntimeError(
            f"The solver reports {outcome.objective} s, but the checker {checked.latency_s} s."
        )
    return Solution(
        instance=instance,
        assignment=assignment,
        cnns=checked.cnns,
        latency_s=checked.latency_s,
        bound_s=min(outcome.bound, checked.latency_s),
        gap=outcome.gap,
        status=outcome.status,
        seconds=outcome.seconds,
        energy_j=checked.energy_j,
    )
