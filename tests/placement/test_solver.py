"""Solutions against exhaustive search, dynamic programming, and the reference's printed result."""

from __future__ import annotations

import numpy as np
import pytest
from small_placements import exhaustive, exhaustive_by_checker, small_instance

from ddnn_tf.placement import (
    Cnn,
    InfeasibleError,
    Instance,
    Unit,
    Workload,
    check_placement,
    random_instance,
    solve,
)
from ddnn_tf.placement.problem import energy_of, of_instance
from ddnn_tf.placement.random_instances import Scenario


@pytest.mark.parametrize("block", range(6))
def test_optimal_on_small_instances(block: int) -> None:
    """300 instances of all kinds: shared or not, sum or maximum, one or more layers a unit, tight limits."""
    solved = 0
    for seed in range(50 * block, 50 * block + 50):
        instance = small_instance(seed)
        best, _ = exhaustive(of_instance(instance))
        if not np.isfinite(best):
            with pytest.raises(InfeasibleError, match="No placement"):
                solve(instance)
            continue
        solution = solve(instance)
        assert solution.status == "optimal", seed
        assert solution.latency_s == pytest.approx(best, rel=2e-6), seed
        assert solution.bound_s <= best * (1 + 1e-9), seed
        solved += 1
    assert solved >= 20


def test_optimal_within_a_limit_of_energy() -> None:
    solved = 0
    for seed in range(40):
        instance = small_instance(seed)
        free = of_instance(instance)
        _, units = exhaustive(free)
        if units is None:
            continue
        limit = 0.8 * energy_of(instance, free).spent(free, units)
        expected, _ = exhaustive(of_instance(instance, limit))
        if not np.isfinite(expected):
            with pytest.raises(InfeasibleError):
                solve(instance, energy_limit_j=limit)
            continue
        solution = solve(instance, energy_limit_j=limit)
        assert solution.latency_s == pytest.approx(expected, rel=2e-6), seed
        assert solution.energy_j <= limit * (1 + 1e-6)
        solved += 1
    assert solved >= 10


@pytest.mark.parametrize("seed", [3, 8, 21, 34])
def test_model_means_what_the_checker_says(seed: int) -> None:
    instance = small_instance(seed)
    instance = instance.replace(
        units=instance.units[:3],
        links=(("unit_0", "unit_1"), ("unit_1", "unit_2")),
        cnns=tuple(load.model_copy(update={"source": "unit_0", "sink": "unit_2"}) for load in instance.cnns),
    )
    expected = exhaustive_by_checker(instance)
    if not np.isfinite(expected):
        with pytest.raises(InfeasibleError):
            solve(instance)
    else:
        assert solve(instance).latency_s == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_slack_capacity_is_a_shortest_path(seed: int) -> None:
    """A CNN on 50 units that hold it whole: dynamic programming over its layers, written out here."""
    instance = random_instance(Scenario(cnns=("resnet152",), layers_per_unit=None), seed)
    load = instance.cnns[0]
    cnn, rate, hops = load.cnn, instance.data_rate_kb_s, instance.hops
    speed = np.array([unit.speed_mop_s for unit in instance.units])
    reach = instance.hops_from(load.source)
    cost = cnn.demand_mop[0] / speed + load.input_kb * reach / rate
    for layer in range(1, len(cnn.layers)):
        cost = (cost[:, None] + cnn.output_kb[layer - 1] * hops / rate).min(axis=0)
        cost = cost + cnn.demand_mop[layer] / speed
    expected = (cost + cnn.output_kb[-1] * reach / rate).min()
    solution = solve(instance)
    assert solution.status == "optimal"
    assert solution.latency_s == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_printed_result_of_the_reference(seed: int) -> None:
    instance = random_instance("early-exit", seed).replace(reference_compatible=True)
    solution = solve(instance)
    assert solution.status == "optimal"
    assert solution.latency_s == pytest.approx(0.72899008, abs=1e-6)


def test_limits_that_are_met_exactly() -> None:
    """Layers of halves of a unit, a little more or less: HiGHS's own tolerances took wrong ones for right."""
    for seed in range(60):
        generator = np.random.default_rng(seed)
        little = float(generator.choice([4.5e-7, 1e-7, 2e-6]))
        cnns = [
            Cnn(
                name=f"cnn_{at}",
                demand_mop=tuple(map(float, generator.integers(1, 20, 3))),
                memory_kb=tuple(500 * (1 + 2 * little * generator.choice([0, 1, -1], 3))),
                output_kb=tuple(map(float, generator.integers(1, 20, 3))),
            )
            for at in range(2)
        ]
        units = [
            Unit(name=f"u{at}", memory_kb=1000, speed_mop_s=float(generator.integers(1, 20)))
            for at in range(3)
        ]
        instance = Instance(
            units=units,
            cnns=[Workload(cnn=cnn, source=f"u{generator.integers(3)}") for cnn in cnns],
            links=[("u0", "u1"), ("u1", "u2")],
            data_rate_kb_s=10.0,
            objective=["sum", "max"][seed % 2],
        )
        best, _ = exhaustive(of_instance(instance))
        if np.isfinite(best):
            assert solve(instance).latency_s == pytest.approx(best, rel=2e-6), seed
        else:
            with pytest.raises(InfeasibleError):
                solve(instance)


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1e6])
def test_seconds_of_any_size(size: float) -> None:
    """The solver's absolute tolerances do not show, however small the latencies are."""
    for seed in range(12):
        instance = small_instance(seed)
        units = [unit.model_copy(update={"speed_mop_s": unit.speed_mop_s / size}) for unit in instance.units]
        instance = instance.replace(units=tuple(units), data_rate_kb_s=instance.data_rate_kb_s / size)
        best, _ = exhaustive(of_instance(instance))
        if np.isfinite(best):
            solution = solve(instance)
            assert solution.latency_s == pytest.approx(best, rel=2e-6, abs=0), seed
            assert solution.status == "optimal"


