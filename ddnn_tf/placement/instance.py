"""What is to be placed where: units, their radio network, CNNs with their sources and sinks, and limits.

An `Instance` is validated when made, cannot be changed afterwards, and is read from and written to
YAML (of which JSON is a part):

    units:
    - {name: camera, type: stm32h7, position: [0, 0]}
    - {name: board, type: raspberry_pi_3b_plus, position: [2, 1]}
    - {name: server, memory_kb: 4194304, compute_limit_mop: 1000000, speed_mop_s: 5000, position: [4, 1]}
    range_m: 3.0
    cnns:
    - {cnn: alexnet, source: camera}
    layers_per_unit: 4

Units are linked when closer than `range_m`, or as `links` lists them. Source and sink of a CNN are a
unit, or a place `[x, y]` in the plane with a radio of its own, which takes no layers.

Source: Disabato, Roveri and Alippi, arXiv 1908.01656, Section III.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from ddnn_tf.placement.catalogue import INPUT_KB, known_cnn
from ddnn_tf.placement.units import Place, Size, Strict, UnitNetwork
from ddnn_tf.topology import read_text, yaml_mapping

__all__ = ["Cnn", "Instance", "Objective", "Workload"]

Objective = Literal["sum", "max"]

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_SUM_TOLERANCE = 1e-6


class Cnn(Strict):
    """A CNN as its layers demand it, with exits after some of them.

    Attributes:
        name: Its name.
        demand_mop: c, million operations of each layer.
        memory_kb: m, KB of each layer's weights.
        output_kb: K, KB of each layer's output; the last one is the decision.
        exit_probability: g, that the decision leaves after each layer; sums to 1. Left out: after the last.
        run_probability: p, that each layer runs at all; never rises. Left out: 1 minus the exits before it.
        layers: Names of the layers.
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
        object.__setattr__(self, "layers", self.layers or tuple(f"layer_{at}" for at in range(count)))
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
        for at, (earlier, later) in enumerate(itertools.pairwise(runs)):
            if later > earlier + _SUM_TOLERANCE:
                raise ValueError(
                    f"'run_probability' of '{self.name}' rises from {earlier:g} to {later:g} after layer "
                    f"{at}: a layer runs only if the one before it ran"
                )
        for at, (leaves, run) in enumerate(zip(exits, runs, strict=True)):
            if leaves > run + _SUM_TOLERANCE:
                raise ValueError(
                    f"'exit_probability' of '{self.name}' is {leaves:g} after layer {at}, which runs with "
                    f"probability {run:g}: no more can leave there"
                )
        return self

    @classmethod
    def builtin(cls, name: str) -> Cnn:
        """A CNN of the catalogue; raises ValueError if there is none of that name."""
        return cls(**known_cnn(name))


def _cnn_by_name(value: Any) -> Any:
    return known_cnn(value) if isinstance(value, str) else value


class Workload(Strict):
    """A CNN that runs for a source of images and tells its decisions to a sink.

    Attributes:
        cnn: The CNN, or the name of a built-in one.
        source: Where its images come from.
        sink: Where its decisions go; left out: to the source.
        input_kb: Ks, KB of an image.
    """

    cnn: Annotated[Cnn, BeforeValidator(_cnn_by_name)]
    source: Place
    sink: Place | None = None
    input_kb: Size = INPUT_KB

    @property
    def target(self) -> Place:
        """The sink, which is the source if none is given."""
        return self.source if self.sink is None else self.sink


class Instance(UnitNetwork):
    """A placement problem.

    Attributes:
        units: The units.
        cnns: The CNNs that run on them.
        range_m: Units closer than this are linked, metres.
        links: Pairs of unit names that are linked, in place of positions and a range.
        data_rate_kb_s: KB a second over a hop.
        layers_per_unit: L, the most layers on a unit; None: as many as its limits hold.
        shared: Whether a unit may hold layers of several CNNs.
        objective: `sum` of the CNNs' latencies (the reference's), or the `max`, that of the slowest.
        energy_j_kb: Joules per KB and hop.
        reference_compatible: The image travels to the second layer's unit instead of the first's, as in
            the reference code (a slip there). For comparisons with its printed results only.

    Raises:
        ValueError: A field is out of its range or contradicts another, or the network is not connected.
    """

    cnns: Annotated[tuple[Workload, ...], Field(min_length=1)]
    layers_per_unit: Annotated[int, Field(ge=1)] | None = None
    shared: bool = True
    objective: Objective = "sum"
    energy_j_kb: Size = 0.0
    reference_compatible: bool = False

    @classmethod
    def _subject(cls) -> str:
        return "placement instance"

    def places(self) -> tuple[Place, ...]:
        """Sources and sinks."""
        return tuple(place for load in self.cnns for place in (load.source, load.target))

    def replace(self, **fields: Any) -> Instance:
        """The same instance with other fields, validated anew."""
        return Instance(**{**{name: getattr(self, name) for name in type(self).model_fields}, **fields})

    def to_yaml(self) -> str:
        """The instance as YAML, which `from_yaml` reads back to an equal one."""
        return yaml.safe_dump(
            self.model_dump(mode="json", exclude_none=True),
            sort_keys=False,
            default_flow_style=None,
            width=math.inf,
        )

    @classmethod
    def from_yaml(cls, text: str) -> Instance:
        """Reads an instance from YAML or JSON text.

        Raises:
            ValueError: Not YAML, not a mapping, or a contradiction (the message names the field).
        """
        return cls(**yaml_mapping(text, "placement instance", "`units`, `cnns` and `range_m`"))

    @classmethod
    def load(cls, path: str | Path) -> Instance:
        """Reads an instance from a YAML or JSON file.

        Raises:
            FileNotFoundError: No such file.
            ValueError: As `from_yaml`, with the path in front.
        """
        return read_text(path, cls.from_yaml)
