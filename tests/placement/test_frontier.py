"""Fronts of latency and energy, against all placements of small instances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_placements import exhaustive, small_instance

from ddnn_tf.placement import Instance, random_instance
from ddnn_tf.placement.frontier import latency_energy_front
from ddnn_tf.placement.problem import energy_of, of_instance


def costs_energy(seed: int) -> Instance | None:
    instance = small_instance(seed)
    _, units = exhaustive(of_instance(instance))
    has_price = instance.energy_j_kb or any(unit.energy_j_mop for unit in instance.units)
    return instance if units is not None and has_price else None


def test_no_placement_dominates_the_front() -> None:
    checked = 0
    for seed in range(25):
        instance = costs_energy(seed)
        if instance is None:
            continue
        front = latency_energy_front(instance, 4)
        assert front[0].status == "optimal"
        for one, two in itertools.pairwise(front):
            assert one.latency_s < two.latency_s
            assert one.energy_j > two.energy_j
        problem = of_instance(instance)
        best, _ = exhaustive(problem)
        assert front[0].latency_s == pytest.approx(best, rel=2e-6)
        for solution in front:
            # With its own energy as the limit, nothing is faster.
            expected, _ = exhaustive(of_instance(instance, solution.energy_j))
            assert solution.latency_s == pytest.approx(expected, rel=1e-5)
            if instance.objective == "sum":
                # And nothing as fast takes less.
                frugal = exhaustive(of_instance(instance, solution.energy_j * (1 - 1e-4)))[0]
                assert frugal > solution.latency_s * (1 + 1e-7)
        # The last point needs the least energy that there is.
        lower = front[-1].energy_j * (1 - 1e-5)
        assert exhaustive(of_instance(instance, lower))[1] is None
        checked += 1
    assert checked >= 10


def test_front_of_a_real_network() -> None:
    instance = random_instance("single", 0)
    units = tuple(
        unit.model_copy(
            update={"energy_j_mop": 4.0 / unit.speed_mop_s if unit.type == "orange_pi_zero" else 0.02}
        )
        for unit in instance.units
    )
    front = latency_energy_front(instance.replace(units=units, energy_j_kb=1e-5), 4)
    assert len(front) >= 3
    assert {solution.status for solution in front} == {"optimal"}
    problem = of_instance(front[0].instance)
    names = front[0].instance.unit_names
    for solution in front:
        placed = np.array([names.index(unit) for units in solution.assignment for unit in units])
        assert energy_of(front[0].instance, problem).spent(problem, placed) == pytest.approx(
            solution.energy_j
        )


def test_refuses() -> None:
    with pytest.raises(ValueError, match="'energy_j_mop' of every unit and 'energy_j_kb' are 0"):
        latency_energy_front(random_instance("single", 0))
    with pytest.raises(ValueError, match="`points` to be at least 2, but got 1"):
        latency_energy_front(random_instance("single", 0), 1)
