"""The mathematics of placement, as arrays that bounds, heuristics and solver share.

Units n, with hops d(n, n') between them; tasks t (the layers of all CNNs, or the sections of a DDNN), each
of which runs on exactly one unit; links l between two tasks, over which data go. With x[t, n] = 1 if task t
runs on unit n,

    minimise    sum over stages s of  weight(s) * max over branches b of s of
                    sum over tasks t in b of   cost[t, n] x[t, n]
                  + sum over links l in b of   per_hop[l] d(n, n') x[first(l), n] x[second(l), n']
    such that   every task is on one unit:          sum over n of x[t, n] = 1
                every unit keeps its limits:        sum over t of demand[r, t] x[t, n] <= capacity[r, n]
                                                    for r = memory, compute, layers
                (exclusive) a unit serves one CNN
                (budget) a second cost of the same form stays below a limit.

For CNNs (`of_instance`) with layers j of CNN u on units of speed e, data rate R:

    cost     p_j c_j / e  (processing), + p_1 Ks d(source, n) / R for the first layer,
             + g_j K_last d(n, sink) / R for each layer
    per_hop  p_{j+1} K_j / R

The sum of latencies is a stage for each CNN with one branch each; that of the slowest is one stage with
a branch for each CNN. Energy has the same form, with joules in place of seconds.

Source: Disabato, Roveri and Alippi, arXiv 1908.01656, Section III.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.instance import Instance, Workload

__all__ = [
    "RESOURCES",
    "Branch",
    "Budget",
    "Link",
    "Problem",
    "Stage",
    "energy_of",
    "minimising",
    "of_instance",
]

RESOURCES = ("memory", "compute", "layers")
"""What units have limits of: rows of `demand` and `capacity`."""

Floats = NDArray[np.float64]

_SLACK = 1e-8  # relative, so that a load computed in another order still fits


@dataclass(frozen=True)
class Link:
    """Data from one task to another: `per_hop` is what a hop costs."""

    first: int
    second: int
    per_hop: float


@dataclass(frozen=True)
class Branch:
    """Tasks and links, by their numbers, whose costs add up."""

    tasks: tuple[int, ...]
    links: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """Branches that run side by side: the costliest counts, times the weight."""

    weight: float
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Budget:
    """A second cost and its limit: `cost` `(tasks, units)`, `per_hop` `(links,)`."""

    cost: Floats
    per_hop: Floats
    limit: float

    def spent(self, problem: Problem, units: NDArray[np.int64]) -> float:
        """Of an assignment."""
        hops = [problem.hops[units[link.first], units[link.second]] for link in problem.links]
        return float(self.cost[np.arange(len(units)), units].sum() + np.dot(self.per_hop, hops))

    def holds(self, problem: Problem, units: NDArray[np.int64]) -> bool:
        """Whether an assignment keeps it."""
        return self.spent(problem, units) <= self.limit * (1 + _SLACK)


@dataclass(frozen=True)
class Problem:
    """A placement problem.

    Attributes:
        hops: `(units, units)` float64.
        cost: `(tasks, units)` float64; infinite where the task cannot run.
        links: Between the tasks; those of a chain in order.
        demand: `(3, tasks)` of memory, compute, layers.
        capacity: `(3, units)` of the same; infinite for none.
        stages: The objective.
        owner: `(tasks,)`, the CNN that each belongs to.
        exclusive: Whether a unit may hold tasks of one owner only.
        task_names: For messages.
        unit_names: For messages.
        noun: What a task is, for messages: `layer` or `section`.
        chains: Tasks of each CNN in order, each linked to the next; tasks that form no chain are one each.
        budget: The second cost, if it is limited.
    """

    hops: Floats
    cost: Floats
    links: tuple[Link, ...]
    demand: Floats
    capacity: Floats
    stages: tuple[Stage, ...]
    owner: NDArray[np.int64]
    task_names: tuple[str, ...]
    unit_names: tuple[str, ...]
    chains: tuple[range, ...]
    noun: str = "layer"
    exclusive: bool = False
    budget: Budget | None = None

    @property
    def is_single(self) -> bool:
        """Whether no unit takes more than one task."""
        return bool((self.capacity[RESOURCES.index("layers")] < 2).all())

    @property
    def is_maximum(self) -> bool:
        """Whether the objective has branches of which the costliest counts."""
        return any(len(stage.branches) > 1 for stage in self.stages)

    @property
    def is_chains(self) -> bool:
        """Whether every link leads from a task of a chain to the next one."""
        return all(self.is_step(link) for link in self.links)

    def is_step(self, link: Link) -> bool:
        """Whether a link leads from a task of a chain to the next one."""
        return link.second == link.first + 1 and any(
            link.first in chain and link.second in chain for chain in self.chains
        )

    def together(self, link: Link) -> NDArray[np.bool_]:
        """`(units,)`: whether a unit can hold both ends of a link."""
        both = self.demand[:, link.first] + self.demand[:, link.second]
        return (both[:, None] <= self.room).all(axis=0)

    @property
    def room(self) -> Floats:
        """The capacity, with a tolerance for rounding."""
        return self.capacity * (1 + _SLACK)

    def load(self, units: NDArray[np.int64]) -> Floats:
        """`(3, units)`: what an assignment takes of each unit."""
        load = np.zeros_like(self.capacity)
        for resource in range(len(load)):
            np.add.at(load[resource], units, self.demand[resource])
        return load

    def is_feasible(self, units: NDArray[np.int64]) -> bool:
        """Whether an assignment `(tasks,)` of unit numbers keeps all constraints."""
        if not np.isfinite(self.cost[np.arange(len(units)), units]).all():
            return False
        if (self.load(units) > self.room).any():
            return False
        if self.exclusive:
            holders: dict[int, int] = {}
            for task, unit in enumerate(units):
                if holders.setdefault(int(unit), int(self.owner[task])) != self.owner[task]:
                    return False
        return self.budget is None or self.budget.holds(self, units)

    def branch_cost(self, branch: Branch, units: NDArray[np.int64]) -> float:
        """Of an assignment."""
        tasks = sum(self.cost[task, units[task]] for task in branch.tasks)
        links = (self.links[at] for at in branch.links)
        return float(
            tasks + sum(link.per_hop * self.hops[units[link.first], units[link.second]] for link in links)
        )

    def objective(self, units: NDArray[np.int64]) -> float:
        """Of an assignment."""
        return sum(
            stage.weight * max(self.branch_cost(branch, units) for branch in stage.branches)
            for stage in self.stages
        )


def of_instance(instance: Instance, energy_limit_j: float | None = None) -> Problem:
    """Latency of an instance's CNNs, seconds; within a limit of energy, joules, if there is one."""
    limits = np.array([[unit.memory_kb, unit.compute_limit_mop] for unit in instance.units]).T
    each = np.inf if instance.layers_per_unit is None else float(instance.layers_per_unit)
    capacity = np.vstack([limits, np.full(len(instance.units), each)])
    demand = np.array(
        [
            [size, work, 1.0]
            for load in instance.cnns
            for size, work in zip(load.cnn.memory_kb, load.cnn.demand_mop, strict=True)
        ]
    ).T
    fits = (demand[:, :, None] <= capacity[:, None] * (1 + _SLACK)).all(axis=0)
    seconds_mop = 1 / np.array([unit.speed_mop_s for unit in instance.units])
    cost, per_hop = _costs(instance, seconds_mop, 1 / instance.data_rate_kb_s)
    chains: list[range] = []
    links: list[Link] = []
    branches: list[Branch] = []
    first = 0
    for load in instance.cnns:
        chain = range(first, first + len(load.cnn.demand_mop))
        own = range(len(links), len(links) + len(chain) - 1)
        links += [Link(task, task + 1, per_hop[task]) for task in chain[:-1]]
        branches.append(Branch(tuple(chain), tuple(own)))
        chains.append(chain)
        first = chain.stop
    if instance.objective == "max":
        stages: tuple[Stage, ...] = (Stage(1.0, tuple(branches)),)
    else:
        stages = tuple(Stage(1.0, (branch,)) for branch in branches)
    problem = Problem(
        hops=instance.hops,
        cost=np.where(fits, cost, np.inf),
        links=tuple(links),
        demand=demand,
        capacity=capacity,
        stages=stages,
        owner=np.repeat(np.arange(len(chains)), [len(chain) for chain in chains]),
        task_names=tuple(
            f"layer {name!r} of {load.cnn.name!r}" for load in instance.cnns for name in load.cnn.layers
        ),
        unit_names=instance.unit_names,
        exclusive=not instance.shared and len(chains) > 1,
        chains=tuple(chains),
    )
    if energy_limit_j is None:
        return problem
    return replace(problem, budget=energy_of(instance, problem, energy_limit_j))


