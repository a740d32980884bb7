"""Latency, energy and violated limits of a placement, computed from the definition.

The checker shares no code with model and solver: it finds hops by a breadth-first search of its own and adds
up costs layer by layer. Its result is therefore independent evidence for a solver's answer.

    >>> from ddnn_tf.placement import Unit, Workload
    >>> units = [Unit(name="board", type="jetson"), Unit(name="camera", type="stm32h7")]
    >>> load = Workload(cnn="sevenlayer", source="camera")
    >>> instance = Instance(units=units, links=[("board", "camera")], cnns=[load])
    >>> check_placement(instance, [["camera"] * 5]).violations
    ('camera holds 5548.29 KB of 512',)

Source: Disabato, Roveri and Alippi, arXiv 1908.01656, Section III.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddnn_tf.placement.instance import Instance
from ddnn_tf.placement.units import Location, Point, Unit

__all__ = ["Checked", "CnnLatency", "check_placement"]

_TOLERANCE = 1e-7  # relative; far above rounding


@dataclass(frozen=True)
class CnnLatency:
    """Expected latency and energy of a CNN in a placement.

    Attributes:
        processing_s: Time of computing, expected over the exits, seconds.
        transmission_s: Time on the network, from image to decision, seconds.
        energy_j: Energy of computing and sending, joules.
    """

    processing_s: float
    transmission_s: float
    energy_j: float

    @property
    def latency_s(self) -> float:
        """Time of computing and on the network together, seconds."""
        return self.processing_s + self.transmission_s


@dataclass(frozen=True)
class Checked:
    """A recomputed placement.

    Attributes:
        latency_s: The instance's objective, seconds.
        energy_j: Energy for one image of each CNN, joules.
        cnns: Latency and energy by CNN.
        violations: A sentence for each violated limit.
    """

    latency_s: float
    energy_j: float
    cnns: tuple[CnnLatency, ...]
    violations: tuple[str, ...]


def check_placement(instance: Instance, assignment: Sequence[Sequence[str]]) -> Checked:
    """Recomputes a placement from scratch.

    Args:
        instance: The problem.
        assignment: Name of the unit of each layer, by CNN.

    Raises:
        ValueError: A layer has no unit, or a unit is unknown.
    """
    units = {unit.name: unit for unit in instance.units}
    if len(assignment) != len(instance.cnns):
        raise ValueError(f"Expected an assignment for {len(instance.cnns)} CNNs, but got {len(assignment)}.")
    for load, placed in zip(instance.cnns, assignment, strict=True):
        if len(placed) != len(load.cnn.layers):
            raise ValueError(
                f"Expected units for the {len(load.cnn.layers)} layers of '{load.cnn.name}', but got "
                f"{len(placed)}."
            )
        for name in placed:
            if name not in units:
                raise ValueError(f"Expected units of the instance, but got {name!r}: there is no such unit.")
    hops = _Hops(instance)
    cnns = [
        _latency(instance, number, [units[name] for name in placed], hops)
        for number, placed in enumerate(assignment)
    ]
    latencies = [each.latency_s for each in cnns]
    return Checked(
        latency_s=max(latencies) if instance.objective == "max" else math.fsum(latencies),
        energy_j=math.fsum(each.energy_j for each in cnns),
        cnns=tuple(cnns),
        violations=tuple(_violations(instance, assignment, units)),
    )


def _latency(instance: Instance, number: int, placed: list[Unit], hops: _Hops) -> CnnLatency:
    load = instance.cnns[number]
    cnn, last = load.cnn, len(placed) - 1
    processing, energy, sent = [], [], []
    for layer, unit in enumerate(placed):
        work = cnn.run_probability[layer] * cnn.demand_mop[layer]
        processing.append(work / unit.speed_mop_s)
        energy.append(work * unit.energy_j_mop)
        to_sink = hops.between(load.target, unit.name)
        sent.append(cnn.exit_probability[layer] * cnn.output_kb[last] * to_sink)
        if layer < last:
            apart = hops.between(unit.name, placed[layer + 1].name)
            sent.append(cnn.run_probability[layer + 1] * cnn.output_kb[layer] * apart)
    entry = 1 if instance.reference_compatible and last > 0 else 0
    sent.append(cnn.run_probability[entry] * load.input_kb * hops.between(load.source, placed[entry].name))
    kb_hops = math.fsum(sent)
    return CnnLatency(
        processing_s=math.fsum(processing),
        transmission_s=kb_hops / instance.data_rate_kb_s,
        energy_j=math.fsum(energy) + kb_hops * instance.energy_j_kb,
    )


def _violations(instance: Instance, assignment: Sequence[Sequence[str]], units: dict[str, Unit]) -> list[str]:
    memory: dict[str, float] = collections.defaultdict(float)
    compute: dict[str, float] = collections.defaultdict(float)
    layers: dict[str, int] = collections.defaultdict(int)
    cnns: dict[str, set[int]] = collections.defaultdict(set)
    for number, placed in enumerate(assignment):
        cnn = instance.cnns[number].cnn
        for layer, name in enumerate(placed):
            memory[name] += cnn.memory_kb[layer]
            compute[name] += cnn.demand_mop[layer]
            layers[name] += 1
            cnns[name].add(number)
    violations = []
    for name in memory:
        unit = units[name]
        if memory[name] > unit.memory_kb * (1 + _TOLERANCE):
            violations.append(f"{name} holds {memory[name]:g} KB of {unit.memory_kb:g}")
        if compute[name] > unit.compute_limit_mop * (1 + _TOLERANCE):
            violations.append(
                f"{name} computes {compute[name]:g} million operations of {unit.compute_limit_mop:g}"
            )
        if instance.layers_per_unit is not None and layers[name] > instance.layers_per_unit:
            violations.append(f"{name} holds {layers[name]} layers of {instance.layers_per_unit}")
        if not instance.shared and len(cnns[name]) > 1:
            violations.append(f"{name} holds layers of {len(cnns[name])} CNNs, but units are not shared")
    return violations


class _Hops:
    """Hops between units and points, by breadth-first search."""

    def __init__(self, instance: Instance) -> None:
        points: dict[Location, Point | None] = {unit.name: unit.position for unit in instance.units}
        for load in instance.cnns:
            for end in (load.source, load.target):
                if not isinstance(end, str):
                    points[end] = end
        self._neighbours: dict[Location, list[Location]] = {name: [] for name in points}
        reach = instance.range_m
        for (one, first), (two, second) in itertools.combinations(points.items(), 2):
            if reach is not None and first and second and math.dist(first, second) < reach:
                self._link(one, two)
        for pair in instance.links or ():
            self._link(*pair)
        self._distances: dict[Location, dict[Location, int]] = {}

    def _link(self, one: Location, two: Location) -> None:
        self._neighbours[one].append(two)
        self._neighbours[two].append(one)

    def between(self, start: Location, end: Location) -> int:
        """Hops on the shortest path."""
        if start not in self._distances:
            distance = {start: 0}
            queue = collections.deque([start])
            while queue:
                here = queue.popleft()
                for there in self._neighbours[here]:
                    if there not in distance:
                        distance[there] = distance[here] + 1
                        queue.append(there)
            self._distances[start] = distance
        return self._distances[start][end]
