"""Placement of a trained DDNN: which unit holds the aggregator, the edges and the cloud's section.

A device's section stays with its sensor; what is to be decided is where the tiers above it go. Devices work
side by side, so that a sample waits for the slowest. With q(t) the share of samples that reach tier t,
measured on validation data, the expected latency of a decision is

      max over devices of (section's time + class vector to the aggregator) + aggregator's time
    + q(edge)  * max over devices and their edges of (feature map to the edge + edge's time + its answer back)
    + q(cloud) * (max over senders of (feature map to the cloud) + cloud's time + its answer back)
    + decision from the aggregator to the sink

Bytes are those of Eq. (1); answers are class vectors. Without edges the middle line falls away; in
configuration (a) devices send raw images and the aggregator only coordinates. Operations, memory and the
problem's form are those of `profile` and `problem`.

Source: Teerapittayanon et al. 2017, Sections III-D and III-E; Disabato et al., arXiv 1908.01656.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ddnn_tf.communication import bytes_per_link
from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.evaluation import tier_probabilities
from ddnn_tf.exits import staged_inference
from ddnn_tf.placement.deployment import Deployment
from ddnn_tf.placement.feasibility import InfeasibleError
from ddnn_tf.placement.problem import Branch, Link, Problem, Stage
from ddnn_tf.placement.profile import Demand, demand_of
from ddnn_tf.placement.solver import Outcome, solve_problem
from ddnn_tf.runtime.plan import Plan, PlannedProcess
from ddnn_tf.sections import cut
from ddnn_tf.topology import Topology

__all__ = ["PlacedHierarchy", "SectionProfile", "place_hierarchy", "section_profile"]

_KB = 1000
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class SectionProfile:
    """What a trained hierarchy demands.

    Attributes:
        topology: The hierarchy.
        demands: By section name.
        exit_shares: Share of the validation samples that leave at each tier.
    """

    topology: Topology
    demands: Mapping[str, Demand]
    exit_shares: Mapping[str, float]

    def reach(self, tier: str) -> float:
        """Share of the samples that get as far as a tier."""
        tiers = list(self.exit_shares)
        return max(0.0, 1.0 - sum(self.exit_shares[each] for each in tiers[: tiers.index(tier)]))


@dataclass(frozen=True)
class PlacedHierarchy:
    """Where the sections of a hierarchy go.

    Attributes:
        units: Unit by process: `device_0`, ..., `aggregator`, `edge_0`, ..., `cloud`.
        profile: What was placed.
        latency_s: Expected latency of a decision, seconds.
        bound_s: No placement has less.
        gap: (latency - bound) / latency.
        status: As of a `Solution`.
        seconds: What solving took.
        plan: For `ddnn serve plan`.
    """

    units: Mapping[str, str]
    profile: SectionProfile
    latency_s: float
    bound_s: float
    gap: float
    status: str
    seconds: float
    plan: Plan

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "latency_s": self.latency_s,
            "bound_s": self.bound_s,
            "gap": self.gap,
            "status": self.status,
            "seconds": self.seconds,
            "exit_shares": dict(self.profile.exit_shares),
            "assignment": dict(self.units),
        }


def section_profile(
    model: tf.keras.Model, topology: Topology, thresholds: Mapping[str, float], data: MultiViewDataset
) -> SectionProfile:
    """What a network's sections demand, and how many samples leave at each exit on validation data.

    Args:
        model: A trained model of `build(topology)`.
        topology: Its topology.
        thresholds: T by tier, for all tiers but the last.
        data: The data that it was trained on.
    """
    probabilities = tier_probabilities(model, topology, data.images[data.split["validation"]])
    limits = [thresholds[tier] for tier in topology.exit_tiers[:-1]]
    shares = staged_inference(list(probabilities.values()), limits).shares
    sections = cut(model, topology).values()
    demands = {section.name: demand_of(section.model.layers, section.model) for section in sections}
    return SectionProfile(topology, demands, dict(zip(topology.exit_tiers, map(float, shares), strict=True)))


def place_hierarchy(
    profile: SectionProfile,
    deployment: Deployment,
    *,
    time_limit: float = 60.0,
    relative_gap: float = 1e-6,
) -> PlacedHierarchy:
    """Places a hierarchy's sections.

    Args:
        profile: The hierarchy (`section_profile`).
        deployment: The network.
        time_limit: Seconds.
        relative_gap: As for `solve`.

    Raises:
        ValueError: A device without a sensor, or a sensor of no device.
        InfeasibleError: A section fits no unit; the message names it.
        TimeoutError: No placement was found in time.
    """
    topology = profile.topology
    for name in topology.device_names:
        if name not in deployment.sensors:
            raise ValueError(f"Expected 'sensors' to name the unit of {name}'s sensor, but got none.")
    for name in deployment.sensors:
        if name not in topology.device_names:
            raise ValueError(
                f"Expected 'sensors' of {', '.join(topology.device_names)}, but got {name!r}: no such device."
            )
    problem, processes = _problem(profile, deployment)
    outcome = solve_problem(problem, time_limit=time_limit, relative_gap=relative_gap)
    if outcome.units is None:
        raise TimeoutError(f"No placement was found in {time_limit:g} s: raise --time-limit.")
    units = {name: deployment.unit_names[unit] for name, unit in zip(processes, outcome.units, strict=True)}
    return PlacedHierarchy(
        units=units,
        profile=profile,
        latency_s=outcome.objective,
        bound_s=outcome.bound,
        gap=outcome.gap,
        status=outcome.status,
        seconds=outcome.seconds,
        plan=_plan(topology, deployment, units, outcome),
    )


def _problem(profile: SectionProfile, deployment: Deployment) -> tuple[Problem, list[str]]:
    topology = profile.topology
    devices, edges = list(topology.device_names), list(topology.edge_names)
    processes = [*devices, "aggregator", *edges, "cloud"]
    number = {name: at for at, name in enumerate(processes)}
    sections = ["local" if name == "aggregator" else name for name in processes]
    nothing = Demand(0.0, 0.0)  # a device that sends raw images, or an aggregator that only coordinates
    demands = [profile.demands.get(name, nothing) for name in sections]
    speed = np.array([unit.speed_mop_s for unit in deployment.units])
    cost = np.array([each.mop for each in demands])[:, None] / speed[None]
    answer = float(_FLOAT_BYTES * topology.classes)
    if deployment.sink is not None:
        seconds = answer / _KB / deployment.data_rate_kb_s
        cost[number["aggregator"]] += seconds * deployment.hops_from(deployment.sink)

    limits = np.array([[unit.memory_kb, unit.compute_limit_mop] for unit in deployment.units]).T
    most = np.inf if deployment.sections_per_unit is None else float(deployment.sections_per_unit)
    capacity = np.vstack([limits, np.full(len(speed), most)])
    demand = np.array([[each.memory_kb, each.mop, 1.0] for each in demands]).T
    cost[~(demand[:, :, None] <= capacity[:, None] * (1 + 1e-9)).all(axis=0)] = np.inf
    for name in devices:
        home = deployment.unit_names.index(deployment.sensors[name])
        if not np.isfinite(cost[number[name], home]):
            raise InfeasibleError(
                f"No placement: {name}'s section needs {demands[number[name]].memory_kb:g} KB and "
                f"{demands[number[name]].mop:g} million operations, but its sensor's unit "
                f"{deployment.sensors[name]!r} has 'memory_kb' {deployment.units[home].memory_kb:g} and "
                f"'compute_limit_mop' {deployment.units[home].compute_limit_mop:g}: give it a larger unit."
            )
        elsewhere = np.arange(len(speed)) != home
        cost[number[name], elsewhere] = np.inf

    links: list[Link] = []
    # Bytes on every link of a sample that reaches the cloud.
    always = bytes_per_link(topology, [*(0.0 for _ in topology.exit_tiers[1:]), 1.0])

    def link(first: str, second: str, size: float) -> int:
        seconds = size / _KB / deployment.data_rate_kb_s
        links.append(Link(number[first], number[second], seconds))
        return len(links) - 1

    def up(first: str, second: str) -> int:
        return link(first, "aggregator" if second == "local" else second, always[f"{first} -> {second}"])

    def of(*names: str) -> tuple[int, ...]:
        return tuple(number[name] for name in names)

    stages = [Stage(1.0, (Branch(of("aggregator"), ()),))]
    if topology.devices.blocks:
        stages.append(Stage(1.0, tuple(Branch(of(name), (up(name, "local"),)) for name in devices)))
    if edges:
        answers = {name: link(name, "aggregator", answer) for name in edges}
        ways = tuple(
            Branch(of(name), (up(devices[device], name), answers[name]))
            for name, edge in zip(edges, topology.edges, strict=True)
            for device in edge.devices
        )
        stages.append(Stage(profile.reach("edge"), ways))
    ways = tuple(Branch((), (up(name, "cloud"),)) for name in edges or devices)
    stages.append(Stage(profile.reach("cloud"), ways))
    back = Branch(of("cloud"), (link("cloud", "aggregator", answer),))
    stages.append(Stage(profile.reach("cloud"), (back,)))
    return (
        Problem(
            hops=deployment.hops,
            cost=cost,
            links=tuple(links),
            demand=demand,
            capacity=capacity,
            stages=tuple(stages),
            owner=np.zeros(len(processes), np.int64),
            task_names=tuple(f"the section of '{name}'" for name in processes),
            unit_names=deployment.unit_names,
            noun="section",
            chains=tuple(range(at, at + 1) for at in range(len(processes))),
        ),
        processes,
    )


def _plan(topology: Topology, deployment: Deployment, units: Mapping[str, str], outcome: Outcome) -> Plan:
    hosts = {unit.name: unit.host for unit in deployment.units}
    last = deployment.port + len(units) - 1
    if last > 65535:
        raise ValueError(f"Expected 'port' to leave room for {len(units)} ports, but got {deployment.port}.")
    return Plan(
        network=f"{topology.devices.count} devices, {len(topology.edges)} edges, {topology.classes} classes",
        latency_s=outcome.objective,
        processes=tuple(
            PlannedProcess(name=name, unit=unit, address=f"{hosts[unit]}:{deployment.port + at}")
            for at, (name, unit) in enumerate(units.items())
        ),
    )
