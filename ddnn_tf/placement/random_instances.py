"""Random instances of the reference's scenarios: units placed at random in a square, types by probability.

    >>> instance = random_instance("early-exit", seed=0)
    >>> len(instance.units), instance.cnns[0].cnn.name
    (50, 'alexnet_early_exit')

The same seed gives the same instance. Networks that are not connected are drawn again.

Source: Disabato, Roveri and Alippi, arXiv 1908.01656, and the notebooks of their code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.cnn_catalogue import DATA_RATE_KB_S, DEFAULT_MIX, INPUT_KB, known_cnn, known_unit_type
from ddnn_tf.placement.instance import Cnn, Instance, Objective, Workload
from ddnn_tf.placement.units import Unit

__all__ = ["SCENARIOS", "Scenario", "check_scenario", "random_instance"]

# At a range that connects one network in a hundred, failing all of them is all but impossible.
_ATTEMPTS = 1000


@dataclass(frozen=True)
class Scenario:
    """Parameters of random instances; the defaults are the reference's.

    Attributes:
        cnns: Names of built-in CNNs; each gets a source of its own.
        units: Number of units.
        half_width_m: Half the side of the square in which units, sources and sinks lie, metres.
        range_m: Radio range, metres.
        data_rate_kb_s: Data rate of a hop, KB per second.
        input_kb: Size of an image, KB.
        mix: Probability of each unit type; the probabilities add up to 1. None: `DEFAULT_MIX`.
        sink_is_source: Whether decisions go back to the source; otherwise each sink is drawn as well.
        layers_per_unit: L, most layers on a unit.
        shared: Whether a unit may hold layers of several CNNs.
        objective: `sum` or `max`, as in `Instance`.
        reference_compatible: As in `Instance`.
    """

    cnns: tuple[str, ...] = ("alexnet",)
    units: int = 50
    half_width_m: float = 15.0
    range_m: float = 7.5
    data_rate_kb_s: float = DATA_RATE_KB_S
    input_kb: float = INPUT_KB
    mix: Mapping[str, float] | None = None
    sink_is_source: bool = True
    layers_per_unit: int | None = 1
    shared: bool = True
    objective: Objective = "sum"
    reference_compatible: bool = False


SCENARIOS: dict[str, Scenario] = {
    "single": Scenario(),
    "early-exit": Scenario(
        cnns=("alexnet_early_exit",),
        half_width_m=5.0,
        range_m=3.0,
        mix={"stm32h7": 0.5, "raspberry_pi_3b_plus": 0.5},
    ),
    "multi": Scenario(cnns=("alexnet",) * 3),
    "mixed": Scenario(cnns=("alexnet_early_exit", "resnet101", "resnet101"), half_width_m=5.0, range_m=3.0),
}
"""Scenarios of the reference's four notebooks, by name."""


def random_instance(scenario: Scenario | str = "single", seed: int = 0) -> Instance:
    """Draws an instance.

    Args:
        scenario: Its parameters, or a name out of `SCENARIOS`.
        seed: Seed of the random generator.

    Raises:
        ValueError: The scenario, a unit type or a CNN is unknown, the probabilities do not add up to 1, or
            the range is too small to connect the units.
    """
    if isinstance(scenario, str):
        if scenario not in SCENARIOS:
            raise ValueError(f"Expected a scenario out of {', '.join(SCENARIOS)}, but got {scenario!r}.")
        scenario = SCENARIOS[scenario]
    check_scenario(scenario)
    mix = DEFAULT_MIX if scenario.mix is None else scenario.mix
    cnns = [Cnn.builtin(name) for name in scenario.cnns]
    generator = np.random.default_rng(seed)
    points = _connected(scenario, len(cnns), generator)
    types = generator.choice(list(mix), scenario.units, p=np.array(list(mix.values())) / sum(mix.values()))
    ends = [(float(x), float(y)) for x, y in points[scenario.units :]]
    return Instance(
        units=tuple(
            Unit(
                name=f"unit_{number}",
                type=str(unit_type),
                position=(float(x), float(y)),
                **known_unit_type(unit_type),
            )
            for number, (unit_type, (x, y)) in enumerate(zip(types, points[: scenario.units], strict=True))
        ),
        cnns=tuple(
            Workload(
                cnn=cnn,
                source=ends[number],
                sink=None if scenario.sink_is_source else ends[len(cnns) + number],
                input_kb=scenario.input_kb,
            )
            for number, cnn in enumerate(cnns)
        ),
        range_m=scenario.range_m,
        data_rate_kb_s=scenario.data_rate_kb_s,
        layers_per_unit=scenario.layers_per_unit,
        shared=scenario.shared,
        objective=scenario.objective,
        reference_compatible=scenario.reference_compatible,
    )


def check_scenario(scenario: Scenario) -> None:
    """Checks a scenario.

    Raises:
        ValueError: A parameter is out of its range, or names an unknown unit type or CNN.
    """
    if scenario.units < 1:
        raise ValueError(f"Expected `units` to be at least 1, but got {scenario.units}.")
    for field in ("half_width_m", "range_m", "data_rate_kb_s"):
        value: Any = getattr(scenario, field)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"Expected `{field}` to be positive, but got {value}.")
    if not (math.isfinite(scenario.input_kb) and scenario.input_kb >= 0):
        raise ValueError(f"Expected `input_kb` to be 0 or more, but got {scenario.input_kb}.")
    if not scenario.cnns:
        raise ValueError("Expected `cnns` to name at least one CNN, but got none.")
    shares: Sequence[float] = list((DEFAULT_MIX if scenario.mix is None else scenario.mix).values())
    if not all(share >= 0 for share in shares) or not abs(sum(shares) - 1) <= 1e-6:
        raise ValueError(
            f"Expected the probabilities in `mix` to add up to 1, but got {dict(scenario.mix or {})}."
        )
    for name in scenario.cnns:
        known_cnn(name)
    for unit_type in scenario.mix or {}:
        known_unit_type(unit_type)


def _connected(scenario: Scenario, cnns: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Positions of units, sources and (unless they are the sources) sinks, in a connected network."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    count = scenario.units + cnns * (1 if scenario.sink_is_source else 2)
    width = scenario.half_width_m
    for _ in range(_ATTEMPTS):
        points = generator.uniform(-width, width, (count, 2))
        apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        if connected_components(csr_matrix(apart < scenario.range_m))[0] == 1:
            return points
    raise ValueError(
        f"Expected a range that connects {scenario.units} units in {2 * width:g} m x {2 * width:g} m, but "
        f"with {scenario.range_m:g} m none of {_ATTEMPTS} networks was connected: raise `range_m`, or draw "
        "more units."
    )
