"""Placement of a trained DDNN: which unit runs the aggregator, the edges and the cloud.

A device's section stays with its sensor; the placement decides where the processes above the devices run.
Nodes of a tier work side by side, so a sample waits for the slowest. With q(t) the share of samples that
reach tier t, measured on validation data, the expected latency of a decision is

      time of the aggregator's section
    + sum over tiers t of  q(t) * max over nodes n of t and senders s of n of (
          time of s's section, if s is a device that has not run it yet
        + transfer of s's class vector (to a local aggregator) or feature map (to an edge or the cloud)
        + time of n's section and its adapters, unless n is the aggregator's own
        + transfer of n's class vector to the aggregator, if n has an exit )
    + transfer of the decision from the aggregator to the sink

A device runs its section before it sends its class vector, or, without a local aggregator, before it sends
its feature map; a device without blocks sends its raw input. In configuration (a) the aggregator only
coordinates. Bytes are those of Eq. (1).

    >>> hierarchy = Topology.devices_cloud(devices=1).hierarchy
    >>> demand = Demand(mop=2.0, memory_kb=10.0)
    >>> demands = {node.name: demand for node in hierarchy.sections}
    >>> deployment = Deployment(
    ...     units=[
    ...         {"name": "camera", "type": "stm32h7", "host": "10.0.0.10"},
    ...         {"name": "server", "type": "jetson", "host": "10.0.0.4"},
    ...     ],
    ...     links=[("camera", "server")],
    ...     sensors={"device_0": "camera"},
    ... )
    >>> placed = place_hierarchy(SectionProfile(hierarchy, demands, {"local": 0.5, "cloud": 0.5}), deployment)
    >>> placed.units
    {'device_0': 'camera', 'aggregator': 'server', 'cloud': 'server'}

`profile` counts operations and memory; `problem` states the optimization problem.

Source: Teerapittayanon et al. 2017, Sections III-D and III-E; Disabato et al., arXiv 1908.01656.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.communication import reach
from ddnn_tf.exits import staged_inference
from ddnn_tf.hierarchy import AGGREGATOR, Hierarchy, Link, Node, Payload, Role
from ddnn_tf.placement.deployment import Deployment
from ddnn_tf.placement.feasibility import InfeasibleError
from ddnn_tf.placement.problem import Branch, Phase, Problem, Transfer
from ddnn_tf.placement.profile import Demand, demand_of
from ddnn_tf.placement.solver import solve_problem
from ddnn_tf.plan import Plan, PlannedProcess
from ddnn_tf.specs import Spec
from ddnn_tf.topology import Topology

if TYPE_CHECKING:
    import tensorflow as tf

    from ddnn_tf.datasets import MultiViewDataset

__all__ = ["PlacedHierarchy", "SectionProfile", "place_hierarchy", "section_profile"]

_KB = 1000
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class SectionProfile:
    """What the sections of a trained hierarchy demand, and how many samples leave at each tier.

    Attributes:
        hierarchy: The hierarchy.
        demands: Demand by section (`Hierarchy.sections`, adapters among them).
        exit_shares: Share of the validation samples that leave at each of `Hierarchy.exit_tiers`, by tier.
    """

    hierarchy: Hierarchy
    demands: Mapping[str, Demand]
    exit_shares: Mapping[str, float]

    def reach(self, level: int) -> float:
        """Share of the samples that reach a level of the hierarchy."""
        shares = [self.exit_shares[tier] for tier in self.hierarchy.exit_tier_names]
        return reach(self.hierarchy, shares, level)

    def demand(self, process: str) -> Demand:
        """What a process demands: the sections that run in it, adapters among them.

        Args:
            process: One of `Hierarchy.process_names`.
        """
        demands = [
            self.demands[node.name]
            for node in self.hierarchy.sections
            if _process(node, self.hierarchy) == process
        ]
        return Demand(sum(each.mop for each in demands), sum(each.memory_kb for each in demands))


@dataclass(frozen=True)
class PlacedHierarchy:
    """Where the processes of a hierarchy run.

    Attributes:
        units: Unit by process, in the order of `Hierarchy.process_names`.
        profile: What was placed.
        latency_s: Expected latency of a decision, seconds.
        bound_s: Lower bound on the latency of every placement, seconds.
        gap: (latency - bound) / latency.
        status: As in `Solution`.
        seconds: Duration of the search.
        plan: The plan for `ddnn serve plan`.
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
        """Latency, bound, status, exit shares and assignment, as JSON values."""
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
    """Counts what a network's sections demand, and how many validation samples leave at each tier.

    Args:
        model: A trained model of `build(topology)`.
        topology: Its topology.
        thresholds: T by tier, for all tiers but the last.
        data: The data on which it was trained.
    """
    from ddnn_tf.evaluation import tier_probabilities
    from ddnn_tf.sections import cut

    hierarchy = topology.hierarchy
    probabilities = tier_probabilities(model, topology, data.part("validation"))
    limits = [thresholds[tier] for tier in hierarchy.early_tier_names]
    shares = staged_inference(list(probabilities.values()), limits).shares.tolist()
    sections = cut(model, topology, check_inputs=False).values()
    demands = {section.name: demand_of(section.model.layers, section.model) for section in sections}
    return SectionProfile(hierarchy, demands, dict(zip(hierarchy.exit_tier_names, shares, strict=True)))


