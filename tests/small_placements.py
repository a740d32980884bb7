"""Placement instances small enough for exhaustive search."""

from __future__ import annotations

import itertools

import numpy as np

from ddnn_tf.placement import Cnn, Instance, Unit, Workload, check_placement
from ddnn_tf.placement.problem import Problem


def small_instance(seed: int) -> Instance:
    """One to three CNNs of one to four layers, at most six in all, on up to five units with tight limits."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(3, 6))
    lengths = [int(generator.integers(1, 5)) for _ in range(generator.integers(1, 4))]
    while sum(lengths) > 6:
        lengths.pop()
    cnns = [_cnn(f"cnn_{at}", length, generator) for at, length in enumerate(lengths or [4])]
    units = tuple(
        Unit(
            name=f"unit_{at}",
            memory_kb=float(generator.integers(5, 30)),
            compute_limit_mop=float(generator.integers(8, 60)),
            speed_mop_s=float(generator.integers(1, 20)),
            energy_j_mop=float(generator.integers(0, 5)),
        )
        for at in range(count)
    )
    tree = [(f"unit_{generator.integers(at)}", f"unit_{at}") for at in range(1, count)]
    ends = [f"unit_{generator.integers(count)}" for _ in range(2 * len(cnns))]
    return Instance(
        units=units,
        cnns=tuple(
            Workload(
                cnn=cnn, source=ends[2 * at], sink=ends[2 * at + 1], input_kb=float(generator.integers(9))
            )
            for at, cnn in enumerate(cnns)
        ),
        links=tuple(tree),
        data_rate_kb_s=float(generator.integers(1, 30)),
        layers_per_unit=[None, 1, 2, 3][generator.integers(4)],
        shared=bool(generator.integers(2)),
        objective=["sum", "max"][generator.integers(2)],
        energy_j_kb=float(generator.integers(0, 3)),
        reference_compatible=bool(generator.integers(4) == 0),
    )


def _cnn(name: str, length: int, generator: np.random.Generator) -> Cnn:
    exits = generator.dirichlet(np.ones(length)) if generator.integers(2) else None
    return Cnn(
        name=name,
        demand_mop=tuple(map(float, generator.integers(1, 20, length))),
        memory_kb=tuple(map(float, generator.integers(1, 15, length))),
        output_kb=tuple(map(float, generator.integers(0, 20, length))),
        exit_probability=() if exits is None else tuple(exits / exits.sum()),
    )


def exhaustive(problem: Problem) -> tuple[float, np.ndarray | None]:
    """The best of all assignments, and its value; infinity and None if none keeps the limits."""
    tasks, units = problem.cost.shape
    every = np.array(list(itertools.product(range(units), repeat=tasks)))
    at = np.arange(tasks)
    keeps = np.isfinite(problem.cost[at, every]).all(axis=1)
    for resource in range(len(problem.capacity)):
        for unit in range(units):
            load = (every == unit) @ problem.demand[resource]
            keeps &= load <= problem.room[resource, unit]
    if problem.exclusive:
        for unit in range(units):
            holds = [((every == unit) & (problem.owner == owner)).any(axis=1) for owner in set(problem.owner)]
            keeps &= np.sum(holds, axis=0) <= 1
    every = every[keeps]
    if problem.budget is not None:
        spent = problem.budget.cost[at, every].sum(axis=1)
        for link, per_hop in zip(problem.transfers, problem.budget.per_hop, strict=True):
            spent = spent + per_hop * problem.hops[every[:, link.first], every[:, link.second]]
        every = every[spent <= problem.budget.limit * (1 + 1e-9)]
    if not len(every):
        return np.inf, None
    total = np.zeros(len(every))
    for phase in problem.phases:
        branches = []
        for branch in phase.branches:
            cost = problem.cost[list(branch.tasks), every[:, list(branch.tasks)]].sum(axis=1)
            for number in branch.transfers:
                link = problem.transfers[number]
                cost = cost + link.per_hop * problem.hops[every[:, link.first], every[:, link.second]]
            branches.append(cost)
        total += phase.weight * np.max(branches, axis=0)
    best = int(total.argmin())
    return float(total[best]), every[best]


def exhaustive_by_checker(instance: Instance) -> float:
    """The least latency of all assignments, by nothing but the checker; infinity if none keeps the limits."""
    lengths = [len(load.cnn.layers) for load in instance.cnns]
    best = np.inf
    for names in itertools.product(instance.unit_names, repeat=sum(lengths)):
        rest = iter(names)
        found = check_placement(instance, [[next(rest) for _ in range(length)] for length in lengths])
        if not found.violations:
            best = min(best, found.latency_s)
    return best