def energy_of(instance: Instance, problem: Problem, limit: float = np.inf) -> Budget:
    """Energy of an instance's CNNs, joules, as a budget of its problem."""
    joules_mop = np.array([unit.energy_j_mop for unit in instance.units])
    cost, per_hop = _costs(instance, joules_mop, instance.energy_j_kb)
    return Budget(cost, np.array([per_hop[link.first] for link in problem.links]), limit)


def minimising(problem: Problem, budget: Budget) -> Problem:
    """The same problem with the second cost as its objective."""
    links = tuple(
        replace(link, per_hop=float(per_hop))
        for link, per_hop in zip(problem.links, budget.per_hop, strict=True)
    )
    whole = Branch(tuple(range(len(problem.cost))), tuple(range(len(links))))
    return replace(
        problem,
        cost=np.where(np.isfinite(problem.cost), budget.cost, np.inf),
        links=links,
        stages=(Stage(1.0, (whole,)),),
    )


def _costs(instance: Instance, per_mop: Floats, per_kb: float) -> tuple[Floats, Floats]:
    """Cost `(tasks, units)` of layers with the transfers of their CNN's ends, and of a hop `(tasks,)`."""
    rows: list[Floats] = []
    per_hop: list[float] = []
    for load in instance.cnns:
        cnn = load.cnn
        node = np.outer(np.multiply(cnn.run_probability, cnn.demand_mop), per_mop)
        node += per_kb * cnn.output_kb[-1] * np.outer(cnn.exit_probability, instance.hops_from(load.target))
        node[_entry(instance, load)] += (
            per_kb * load.input_kb * cnn.run_probability[_entry(instance, load)]
        ) * instance.hops_from(load.source)
        rows.append(node)
        per_hop += [
            run * size * per_kb for run, size in zip(cnn.run_probability[1:], cnn.output_kb[:-1], strict=True)
        ]
        per_hop.append(0.0)
    return np.vstack(rows), np.array(per_hop)


def _entry(instance: Instance, load: Workload) -> int:
    """The layer that the image travels to."""
    return 1 if instance.reference_compatible and len(load.cnn.demand_mop) > 1 else 0