def place_hierarchy(
    profile: SectionProfile,
    deployment: Deployment,
    *,
    time_limit: float = 60.0,
    relative_gap: float = 1e-6,
) -> PlacedHierarchy:
    """Places the processes of a hierarchy.

    Args:
        profile: The hierarchy (`section_profile`).
        deployment: The network.
        time_limit: Seconds.
        relative_gap: As for `solve`.

    Raises:
        ValueError: A device has no sensor, a sensor belongs to no device, or the ports are too few.
        InfeasibleError: A process fits no unit; the message names it.
        TimeoutError: The time limit ended without a placement.
    """
    hierarchy = profile.hierarchy
    devices = hierarchy.device_names
    for name in devices:
        if name not in deployment.sensors:
            raise ValueError(f"Expected 'sensors' to name the unit of {name}'s sensor, but got none.")
    for name in deployment.sensors:
        if name not in devices:
            raise ValueError(f"Expected 'sensors' of {', '.join(devices)}, but got {name!r}: no such device.")
    processes = hierarchy.process_names
    if deployment.port + len(processes) - 1 > _HIGHEST_PORT:
        raise ValueError(
            f"Expected 'port' to leave room for {len(processes)} ports, but got {deployment.port}."
        )
    problem = _problem(profile, deployment)
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
        plan=_plan(hierarchy, deployment, units, outcome.objective),
    )


def _process(node: Node, hierarchy: Hierarchy) -> str:
    """The process that runs a node; an adapter runs in its receiver's."""
    runs_with = node.receiver if node.role is Role.ADAPTER and node.receiver is not None else node.name
    return hierarchy.process_of(runs_with)


def _problem(profile: SectionProfile, deployment: Deployment) -> Problem:
    """The placement problem, with a task for each process."""
    processes = profile.hierarchy.process_names
    demands = [profile.demand(process) for process in processes]
    demand = np.array([[each.memory_kb, each.mop, 1.0] for each in demands]).T
    limits = np.array([[unit.memory_kb, unit.compute_limit_mop] for unit in deployment.units]).T
    most = np.inf if deployment.sections_per_unit is None else float(deployment.sections_per_unit)
    capacity = np.vstack([limits, np.full(limits.shape[1], most)])
    transfers, phases = _objective(profile, deployment)
    return Problem(
        hops=deployment.hops,
        cost=_cost(profile.hierarchy, deployment, demand, capacity),
        transfers=transfers,
        demand=demand,
        capacity=capacity,
        phases=phases,
        owner=np.zeros(len(processes), np.int64),
        task_names=tuple(f"the section of '{name}'" for name in processes),
        unit_names=deployment.unit_names,
        noun="section",
        chains=tuple(range(task, task + 1) for task in range(len(processes))),
    )


