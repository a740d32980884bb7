"""An instance without a placement says which limit breaks."""

from __future__ import annotations

import pytest

from ddnn_tf.placement import Cnn, InfeasibleError, Instance, Unit, Workload, solve


def instance(memories: list[float], layers: list[float], copies: int = 1, **changes: object) -> Instance:
    units = [
        Unit(name=f"u{at}", memory_kb=size, compute_limit_mop=100, speed_mop_s=1)
        for at, size in enumerate(memories)
    ]
    cnn = Cnn(name="net", demand_mop=[10] * len(layers), memory_kb=layers, output_kb=[1] * len(layers))
    links = [(f"u{at}", f"u{at + 1}") for at in range(len(units) - 1)]
    fields = {"units": units, "cnns": [Workload(cnn=cnn, source="u0")] * copies, "links": links}
    return Instance(**{**fields, **changes})


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (instance([10, 20], [5, 30]),
         r"layer 'layer_1' of 'net' needs 30 KB of memory, but the largest unit, u1, has 20 \('memory_kb'\)"),
        (instance([10, 10], [8, 8, 8]), r"need 24 KB of memory, but all units together hold 20"),
        (instance([90, 90], [1, 1, 1], layers_per_unit=1), r"need 3 layers, but all units together hold 2"),
        (instance([90, 90], [1] * 21), r"need 210 million operations, but all units together hold 200"),
        (instance([100, 5, 5], [50, 40, 1], layers_per_unit=1),
         r"2 layers \(layer 'layer_0' of 'net', layer 'layer_1' of 'net'\) fit only 1 units \(u0\), which"),
        (instance([10, 10, 10], [6, 6, 6, 6]), r"not all at once. It would take 2 KB of memory more"),
        (instance([20, 4], [2, 2], copies=3, shared=False), r"'shared: false'.*enough if CNNs share them"),
    ],
)  # fmt: skip
def test_names_the_limit(problem: Instance, message: str) -> None:
    with pytest.raises(InfeasibleError, match=message):
        solve(problem)


def test_layer_that_computes_too_much() -> None:
    cnn = Cnn(name="net", demand_mop=[500], memory_kb=[1], output_kb=[1])
    units = [Unit(name="u", memory_kb=10, compute_limit_mop=100, speed_mop_s=1)]
    with pytest.raises(InfeasibleError, match=r"needs 500 million operations.*'compute_limit_mop'"):
        solve(Instance(units=units, cnns=[Workload(cnn=cnn, source="u")]))


def test_energy_that_cannot_be_kept() -> None:
    cnn = Cnn(name="net", demand_mop=[10], memory_kb=[1], output_kb=[1])
    units = [Unit(name="u", memory_kb=10, speed_mop_s=1, energy_j_mop=1)]
    problem = Instance(units=units, cnns=[Workload(cnn=cnn, source="u")])
    assert solve(problem, energy_limit_j=10).energy_j == 10
    with pytest.raises(InfeasibleError, match=r"at most 9\.5 J"):
        solve(problem, energy_limit_j=9.5)


def test_energy_is_blamed_before_sharing() -> None:
    cnn = Cnn(name="net", demand_mop=[1], memory_kb=[1], output_kb=[0])
    first = Unit(name="a", memory_kb=10, speed_mop_s=1)
    units = [first, first.model_copy(update={"name": "b", "energy_j_mop": 5.0})]
    problem = Instance(
        units=units, cnns=[Workload(cnn=cnn, source="a")] * 2, links=[("a", "b")], shared=False
    )
    with pytest.raises(InfeasibleError, match=r"at most 3 J \('energy_limit_j'\)"):
        solve(problem, energy_limit_j=3)
    free = problem.replace(shared=True)
    assert solve(free, energy_limit_j=0).energy_j == 0
