"""Good placements without proof: `construct` builds them from the bound's prices, `improve` improves them.

`construct` places the CNNs one by one, run by run: each run goes to the unit, among those with room, from
which the rest of the path is cheapest at the prices of the relaxation. While the cost falls, `improve` lets a
CNN take its best path in the room that the others leave, or two layers swap units. With one layer per unit,
it moves every second layer at once to its best unit, which is an assignment problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.problem import Floats
from ddnn_tf.placement.relaxation import Prices, Relaxation

__all__ = ["Weighted", "construct", "improve"]

_FORBIDDEN = 1e9  # cost of a unit that cannot run a layer, far above any latency in seconds
_LEAST = 1e-10  # an improvement below this, relative, is rounding
_ROUNDS = 200  # most improvements; a few dozen suffice

Units = NDArray[np.int64]


class Weighted:
    """A problem of chains with one sum as its cost: CNNs by their weights, the second cost by its price.

    Args:
        relaxation: The relaxation of the problem.
        prices: Weights of the CNNs and price of the second cost; prices of the units do not count.
    """

    def __init__(self, relaxation: Relaxation, prices: Prices) -> None:
        self.problem = relaxation.problem
        self.prices = replace(prices, unit=np.zeros_like(prices.unit))
        self.can_run = np.isfinite(self.problem.cost)
        self.cost = relaxation.nodes(self.prices)
        # Cost of a hop from each task to the next, 0 after the last of a CNN.
        self.onward = np.zeros(len(self.cost))
        for index, transfer in enumerate(self.problem.transfers):
            self.onward[transfer.first] = relaxation.per_hop(index, self.prices)

    def value(self, units: Units) -> float:
        """The cost of an assignment `(tasks,)` of unit numbers."""
        steps = self.problem.hops[units[:-1], units[1:]] * self.onward[:-1]
        return float(self.cost[np.arange(len(units)), units].sum() + steps.sum())


def construct(relaxation: Relaxation, prices: Prices, order: Sequence[int]) -> Units | None:
    """Places the CNNs in an order, run by run.

    Args:
        relaxation: The relaxation of the problem.
        prices: Its prices.
        order: Numbers of the CNNs.

    Returns:
        `(tasks,)` unit numbers, or None if a layer finds no room.
    """
    problem = relaxation.problem
    behind, nodes = relaxation.behind(prices), relaxation.nodes(prices)
    free = problem.room.copy()
    holder = np.full(free.shape[1], -1)
    chosen = np.full(len(problem.cost), -1, np.int64)
    per_hop = {
        transfer.first: relaxation.per_hop(index, prices) for index, transfer in enumerate(problem.transfers)
    }
    for chain in (problem.chains[index] for index in order):
        task, owner = chain.start, int(problem.owner[chain.start])
        may_hold = (holder == -1) | (holder == owner) if problem.exclusive else np.ones(len(holder), bool)
        while task < chain.stop:
            best = (np.inf, -1, -1)
            total, load = np.zeros(free.shape[1]), np.zeros(len(free))
            if task > chain.start:
                total = per_hop[task - 1] * problem.hops[chosen[task - 1]]
            for length, possible in enumerate(relaxation.choices.spans[task]):
                last = task + length
                total, load = total + nodes[last], load + problem.demand[:, last]
                fits = possible & may_hold & (load[:, None] <= free).all(axis=0)
                cost = np.where(fits, total + behind[last].enter, np.inf)
                unit = int(cost.argmin())
                if cost[unit] < best[0]:
                    best = (float(cost[unit]), unit, last)
            _, unit, last = best
            if unit < 0:
                return None
            chosen[task : last + 1] = unit
            free[:, unit] -= problem.demand[:, task : last + 1].sum(axis=1)
            holder[unit] = owner
            task = last + 1
    return chosen


def improve(relaxation: Relaxation, prices: Prices, units: Units) -> Units:
    """Improves an assignment `(tasks,)` that keeps the units' limits, as long as its cost falls."""
    weighted = Weighted(relaxation, prices)
    if weighted.problem.is_single:
        return _assign_alternately(weighted, units)
    for _ in range(_ROUNDS):
        moved = _reroute(relaxation, weighted, units)
        if moved is None:
            moved = _best_swap(weighted, units)
        if moved is None:
            break
        units = moved
    return units