def _cost(
    hierarchy: Hierarchy,
    deployment: Deployment,
    demand: NDArray[np.float64],
    capacity: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Seconds of each process on each unit, `(processes, units)`; infinite where it cannot run.

    Raises:
        InfeasibleError: A device's section does not fit its sensor's unit.
    """
    memory, operations, _ = demand
    cost = operations[:, None] / np.array([unit.speed_mop_s for unit in deployment.units])
    if deployment.sink is not None:
        seconds = hierarchy.class_vector.size / _KB / deployment.data_rate_kb_s
        aggregator = hierarchy.process_names.index(AGGREGATOR)
        cost[aggregator] += seconds * deployment.hops_from(deployment.sink)
    # Relative, so that a section of exactly the unit's size fits.
    fits = (demand[:, :, None] <= capacity[:, None] * (1 + 1e-9)).all(axis=0)
    cost[~fits] = np.inf
    for device, name in enumerate(hierarchy.device_names):
        home = deployment.unit_names.index(deployment.sensors[name])
        if not fits[device, home]:
            unit = deployment.units[home]
            raise InfeasibleError(
                f"No placement: {name}'s section needs {memory[device]:g} KB and {operations[device]:g} "
                f"million operations, but its sensor's unit {unit.name!r} has 'memory_kb' "
                f"{unit.memory_kb:g} and 'compute_limit_mop' {unit.compute_limit_mop:g}: give it a larger "
                "unit."
            )
        cost[device, np.arange(len(deployment.units)) != home] = np.inf
    return cost


def _objective(
    profile: SectionProfile, deployment: Deployment
) -> tuple[tuple[Transfer, ...], tuple[Phase, ...]]:
    """Transfers between processes, and the expected latency in phases: the aggregator, then tier by tier."""
    hierarchy = profile.hierarchy
    number = {name: task for task, name in enumerate(hierarchy.process_names)}
    transfers: list[Transfer] = []

    def send(sender: str, receiver: str, spec: Spec) -> int:
        seconds = spec.size / _KB / deployment.data_rate_kb_s
        first, second = (number[hierarchy.process_of(name)] for name in (sender, receiver))
        transfers.append(Transfer(first, second, seconds))
        return len(transfers) - 1

    phases = [Phase(1.0, (Branch((number[AGGREGATOR],), ()),))]
    for tier in hierarchy.tiers:
        branches: list[Branch] = []
        for node in tier.nodes:
            process = hierarchy.process_of(node.name)
            tasks: tuple[int, ...] = ()
            answer: tuple[int, ...] = ()
            if process != AGGREGATOR:
                tasks = (number[process],)
                if node.exit is not None:
                    answer = (send(node.name, AGGREGATOR, hierarchy.class_vector),)
            for link in _links_to(node, hierarchy):
                sender = (number[link.sender],) if _runs_for(link, hierarchy) else ()
                transfer = send(link.sender, link.receiver, link.spec)
                branches.append(Branch((*sender, *tasks), (transfer, *answer)))
        phases.append(Phase(profile.reach(tier.level), tuple(branches)))
    return tuple(transfers), tuple(phases)


def _links_to(node: Node, hierarchy: Hierarchy) -> list[Link]:
    """The links over which a node gets its inputs while nobody is down; reports are answers, not inputs."""
    kinds = (Payload.CLASS_VECTOR, Payload.FEATURES)
    return [link for link in hierarchy.links if link.receiver == node.name and link.carries in kinds]


def _runs_for(link: Link, hierarchy: Hierarchy) -> bool:
    """Whether the sender is a device that runs its section for what this link carries."""
    sender = hierarchy[link.sender]
    is_first = link.carries is Payload.CLASS_VECTOR or sender.aggregator is None
    return sender.role is Role.DEVICE and is_first


def _plan(hierarchy: Hierarchy, deployment: Deployment, units: Mapping[str, str], latency_s: float) -> Plan:
    hosts = {unit.name: unit.host for unit in deployment.units}
    edges = len(hierarchy.of(Role.EDGE))
    return Plan(
        network=f"{len(hierarchy.devices)} devices, {edges} edges, {hierarchy.classes} classes",
        latency_s=latency_s,
        processes=tuple(
            PlannedProcess(name=name, unit=unit, address=f"{hosts[unit]}:{deployment.port + offset}")
            for offset, (name, unit) in enumerate(units.items())
        ),
    )