def test_mixed_instance_is_proven() -> None:
    instance = random_instance("mixed", 9)
    solution = solve(instance)
    assert solution.status == "optimal"
    assert solution.gap <= 1e-6
    assert len({name for units in solution.assignment for name in units}) == 26  # one layer a unit
    checked = check_placement(instance, solution.assignment)
    assert checked.violations == ()
    assert checked.latency_s == solution.latency_s
    assert sum(cnn.processing_s + cnn.transmission_s for cnn in checked.cnns) == pytest.approx(
        solution.latency_s
    )


def test_out_of_time_is_not_called_optimal() -> None:
    instance = random_instance("mixed", 0).replace(objective="max")
    solution = solve(instance, time_limit=0.3)
    assert solution.status == "feasible"
    assert solution.bound_s < solution.latency_s
    assert solution.gap == pytest.approx(1 - solution.bound_s / solution.latency_s)


def test_maximum_is_not_above_that_of_the_least_sum() -> None:
    instance = random_instance("multi", 1).replace(layers_per_unit=8)
    by_sum = max(cnn.latency_s for cnn in solve(instance).cnns)
    by_maximum = solve(instance.replace(objective="max"), time_limit=20)
    assert by_maximum.latency_s <= by_sum * (1 + 1e-6)


def test_same_seed_same_placement() -> None:
    instance = random_instance("multi", 2)
    assert solve(instance).assignment == solve(instance).assignment


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"time_limit": 0}, "`time_limit` to be positive, but got 0"),
        ({"relative_gap": 0}, "`relative_gap` to be positive and below 1, but got 0"),
        ({"relative_gap": float("inf")}, "`relative_gap` to be positive and below 1, but got inf"),
        ({"energy_limit_j": -1}, "`energy_limit_j` to be 0 or more, but got -1"),
        ({"energy_limit_j": float("nan")}, "`energy_limit_j` to be 0 or more, but got nan"),
    ],
)
def test_options_out_of_range(option: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(random_instance("single"), **option)


def test_a_wide_gap_is_not_called_optimal() -> None:
    solution = solve(random_instance("mixed", 0), relative_gap=0.3)
    assert solution.gap > 1e-4
    assert solution.status == "feasible"


def test_loads_that_fit_exactly() -> None:
    """HiGHS's presolve called this infeasible; six layers fill three units to the last digit."""
    sizes = (2.8, 4.81, 9.62, 8.59, 16.96, 5.12)
    cnn = Cnn(name="net", demand_mop=(10, 9, 1, 19, 13, 1), memory_kb=sizes, output_kb=(11, 6, 18, 10, 14, 1))
    units = [
        Unit(name=f"u{at}", memory_kb=size, speed_mop_s=speed)
        for at, (size, speed) in enumerate([(33.47, 19), (4.81, 8), (9.62, 18)])
    ]
    instance = Instance(
        units=units, cnns=[Workload(cnn=cnn, source="u2")], links=[("u0", "u1"), ("u1", "u2")],
        data_rate_kb_s=10,
    )  # fmt: skip
    best, _ = exhaustive(of_instance(instance))
    assert solve(instance).latency_s == pytest.approx(best)
    for seed in range(80):
        generator = np.random.default_rng(seed)
        sizes = np.round(generator.uniform(1, 20, 5), 2)
        placed = generator.integers(0, 3, 5)
        units = [
            Unit(name=f"u{at}", memory_kb=float(sizes[placed == at].sum()), speed_mop_s=float(at + 3))
            for at in range(3)
        ]
        cnn = Cnn(
            name="net", demand_mop=tuple(map(float, generator.integers(1, 20, 5))), memory_kb=tuple(sizes),
            output_kb=tuple(map(float, generator.integers(1, 20, 5))),
        )  # fmt: skip
        instance = instance.replace(units=tuple(units), cnns=(Workload(cnn=cnn, source="u1"),))
        best, _ = exhaustive(of_instance(instance))
        assert solve(instance).latency_s == pytest.approx(best, rel=2e-6), seed


def test_unit_without_memory() -> None:
    units = (
        Unit(name="relay", memory_kb=0, speed_mop_s=1),
        Unit(name="board", memory_kb=1e6, speed_mop_s=100),
    )
    instance = Instance(
        units=units, cnns=[Workload(cnn="alexnet", source="relay")], links=[("relay", "board")]
    )
    assert set(solve(instance).assignment[0]) == {"board"}