def _reroute(relaxation: Relaxation, weighted: Weighted, units: Units) -> Units | None:
    """Moves a CNN to its cheapest path in the room that the others leave; None if no CNN gets cheaper."""
    problem = relaxation.problem
    load, value = problem.load(units), weighted.value(units)
    for chain in problem.chains:
        own = np.zeros_like(load)
        for task in chain:
            own[:, units[task]] += problem.demand[:, task]
        free = problem.room - load + own
        others = np.ones(free.shape[1], bool)
        if problem.exclusive:
            others[np.delete(units, slice(chain.start, chain.stop))] = False
        spans: dict[int, NDArray[np.bool_]] = {}
        for first in chain:
            rows = relaxation.choices.spans[first]
            loads = np.cumsum(problem.demand[:, first : first + len(rows)], axis=1)
            spans[first] = rows & others & (loads.T[:, :, None] <= free[None]).all(axis=1)
        ways = relaxation.sweep(chain, weighted.cost, weighted.prices, spans)
        if not np.isfinite(ways[chain[-1]].best.min()):
            continue
        moved = units.copy()
        moved[chain.start : chain.stop] = relaxation.path(chain, ways)
        if (
            weighted.value(moved) < value - _LEAST * abs(value)
            and (problem.load(moved) <= problem.room).all()
        ):
            return moved
    return None


def _assign_alternately(weighted: Weighted, units: Units) -> Units:
    """Moves the even layers of all CNNs at once to their best units, then the odd ones, by turns."""
    from scipy.optimize import linear_sum_assignment

    problem = weighted.problem
    place = np.concatenate([np.arange(len(chain)) for chain in problem.chains])
    best, units = weighted.value(units), units.copy()
    while True:
        for parity in (0, 1):
            moving = np.flatnonzero(place % 2 == parity)
            if not len(moving):
                continue
            taken = np.zeros(len(problem.hops), bool)
            taken[units[place % 2 != parity]] = True
            free = np.flatnonzero(~taken)
            costs = np.where(weighted.can_run[moving], weighted.cost[moving], _FORBIDDEN)
            costs = costs + _to_neighbours(weighted, units, moving)
            rows, columns = linear_sum_assignment(costs[:, free])
            units[moving[rows]] = free[columns]
        value = weighted.value(units)
        if value >= best - _LEAST * abs(best):
            return units
        best = value


def _to_neighbours(weighted: Weighted, units: Units, tasks: NDArray[np.int64]) -> Floats:
    """Cost of the steps between each task and its neighbours, where these are now, `(tasks, units)`."""
    hops, onward = weighted.problem.hops, weighted.onward
    before = np.where(tasks > 0, onward[tasks - 1], 0.0)
    after = np.minimum(tasks + 1, len(units) - 1)
    return before[:, None] * hops[units[tasks - 1]] + onward[tasks][:, None] * hops[units[after]]


def _best_swap(weighted: Weighted, units: Units) -> Units | None:
    """Swaps the units of the two layers, not neighbours, whose swap saves most; None if no swap saves."""
    problem = weighted.problem
    tasks = np.arange(len(units))
    cost = np.where(weighted.can_run, weighted.cost, _FORBIDDEN)
    cost_there = (cost + _to_neighbours(weighted, units, tasks))[:, units]  # of task s where task t is
    saved = np.diag(cost_there)[:, None] - cost_there
    saved = saved + saved.T
    free = problem.room - problem.load(units)
    for resource in range(len(free)):
        need = problem.demand[resource][:, None] - problem.demand[resource][None]
        saved[need > free[resource, units][None]] = -np.inf
    saved = np.minimum(saved, saved.T)
    saved[np.abs(tasks[:, None] - tasks[None]) <= 1] = -np.inf
    if problem.exclusive:
        saved[problem.owner[:, None] != problem.owner[None]] = -np.inf
    first, second = np.unravel_index(int(saved.argmax()), saved.shape)
    if saved[first, second] <= _LEAST * abs(weighted.value(units)):
        return None
    swapped = units.copy()
    swapped[[first, second]] = units[[second, first]]
    return swapped
