"""What is to be placed where: units, their radio network, CNNs with their sources and sinks, and limits.

An `Instance` is validated when made, cannot be changed afterwards, and is read from and written to YAML (of
which JSON is a part):

    >>> instance = Instance.from_yaml('''
    ... units:
    ... - {name: camera, type: stm32h7, position: [0, 0]}
    ... - {name: board, type: raspberry_pi_3b_plus, position: [2, 1]}
    ... - {name: server, memory_kb: 4194304, compute_limit_mop: 1000000, speed_mop_s: 5000, position: [4, 1]}
    ... range_m: 3.0
    ... cnns:
    ... - {cnn: alexnet, source: camera}
    ... layers_per_unit: 4
    ... ''')
    >>> instance.hops.tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]

Two units are linked if they are closer than `range_m`, or if `links` names the pair. Source and sink of a CNN
are a unit, or a point `[x, y]` in the plane that has a radio but takes no layers.

Source: Disabato, Roveri and Alippi, arXiv 1908.01656, Section III.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ddnn_tf.documents import Strict
from ddnn_tf.placement.cnn_catalogue import INPUT_KB, known_cnn
from ddnn_tf.placement.units import Location, Size, UnitNetwork

__all__ = ["Cnn", "Instance", "Objective", "Workload"]

Objective = Literal["sum", "max"]

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_SUM_TOLERANCE = 1e-6


class Cnn(Strict):
    """What the layers of a CNN demand, and after which of them decisions leave.

    Attributes:
        name: Name of the CNN.
        demand_mop: c, million operations of each layer.
        memory_kb: m, KB of each layer's weights.
        output_kb: K, KB of each layer's output; the last one is the decision.
        exit_probability: g, probability that the decision leaves after each layer; sums to 1. Left out,
            all leave after the last layer.
        run_probability: p, probability that each layer runs; never rises. Left out, 1 minus the exits before
            the layer.
        layers: Names of the layers; left out, `layer_0`, `layer_1`, ...

    Raises:
        ValueError: Unlike numbers of values, or probabilities that contradict each other.
    """

    name: str
    demand_mop: Annotated[tuple[Size, ...], Field(min_length=1)]
    memory_kb: tuple[Size, ...]
    output_kb: tuple[Size, ...]
    exit_probability: tuple[_Share, ...] = ()
    run_probability: tuple[_Share, ...] = ()
    layers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Cnn:
        count = len(self.demand_mop)
        exits = self.exit_probability or (0.0,) * (count - 1) + (1.0,)
        before = [0.0, *itertools.accumulate(exits)][:count]
        derived = tuple(max(0.0, 1.0 - share) for share in before)
        object.__setattr__(self, "exit_probability", exits)
        object.__setattr__(self, "run_probability", self.run_probability or derived)
        object.__setattr__(self, "layers", self.layers or tuple(f"layer_{number}" for number in range(count)))
        twice = [layer for layer in self.layers if self.layers.count(layer) > 1]
        if twice:
            raise ValueError(
                f"'layers' of '{self.name}' names {twice[0]!r} twice: each needs a name of its own"
            )
        for field in ("memory_kb", "output_kb", "exit_probability", "run_probability", "layers"):
            if len(getattr(self, field)) != count:
                raise ValueError(
                    f"'{field}' of '{self.name}' has {len(getattr(self, field))} values, but 'demand_mop' "
                    f"has {count}: give one for each layer"
                )
        if abs(sum(exits) - 1) > _SUM_TOLERANCE:
            raise ValueError(
                f"'exit_probability' of '{self.name}' adds up to {sum(exits):.6g}: every decision leaves "
                "somewhere, so it must add up to 1"
            )
        runs = self.run_probability
        for layer, (earlier, later) in enumerate(itertools.pairwise(runs)):
            if later > earlier + _SUM_TOLERANCE:
                raise ValueError(
                    f"'run_probability' of '{self.name}' rises from {earlier:g} to {later:g} after layer "
                    f"{layer}: a layer runs only if the one before it ran"
                )
        for layer, (leaves, run) in enumerate(zip(exits, runs, strict=True)):
            if leaves > run + _SUM_TOLERANCE:
                raise ValueError(
                    f"'exit_probability' of '{self.name}' is {leaves:g} after layer {layer}, which runs with "
                    f"probability {run:g}: no more can leave there"
                )
        return self

    @classmethod
    def builtin(cls, name: str) -> Cnn:
        """A built-in CNN (`CNNS`).

        Raises:
            ValueError: No built-in CNN has that name.
        """
        return cls(**known_cnn(name))


def _cnn_by_name(value: Any) -> Any:
    return known_cnn(value) if isinstance(value, str) else value


class Workload(Strict):
    """A CNN that classifies the images of a source and sends its decisions to a sink.

    Attributes:
        cnn: The CNN, or the name of a built-in one.
        source: Unit or point that its images come from.
        sink: Unit or point that its decisions go to; left out, the source.
        input_kb: Ks, KB of an image.
    """

    cnn: Annotated[Cnn, BeforeValidator(_cnn_by_name)]
    source: Location
    sink: Location | None = None
    input_kb: Size = INPUT_KB

    @property
    def target(self) -> Location:
        """The sink, or the source in its place."""
        return self.source if self.sink is None else self.sink


class Instance(UnitNetwork):
    """A placement problem.

    Attributes:
        units: The units.
        cnns: The CNNs that run on them.
        range_m: Units closer than this are linked, metres.
        links: Pairs of names of linked units, in place of positions and a range.
        data_rate_kb_s: R, data rate of a hop, KB per second.
        layers_per_unit: L, most layers on a unit; None: as many as its other limits allow.
        shared: Whether a unit may hold layers of several CNNs.
        objective: `sum` of the CNNs' latencies, as in the reference, or `max`, the latency of the slowest.
        energy_j_kb: Energy of sending, joules per KB and hop.
        reference_compatible: Whether the image travels to the second layer's unit instead of the first's,
            as in the reference code (a slip there); only for comparisons with its printed results.

    Raises:
        ValueError: A field is out of its range or contradicts another, or the network is not connected.
    """

    subject: ClassVar[str] = "placement instance"

    cnns: Annotated[tuple[Workload, ...], Field(min_length=1)]
    layers_per_unit: Annotated[int, Field(ge=1)] | None = None
    shared: bool = True
    objective: Objective = "sum"
    energy_j_kb: Size = 0.0
    reference_compatible: bool = False

    def locations(self) -> tuple[Location, ...]:
        """Sources and sinks."""
        return tuple(end for load in self.cnns for end in (load.source, load.target))

    def replace(self, **fields: Any) -> Instance:
        """The same instance with other fields, validated anew."""
        return Instance(**{**{name: getattr(self, name) for name in type(self).model_fields}, **fields})
