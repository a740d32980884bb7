"""The mathematics of placement, as arrays that bounds, heuristics and solver share.

Tasks t (the layers of all CNNs, or the processes of a DDNN) each run on exactly one unit n; d(n, n') is the
number of hops between two units; a transfer l sends data from one task to another. With x[t, n] = 1 if task t
runs on unit n,

    minimise    sum over phases s of  weight(s) * max over branches b of s of
                    sum over tasks t in b of   cost[t, n] x[t, n]
                  + sum over transfers l in b of   per_hop[l] d(n, n') x[first(l), n] x[second(l), n']
    such that   every task runs on one unit:         sum over n of x[t, n] = 1
                no unit exceeds its limits:         sum over t of demand[r, t] x[t, n] <= capacity[r, n]
                                                    for r = memory, compute, layers
                (exclusive) a unit runs tasks of one CNN only
                (budget) a second cost of the same form stays below a limit.

For CNNs (`of_instance`) with layers j of CNN u on units of speed e, data rate R:

    cost     p_j c_j / e  (processing), + p_1 Ks d(source, n) / R for the first layer,
             + g_j K_last d(n, sink) / R for each layer
    per_hop  p_{j+1} K_j / R

The objective `sum` has a phase with one branch for each CNN; `max` has one phase with a branch for each
CNN. Energy has the same form, with joules in place of seconds.

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
    "Phase",
    "Problem",
    "Transfer",
    "energy_of",
    "minimising",
    "of_instance",
]

RESOURCES = ("memory", "compute", "layers")
"""The resources that units limit: rows of `demand` and `capacity`."""

Floats = NDArray[np.float64]

_SLACK = 1e-8  # relative, so that a load computed in another order still fits


@dataclass(frozen=True)
class Transfer:
    """Data that one task sends to another.

    Attributes:
        first: Number of the task that sends.
        second: Number of the task that receives.
        per_hop: Cost of a hop.
    """

    first: int
    second: int
    per_hop: float


@dataclass(frozen=True)
class Branch:
    """Tasks and transfers whose costs add up, by their numbers."""

    tasks: tuple[int, ...]
    transfers: tuple[int, ...]


@dataclass(frozen=True)
class Phase:
    """Branches that run side by side: the weight times the cost of the costliest counts."""

    weight: float
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Budget:
    """A second cost and its limit.

    Attributes:
        cost: `(tasks, units)` float64.
        per_hop: `(transfers,)` float64.
        limit: Most of it that a placement may cost.
    """

    cost: Floats
    per_hop: Floats
    limit: float

    def spent(self, problem: Problem, units: NDArray[np.int64]) -> float:
        """The second cost of an assignment `(tasks,)` of unit numbers."""
        hops = [problem.hops[units[transfer.first], units[transfer.second]] for transfer in problem.transfers]
        return float(self.cost[np.arange(len(units)), units].sum() + np.dot(self.per_hop, hops))

    def holds(self, problem: Problem, units: NDArray[np.int64]) -> bool:
        """Whether an assignment stays within the limit."""
        return self.spent(problem, units) <= self.limit * (1 + _SLACK)


@dataclass(frozen=True)
class Problem:
    """A placement problem.

    Attributes:
        hops: `(units, units)` float64, hops on the shortest path.
        cost: `(tasks, units)` float64; infinite where the task cannot run.
        transfers: The transfers between tasks; those of a chain in order.
        demand: `(3, tasks)` float64, what each task takes of `RESOURCES`.
        capacity: `(3, units)` float64, limits of `RESOURCES`; infinite for none.
        phases: The objective.
        owner: `(tasks,)` int64, number of the CNN of each task.
        task_names: Names of the tasks, for messages.
        unit_names: Names of the units, for messages.
        chains: Tasks of each CNN in order, with a transfer from each to the next; a task that belongs to no
            chain is a chain of its own.
        noun: What a task is, for messages: `layer` or `section`.
        exclusive: Whether a unit may run tasks of one owner only.
        budget: The second cost, if it is limited.
    """

    hops: Floats
    cost: Floats
    transfers: tuple[Transfer, ...]
    demand: Floats
    capacity: Floats
    phases: tuple[Phase, ...]
    owner: NDArray[np.int64]
    task_names: tuple[str, ...]
    unit_names: tuple[str, ...]
    chains: tuple[range, ...]
    noun: str = "layer"
    exclusive: bool = False
    budget: Budget | None = None

    @property
    def is_single(self) -> bool:
        """Whether every unit takes at most one task."""
        return bool((self.capacity[RESOURCES.index("layers")] < 2).all())

    @property
    def is_maximum(self) -> bool:
        """Whether the objective is a maximum over several branches."""
        return any(len(phase.branches) > 1 for phase in self.phases)

    @property
    def is_chains(self) -> bool:
        """Whether every transfer leads from a task of a chain to the next task."""
        return all(self.is_step(transfer) for transfer in self.transfers)

    def is_step(self, transfer: Transfer) -> bool:
        """Whether a transfer leads from a task of a chain to the next task."""
        return transfer.second == transfer.first + 1 and any(
            transfer.first in chain and transfer.second in chain for chain in self.chains
        )

    def together(self, transfer: Transfer) -> NDArray[np.bool_]:
        """Whether a unit can hold both tasks of a transfer, `(units,)` bool."""
        both = self.demand[:, transfer.first] + self.demand[:, transfer.second]
        return (both[:, None] <= self.room).all(axis=0)

    @property
    def room(self) -> Floats:
        """The capacity with a tolerance for rounding, `(3, units)` float64."""
        return self.capacity * (1 + _SLACK)

    def load(self, units: NDArray[np.int64]) -> Floats:
        """What an assignment takes of each unit, `(3, units)` float64."""
        load = np.zeros_like(self.capacity)
        for resource in range(len(load)):
            np.add.at(load[resource], units, self.demand[resource])
        return load

    def is_feasible(self, units: NDArray[np.int64]) -> bool:
        """Whether an assignment `(tasks,)` of unit numbers keeps all limits."""
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
        """The cost of a branch in an assignment."""
        tasks = sum(self.cost[task, units[task]] for task in branch.tasks)
        transfers = (self.transfers[number] for number in branch.transfers)
        return float(
            tasks
            + sum(
                transfer.per_hop * self.hops[units[transfer.first], units[transfer.second]]
                for transfer in transfers
            )
        )

    def objective(self, units: NDArray[np.int64]) -> float:
        """The value of an assignment."""
        return sum(
            phase.weight * max(self.branch_cost(branch, units) for branch in phase.branches)
            for phase in self.phases
        )


def of_instance(instance: Instance, energy_limit_j: float | None = None) -> Problem:
    """The problem of least latency of an instance's CNNs, seconds.

    Args:
        instance: The instance.
        energy_limit_j: Most energy for one image of each CNN, joules; None: no limit.
    """
    limits = np.array([[unit.memory_kb, unit.compute_limit_mop] for unit in instance.units]).T
    most = np.inf if instance.layers_per_unit is None else float(instance.layers_per_unit)
    capacity = np.vstack([limits, np.full(len(instance.units), most)])
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
    transfers: list[Transfer] = []
    branches: list[Branch] = []
    first = 0
    for load in instance.cnns:
        chain = range(first, first + len(load.cnn.demand_mop))
        own = range(len(transfers), len(transfers) + len(chain) - 1)
        transfers += [Transfer(task, task + 1, per_hop[task]) for task in chain[:-1]]
        branches.append(Branch(tuple(chain), tuple(own)))
        chains.append(chain)
        first = chain.stop
    if instance.objective == "max":
        phases: tuple[Phase, ...] = (Phase(1.0, tuple(branches)),)
    else:
        phases = tuple(Phase(1.0, (branch,)) for branch in branches)
    problem = Problem(
        hops=instance.hops,
        cost=np.where(fits, cost, np.inf),
        transfers=tuple(transfers),
        demand=demand,
        capacity=capacity,
        phases=phases,
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
    """Energy of an instance's CNNs, joules, as a budget of its problem, within a limit."""
    joules_mop = np.array([unit.energy_j_mop for unit in instance.units])
    cost, per_hop = _costs(instance, joules_mop, instance.energy_j_kb)
    return Budget(cost, np.array([per_hop[transfer.first] for transfer in problem.transfers]), limit)


def minimising(problem: Problem, budget: Budget) -> Problem:
    """The same problem with a second cost as its objective."""
    transfers = tuple(
        replace(transfer, per_hop=float(per_hop))
        for transfer, per_hop in zip(problem.transfers, budget.per_hop, strict=True)
    )
    whole = Branch(tuple(range(len(problem.cost))), tuple(range(len(transfers))))
    return replace(
        problem,
        cost=np.where(np.isfinite(problem.cost), budget.cost, np.inf),
        transfers=transfers,
        phases=(Phase(1.0, (whole,)),),
    )


def _costs(instance: Instance, per_mop: Floats, per_kb: float) -> tuple[Floats, Floats]:
    """Cost `(tasks, units)` of layers with transfers from source and to sink; cost of a hop `(tasks,)`."""
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
    """The layer that receives the image."""
    return 1 if instance.reference_compatible and len(load.cnn.demand_mop) > 1 else 0
