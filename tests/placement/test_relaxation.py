"""Bounds are bounds at any prices, and leaving out never loses the optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_placements import exhaustive, small_instance

from ddnn_tf.placement.heuristics import Weighted, construct, improve
from ddnn_tf.placement.problem import Problem, of_instance
from ddnn_tf.placement.relaxation import Prices, Relaxation


def random_prices(relaxation: Relaxation, seed: int) -> Prices:
    """Any prices that are not negative, and weights that add up to 1 if the objective is a maximum."""
    generator = np.random.default_rng(seed)
    start = relaxation.start()
    unit = generator.exponential(generator.choice([0.1, 1, 10]), start.unit.shape)
    unit[generator.random(unit.shape) < 0.5] = 0
    chain = start.chain
    if relaxation.problem.is_maximum:
        chain = generator.dirichlet(np.ones(len(chain)))
    return replace(start, unit=unit, chain=chain)


def contains(relaxation: Relaxation, units: np.ndarray) -> bool:
    """Whether an assignment can still be chosen."""
    problem, choices = relaxation.problem, relaxation.choices
    for chain in problem.chains:
        first = chain.start
        for task in chain:
            if task == chain[-1] or units[task + 1] != units[task]:
                if not choices.spans[first][task - first, units[task]]:
                    return False
                first = task + 1
    for block, link in zip(choices.steps, problem.transfers, strict=True):
        here, there = units[link.first], units[link.second]
        if here == there:
            continue
        row = np.flatnonzero(choices.ends[link.first] == here)
        column = np.flatnonzero(choices.begins[link.second] == there)
        if not len(row) or not len(column) or not block[row[0], column[0]]:
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_bound_and_pruning(instance_seed: int, price_seed: int) -> None:
    problem = of_instance(small_instance(instance_seed))
    best, units = exhaustive(problem)
    if units is None:
        return
    relaxation = Relaxation(problem)
    assert contains(relaxation, units)
    for no_return in (False, True) if problem.is_single else (False,):
        relaxation.no_return = no_return
        prices = random_prices(relaxation, price_seed)
        assert relaxation.relax(prices).value <= best * (1 + 1e-9) + 1e-9
        relaxation.prune(prices, best)
        assert contains(relaxation, units)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_both_directions_agree(instance_seed: int, price_seed: int) -> None:
    """A CNN's cheapest way costs the same from either end, and is what its layers and steps cost."""
    problem = of_instance(small_instance(instance_seed))
    relaxation = Relaxation(problem)
    relaxation.no_return = problem.is_single
    prices = random_prices(relaxation, price_seed)
    nodes, behind = relaxation.nodes(prices), relaxation.behind(prices)
    for chain in problem.chains:
        ways = relaxation.sweep(chain, nodes, prices)
        cost = ways[chain[-1]].best.min()
        assert behind[chain[0]].best.min() == pytest.approx(cost)
        if not np.isfinite(cost):
            continue
        units = relaxation.path(chain, ways)
        total = sum(nodes[task, unit] for task, unit in zip(chain, units, strict=True))
        for task in chain[:-1]:
            at = next(number for number, link in enumerate(problem.transfers) if link.first == task)
            here, there = units[task - chain.start], units[task - chain.start + 1]
            total += relaxation.per_hop(at, prices) * problem.hops[here, there]
        assert total == pytest.approx(cost)
        if relaxation.no_return:
            assert all(units[at] != units[at + 2] for at in range(len(units) - 2))


def limits_kept(problem: Problem, units: np.ndarray) -> bool:
    return bool((problem.load(units) <= problem.room).all())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_heuristics_keep_the_limits_and_do_not_make_worse(seed: int) -> None:
    problem = of_instance(small_instance(seed))
    relaxation = Relaxation(problem)
    prices = relaxation.start()
    built = construct(relaxation, prices, range(len(problem.chains)))
    if built is None:
        return
    assert problem.is_feasible(built)
    better = improve(relaxation, prices, built)
    assert limits_kept(problem, better)
    weighted = Weighted(relaxation, prices)
    assert weighted.value(better) <= weighted.value(built) * (1 + 1e-9)
