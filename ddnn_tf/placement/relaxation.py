"""Lower bounds by Lagrangian relaxation, and pruning with them.

With prices on the units' limits (and on the budget, and weights on the branches of a maximum), every CNN
takes its cheapest path through the units independently of the others: a shortest path of runs and steps
(`choices`). For any prices, the cost of these paths minus the price of the whole limits is a lower bound;
subgradient steps raise it. Runs and steps whose cheapest path costs more than a known solution are pruned.

Source: Held and Karp 1971 for subgradient optimisation of Lagrangian bounds; the rest is ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.choices import Choices
from ddnn_tf.placement.problem import Floats, Problem

__all__ = ["Prices", "Relaxation", "raise_bound"]

# Tuned on the reference's scenarios, seeds 0 to 9.
_STALL = 15  # steps without a higher bound after which steps become shorter
_SHRINK = 0.6  # by this factor
_LEAST_STEP = 1e-3  # shorter steps raise the bound no more
_MOMENTUM = 0.7  # share of the last direction in the next one
_GUESS = 0.02  # relative distance of the optimum from the bound that is assumed without a solution
_SEARCH_EVERY = 25  # steps between two searches for a solution


@dataclass(frozen=True)
class Prices:
    """Lagrangian multipliers.

    Attributes:
        unit: `(3, units)` float64, price of each unit's whole capacity of each resource.
        budget: Price of the second cost.
        chain: `(chains,)` float64, weight of each CNN's cost in the objective.
    """

    unit: Floats
    budget: float
    chain: Floats


@dataclass
class _Ways:
    """Cheapest paths to a task on each unit, all `(units,)`.

    Attributes:
        enter: Cost up to the task, without it, if a run begins with it.
        via: Unit that the path with cost `enter` comes from; -1 at the start.
        best: Cost with the task, if a run ends with it.
        length: Number of tasks before this one in that run.
        second: Cost as `best`, of the cheapest path that does not come from `via`.
        second_via: Unit that this path comes from.
    """

    enter: Floats
    via: NDArray[np.int64]
    best: Floats
    length: NDArray[np.int64]
    second: Floats | None = None
    second_via: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class _Relaxed:
    value: float
    units: NDArray[np.int64]
    ways: list[_Ways]  # by task


class Relaxation:
    """Lagrangian relaxation of a problem of chains.

    Args:
        problem: The problem.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.choices = Choices(problem)
        self.no_return = False
        """Whether paths that leave a unit for one layer and return are excluded; for problems in which no
        unit takes two layers. The bound is higher and takes three times as long."""
        self._bounded = np.isfinite(problem.capacity) & (problem.capacity > 0)
        self._capacity = np.where(self._bounded, problem.capacity, 1.0)
        share = problem.demand[:, :, None] / self._capacity[:, None]
        self._share = np.where(self._bounded[:, None], share, 0.0)
        self._cost = np.where(np.isfinite(problem.cost), problem.cost, 0.0)
        self._transfer_of = {transfer.first: index for index, transfer in enumerate(problem.transfers)}
        self._steps: dict[int, tuple[float, Floats]] = {}

    def start(self) -> Prices:
        """Prices of zero, and equal weights."""
        chains = len(self.problem.chains)
        share = 1.0 / chains if self.problem.is_maximum else 1.0
        return Prices(np.zeros_like(self.problem.capacity), 0.0, np.full(chains, share))

    def nodes(self, prices: Prices) -> Floats:
        """Priced cost of each task on each unit, `(tasks, units)`; 0 where it cannot run."""
        cost = prices.chain[self.problem.owner][:, None] * self._cost
        if self.problem.budget is not None and prices.budget:
            cost = cost + prices.budget * self.problem.budget.cost
        return cost + np.einsum("rtn,rn->tn", self._share, prices.unit)

    def per_hop(self, transfer: int, prices: Prices) -> float:
        """Priced cost of a hop of a transfer."""
        problem = self.problem
        per_hop = (
            float(prices.chain[problem.owner[problem.transfers[transfer].first]])
            * problem.transfers[transfer].per_hop
        )
        if problem.budget is not None:
            per_hop += prices.budget * float(problem.budget.per_hop[transfer])
        return per_hop

    def step(self, transfer: int, prices: Prices) -> Floats:
        """Priced cost of each step of a transfer; infinite for pruned ones."""
        problem, ends, per_hop = (
            self.problem,
            self.problem.transfers[transfer],
            self.per_hop(transfer, prices),
        )
        kept = self._steps.get(transfer)
        if kept is None or kept[0] != per_hop:
            hops = problem.hops[np.ix_(self.choices.ends[ends.first], self.choices.begins[ends.second])]
            kept = (per_hop, np.where(self.choices.steps[transfer], per_hop * hops, np.inf))
            self._steps[transfer] = kept
        return kept[1]

    def relax(self, prices: Prices) -> _Relaxed:
        """The cheapest path of every CNN at some prices, and the bound."""
        nodes = self.nodes(prices)
        value = -self._worth(prices)
        chosen = np.empty(len(nodes), np.int64)
        ways: list[_Ways] = []
        for chain in self.problem.chains:
            paths = self.sweep(chain, nodes, prices)
            ways += paths.values()
            value += float(paths[chain[-1]].best.min())
            if not np.isfinite(value):  # nothing is left
                return _Relaxed(np.inf, chosen, ways)
            chosen[chain.start : chain.stop] = self.path(chain, paths)
        return _Relaxed(value, chosen, ways)

    def behind(self, prices: Prices) -> dict[int, _Ways]:
        """By task, the cheapest paths from it to the end of its CNN."""
        nodes = self.nodes(prices)
        ways: dict[int, _Ways] = {}
        for chain in self.problem.chains:
            ways |= self.sweep(chain[::-1], nodes, prices)
        return ways

    def sweep(
        self,
        order: range,
        nodes: Floats,
        prices: Prices,
        spans: Mapping[int, NDArray[np.bool_]] | Sequence[NDArray[np.bool_]] | None = None,
    ) -> dict[int, _Ways]:
        """Cheapest paths along a chain, in its direction or against it.

        Args:
            order: The chain, or the chain reversed.
            nodes: Priced cost `(tasks, units)`.
            prices: Prices of the steps.
            spans: Runs to choose from; None: all that are not pruned.

        Returns:
            The paths by task.
        """
        spans = self.choices.spans if spans is None else spans
        count = nodes.shape[1]
        ways: dict[int, _Ways] = {}
        for index, task in enumerate(order):
            if index == 0:
                enter, via = np.zeros(count), np.full(count, -1)
                way = _Ways(enter, via, enter, via)
                second_enter = np.full(count, np.inf)
            else:
                before = order[index - 1]
                rows, columns, step = self._between(before, task, prices)
                costs = self._entering(ways[before], rows, columns, step)
                enter, via = np.full(count, np.inf), np.full(count, -1)
                first = costs.argmin(axis=0) if len(rows) else np.zeros(len(columns), np.int64)
                across = np.arange(len(columns))
                if len(rows):
                    enter[columns], via[columns] = costs[first, across], rows[first]
                way = _Ways(enter, via, enter, via)
                if self.no_return:
                    second_enter, second_via = np.full(count, np.inf), np.full(count, -1)
                    if len(rows):
                        costs[first, across] = np.inf
                        other = costs.argmin(axis=0)
                        second_enter[columns], second_via[columns] = costs[other, across], rows[other]
                    way.second_via = second_via
            way.best, way.length = self._run(order, index, way.enter, ways, nodes, spans)
            if self.no_return:
                way.second = np.where(np.isfinite(way.best), second_enter + nodes[task], np.inf)
            ways[task] = way
        return ways

    def _run(
        self,
        order: range,
        index: int,
        enter: Floats,
        ways: dict[int, _Ways],
        nodes: Floats,
        spans: Mapping[int, NDArray[np.bool_]] | Sequence[NDArray[np.bool_]],
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Least cost of a run that ends with a task, and the number of tasks before it in that run."""
        best = np.where(spans[order[index]][0], enter + nodes[order[index]], np.inf)
        length = np.zeros(len(best), np.int64)
        total = nodes[order[index]]
        for extra in range(1, index + 1):
            began = order[index - extra]
            rows = spans[min(began, order[index])]
            if extra >= len(rows):
                break
            total = total + nodes[began]
            cost = np.where(rows[extra], ways[began].enter + total, np.inf)
            better = cost < best
            best, length = np.where(better, cost, best), np.where(better, extra, length)
        return best, length

    def _between(
        self, before: int, task: int, prices: Prices
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Units of a task, units of the next in a sweep, and the steps between."""
        first, second = min(before, task), max(before, task)
        step = self.step(self._transfer_of[first], prices)
        ends, begins = self.choices.ends[first], self.choices.begins[second]
        return (ends, begins, step) if before < task else (begins, ends, step.T)

    def _entering(
        self, way: _Ways, rows: NDArray[np.int64], columns: NDArray[np.int64], step: Floats
    ) -> Floats:
        """Least cost to each unit of a task and on to each unit of the next, `(rows, columns)`."""
        costs = way.best[rows][:, None] + step
        if way.second is not None:
            place = np.full(len(way.best), -1)
            place[columns] = np.arange(len(columns))
            came_from = way.via[rows]
            back = np.where(came_from >= 0, place[came_from], -1)
            row = np.flatnonzero(back >= 0)
            costs[row, back[row]] = way.second[rows[row]] + step[row, back[row]]
        return costs

    def path(self, chain: range, ways: dict[int, _Ways]) -> NDArray[np.int64]:
        """Units of the cheapest path along a chain, `(tasks,)`."""
        chosen = np.empty(len(chain), np.int64)
        task, unit, avoided = chain[-1], int(ways[chain[-1]].best.argmin()), -2
        while True:
            # With runs of one layer only, `second` ways exist; otherwise nothing is avoided.
            way = ways[task]
            began = task - int(way.length[unit])
            chosen[began - chain.start : task - chain.start + 1] = unit
            if began == chain.start:
                return chosen
            entered = ways[began]
            previous = int(entered.via[unit])
            if entered.second_via is not None and previous == avoided:
                previous = int(entered.second_via[unit])
            task, unit, avoided = began - 1, previous, unit

    def prune(self, prices: Prices, upper: float) -> None:
        """Prunes the runs and steps that no solution better than `upper` uses."""
        relaxed, behind, nodes = self.relax(prices), self.behind(prices), self.nodes(prices)
        if not np.isfinite(relaxed.value):
            return
        room = upper - relaxed.value + 1e-9 * max(1.0, abs(upper))
        spans = [rows.copy() for rows in self.choices.spans]
        steps = [block.copy() for block in self.choices.steps]
        for chain in self.problem.chains:
            limit = float(relaxed.ways[chain[-1]].best.min()) + room
            for first in chain:
                total = np.zeros(nodes.shape[1])
                for length in range(len(spans[first])):
                    last = first + length
                    total = total + nodes[last]
                    spans[first][length] &= relaxed.ways[first].enter + total + behind[last].enter <= limit
            for task in chain[:-1]:
                ends, begins, step = self._between(task, task + 1, prices)
                to_here = self._entering(relaxed.ways[task], ends, begins, step)
                from_there = self._entering(behind[task + 1], begins, ends, np.zeros_like(step.T)).T
                steps[self._transfer_of[task]] &= to_here + from_there <= limit
        self.choices.restrict(spans, steps)
        self._steps.clear()

    def chain_costs(self, units: NDArray[np.int64]) -> Floats:
        """Cost of each CNN's path without prices, `(chains,)`."""
        problem = self.problem
        costs = np.zeros(len(problem.chains))
        np.add.at(costs, problem.owner, problem.cost[np.arange(len(units)), units])
        for transfer in problem.transfers:
            costs[problem.owner[transfer.first]] += (
                transfer.per_hop * problem.hops[units[transfer.first], units[transfer.second]]
            )
        return costs

    def excess(self, units: NDArray[np.int64]) -> Floats:
        """Share of each limit by which an assignment exceeds it, `(3, units)`."""
        return np.where(self._bounded, self.problem.load(units) / self._capacity - 1, 0.0)

    def _worth(self, prices: Prices) -> float:
        """Price of the whole limits."""
        budget = self.problem.budget
        return float(prices.unit[self._bounded].sum()) + (
            prices.budget * budget.limit if budget is not None and prices.budget else 0.0
        )


def raise_bound(
    relaxation: Relaxation,
    prices: Prices,
    upper: float,
    search: Callable[[Prices, NDArray[np.int64]], float],
    *,
    iterations: int,
    tolerance: float,
    deadline: float,
) -> tuple[float, Prices]:
    """Raises the bound by subgradient steps.

    Args:
        relaxation: The relaxation.
        prices: The prices to begin with.
        upper: Value of the best solution so far; infinite if there is none.
        search: Searches for a better solution from prices and relaxed paths; returns the best value so far.
        iterations: Most steps.
        tolerance: Relative gap at which it stops.
        deadline: Value of `time.monotonic()` at which it stops.

    Returns:
        The highest bound and its prices.
    """
    problem = relaxation.problem
    best, best_prices = -np.inf, prices
    direction = np.zeros_like(prices.unit)
    length, stalled = 1.0, 0
    for iteration in range(iterations):
        relaxed = relaxation.relax(prices)
        if not np.isfinite(relaxed.value):
            return np.inf, prices
        if relaxed.value > best:
            best, best_prices, stalled = relaxed.value, prices, 0
        else:
            stalled += 1
            if stalled >= _STALL:
                length, stalled, prices = length * _SHRINK, 0, best_prices
        if iteration % _SEARCH_EVERY == 0:
            upper = search(prices, relaxed.units)
        if upper - best <= tolerance * abs(upper) or length < _LEAST_STEP or time.monotonic() > deadline:
            break
        excess = relaxation.excess(relaxed.units)
        excess[(prices.unit <= 0) & (excess < 0)] = 0
        costs = relaxation.chain_costs(relaxed.units) if problem.is_maximum else None
        spread = np.zeros_like(prices.chain) if costs is None else costs - costs.mean()
        over = 0.0
        if problem.budget is not None and np.isfinite(problem.budget.limit):
            over = problem.budget.spent(problem, relaxed.units) - problem.budget.limit
            if prices.budget <= 0 and over < 0:
                over = 0.0
        size = float((excess**2).sum() + (spread**2).sum() + over**2)
        if size == 0:
            break  # the relaxed paths keep all limits: nothing to correct
        target = upper if np.isfinite(upper) else best + _GUESS * abs(best)
        amount = length * max(target - relaxed.value, 1e-9 * abs(best)) / size
        direction = _MOMENTUM * direction + excess
        prices = replace(
            prices,
            unit=np.maximum(0, prices.unit + amount * direction),
            budget=max(0.0, prices.budget + amount * over),
            chain=prices.chain if costs is None else _simplex(prices.chain + amount * spread),
        )
    return best, best_prices


def _simplex(weights: Floats) -> Floats:
    """The nearest weights that are not negative and sum to 1."""
    falling = np.sort(weights)[::-1]
    surplus = (np.cumsum(falling) - 1) / np.arange(1, len(weights) + 1)
    last = int(np.flatnonzero(falling > surplus)[-1])
    return np.maximum(0, weights - surplus[last])
