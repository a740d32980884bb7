"""Random instances like the reference's experiments: units drawn in a square, types by probability.

The same seed gives the same instance. A network that is not connected is drawn again.

Source: Disabato, Roveri and Alippi, arXiv 1908.01656, and the notebooks of their code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.placement.catalogue import DATA_RATE_KB_S, DEFAULT_MIX, INPUT_KB, known_cnn, known_unit_type
from ddnn_tf.placement.instance import Cnn, Instance, Objective, Workload
from ddnn_tf.placement.units import Unit

__all__ = ["EXPERIMENTS", "Experiment", "check_experiment", "random_instance"]

_ATTEMPTS = 1000


@dataclass(frozen=True)
class Experiment:
    """The parameters of a random instance; the defaults are the reference's.

    Attributes:
        cnns: Names of built-in CNNs; each gets a source of its own.
        units: Number of units.
        half_width_m: Units, sources and sinks lie in a square of twice this side, metres.
        range_m: Radio range, metres.
        data_rate_kb_s: KB a second over a hop.
        input_kb: KB of an image.
        mix: Probability of each unit type; adds up to 1.
        sink_is_source: Otherwise each sink is drawn, too.
        layers_per_unit: L.
        shared: Whether a unit may hold layers of several CNNs.
        objective: `sum` or `max`.
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


EXPERIMENTS: dict[str, Experiment] = {
    "single": Experiment(),
    "early-exit": Experiment(
        cnns=("alexnet_early_exit",),
        half_width_m=5.0,
        range_m=3.0,
        mix={"stm32h7": 0.5, "raspberry_pi_3b_plus": 0.5},
    ),
    "multi": Experiment(cnns=("alexnet",) * 3),
    "mixed": Experiment(cnns=("alexnet_early_exit", "resnet101", "resnet101"), half_width_m=5.0, range_m=3.0),
}
"""The reference's four notebooks."""


def random_instance(experiment: Experiment | str = "single", seed: int = 0) -> Instance:
    """Draws an instance.

    Args:
        experiment: Its parameters, or one of `EXPERIMENTS`.
        seed: Of the drawing.

    Raises:
        ValueError: An unknown experiment, unit type or CNN, probabilities that do not add up to 1, or
            so small a range that no connected network was found.
    """
    if isinstance(experiment, str):
        if experiment not in EXPERIMENTS:
            raise ValueError(
                f"Expected an experiment out of {', '.join(EXPERIMENTS)}, but got {experiment!r}."
            )
        experiment = EXPERIMENTS[experiment]
    check_experiment(experiment)
    mix = DEFAULT_MIX if experiment.mix is None else experiment.mix
    cnns = [Cnn.builtin(name) for name in experiment.cnns]
    generator = np.random.default_rng(seed)
    points = _connected(experiment, len(cnns), generator)
    kinds = generator.choice(list(mix), experiment.units, p=np.array(list(mix.values())) / sum(mix.values()))
    places = [(float(x), float(y)) for x, y in points[experiment.units :]]
    return Instance(
        units=tuple(
            Unit(name=f"unit_{at}", type=str(kind), position=(float(x), float(y)), **known_unit_type(kind))
            for at, (kind, (x, y)) in enumerate(zip(kinds, points[: experiment.units], strict=True))
        ),
        cnns=tuple(
            Workload(
                cnn=cnn,
                source=places[at],
                sink=None if experiment.sink_is_source else places[len(cnns) + at],
                input_kb=experiment.input_kb,
            )
            for at, cnn in enumerate(cnns)
        ),
        range_m=experiment.range_m,
        data_rate_kb_s=experiment.data_rate_kb_s,
        layers_per_unit=experiment.layers_per_unit,
        shared=experiment.shared,
        objective=experiment.objective,
        reference_compatible=experiment.reference_compatible,
    )


def check_experiment(experiment: Experiment) -> None:
    """Raises ValueError if a parameter is out of its range, or names an unknown type or CNN."""
    if experiment.units < 1:
        raise ValueError(f"Expected `units` to be at least 1, but got {experiment.units}.")
    for field in ("half_width_m", "range_m", "data_rate_kb_s"):
        value: Any = getattr(experiment, field)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"Expected `{field}` to be positive, but got {value}.")
    if not (math.isfinite(experiment.input_kb) and experiment.input_kb >= 0):
        raise ValueError(f"Expected `input_kb` to be 0 or more, but got {experiment.input_kb}.")
    if not experiment.cnns:
        raise ValueError("Expected `cnns` to name at least one CNN, but got none.")
    shares: Sequence[float] = list((DEFAULT_MIX if experiment.mix is None else experiment.mix).values())
    if not all(share >= 0 for share in shares) or not abs(sum(shares) - 1) <= 1e-6:
        raise ValueError(
            f"Expected the probabilities in `mix` to add up to 1, but got {dict(experiment.mix or {})}."
        )
    for name in experiment.cnns:
        known_cnn(name)
    for kind in experiment.mix or {}:
        known_unit_type(kind)


def _connected(experiment: Experiment, cnns: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Positions of units, sources and (unless they are the sources) sinks, in a connected network."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    count = experiment.units + cnns * (1 if experiment.sink_is_source else 2)
    width = experiment.half_width_m
    for _ in range(_ATTEMPTS):
        points = generator.uniform(-width, width, (count, 2))
        apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        if connected_components(csr_matrix(apart < experiment.range_m))[0] == 1:
            return points
    raise ValueError(
        f"Expected a range that connects {experiment.units} units in {2 * width:g} m x {2 * width:g} m, but "
        f"with {experiment.range_m:g} m none of {_ATTEMPTS} networks was connected: raise `range_m`, or draw "
        "more units."
    )
