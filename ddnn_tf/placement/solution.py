"""A placement, what it costs, and how sure it is that there is no better one.

>>> solution = solve(random_instance("early-exit", seed=0))
>>> solution.status, solution.latency_s
('optimal', 0.7289900809186566)
>>> solution.cnns[0].units
('unit_40', 'unit_31', ...)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ddnn_tf.placement.checker import CnnLatency, check_placement
from ddnn_tf.placement.instance import Instance
from ddnn_tf.placement.problem import of_instance
from ddnn_tf.placement.solver import Outcome, Status, solve_problem

__all__ = ["Solution", "solve"]


_AGREEMENT = 1e-6


@dataclass(frozen=True)
class Solution:
    """What `solve` found.

    Attributes:
        instance: The problem.
        assignment: For each CNN, the unit's name for each layer; empty if none was found in time.
        cnns: For each CNN, its latency and energy, recomputed by the checker.
        latency_s: The objective: sum or maximum of the CNNs' latencies, seconds; None without a placement.
        bound_s: No placement has less, seconds.
        gap: (latency - bound) / latency; None without a placement.
        status: `optimal` (proven, to 1e-4 at most), `feasible` (a gap is left) or `unknown` (time ran out
            without a placement).
        seconds: What solving took.
        energy_j: Joules for one image of each CNN; None without a placement.
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
        """For JSON: figures, and for each CNN its units layer by layer."""
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
                    "processing_s": found.processing_s,
                    "transmission_s": found.transmission_s,
                }
                for load, units, found in zip(self.instance.cnns, self.assignment, self.cnns, strict=False)
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
        time_limit: Seconds; then the best placement so far is returned, with its bound and gap.
        relative_gap: When to stop: at a placement this close to the bound.
        energy_limit_j: Most joules for one image of each CNN.

    Returns:
        The placement, checked by `check_placement`.

    Raises:
        InfeasibleError: No placement keeps the limits; the message names the layer and the limit.
        ValueError: A time limit or gap that is not positive, or a negative limit of energy.
    """
    if energy_limit_j is not None and not energy_limit_j >= 0:
        raise ValueError(f"Expected `energy_limit_j` to be 0 or more, but got {energy_limit_j}.")
    problem = of_instance(instance, energy_limit_j)
    return solution_of(instance, solve_problem(problem, time_limit=time_limit, relative_gap=relative_gap))


def solution_of(instance: Instance, outcome: Outcome) -> Solution:
    """An outcome in the instance's names, checked.

    Raises:
        RuntimeError: The checker finds another latency, or a broken limit: a defect of the solver.
    """
    if outcome.units is None:
        return Solution(instance, (), (), None, outcome.bound, None, outcome.status, outcome.seconds, None)
    names = iter([instance.unit_names[unit] for unit in outcome.units])
    assignment = tuple(tuple(next(names) for _ in load.cnn.layers) for load in instance.cnns)
    checked = check_placement(instance, assignment)
    if checked.violations:
        raise RuntimeError(f"The solver's placement breaks a limit: {checked.violations[0]}.")
    if abs(checked.latency_s - outcome.objective) > _AGREEMENT * abs(checked.latency_s):
        raise RuntimeError(f"The solver says {outcome.objective} s, but the checker {checked.latency_s} s.")
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
