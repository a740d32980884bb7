"""Sections of a DDNN on units, against every placement and the latency written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.evaluation import tier_probabilities
from ddnn_tf.exits import staged_inference
from ddnn_tf.network import build
from ddnn_tf.placement import InfeasibleError
from ddnn_tf.placement.ddnn import SectionProfile, place_hierarchy, section_profile
from ddnn_tf.placement.deployment import Deployment
from ddnn_tf.placement.profile import Demand, demand_of
from ddnn_tf.sections import cut
from ddnn_tf.topology import Cloud, Devices, Edge, Local, Topology

MEMORY = 100.0


def network(topology: Topology, **changes: Any) -> Deployment:
    """Sensors' units in a row, each linked to the next, and behind the last one three units in a row."""
    devices = topology.hierarchy.device_names
    names = [*(f"camera_{number}" for number in range(len(devices))), "hub", "gate", "server"]
    speeds = [20.0] * len(devices) + [50, 200, 2000]
    units = [
        {"name": name, "memory_kb": MEMORY, "speed_mop_s": speed, "host": f"10.0.0.{number}"}
        for number, (name, speed) in enumerate(zip(names, speeds, strict=True))
    ]
    fields = {
        "units": units,
        "links": list(itertools.pairwise(names)),
        "data_rate_kb_s": 50.0,
        "sensors": {device: f"camera_{number}" for number, device in enumerate(devices)},
    }
    return Deployment(**{**fields, **changes})


def profile_of(topology: Topology, seed: int, largest_kb: float = 60) -> SectionProfile:
    generator = np.random.default_rng(seed)
    demands = {
        node.name: Demand(float(generator.uniform(0.1, 20)), float(generator.uniform(1, largest_kb)))
        for node in topology.hierarchy.sections
    }
    tiers = topology.hierarchy.exit_tier_names
    shares = generator.dirichlet(np.ones(len(tiers)))
    return SectionProfile(topology.hierarchy, demands, dict(zip(tiers, map(float, shares), strict=True)))


class Costs:
    """Seconds of a placement's parts."""

    def __init__(self, profile: SectionProfile, deployment: Deployment, units: dict[str, str]) -> None:
        self.profile, self.deployment, self.units = profile, deployment, units
        self.number = {name: number for number, name in enumerate(deployment.unit_names)}

    def time(self, process: str, *sections: str) -> float:
        """Of sections, on the unit of a process."""
        mop = sum(self.profile.demands[section].mop for section in sections)
        return mop / self.deployment.units[self.number[self.units[process]]].speed_mop_s

    def send(self, first: str, second: str, size: float) -> float:
        hops = self.deployment.hops[self.number[self.units[first]], self.number[self.units[second]]]
        return size / 1000 * hops / self.deployment.data_rate_kb_s

    def decision(self, size: float) -> float:
        """From the aggregator to the sink."""
        if self.deployment.sink is None:
            return 0.0
        hops = self.deployment.hops_from(self.deployment.sink)[self.number[self.units["aggregator"]]]
        return size / 1000 * hops / self.deployment.data_rate_kb_s


Latency = Callable[[Costs], float]


def figure_2_latency(topology: Topology) -> Latency:
    """The expected latency of a decision in a configuration of Figure 2, as the module's docstring says."""
    devices = list(topology.hierarchy.device_names)
    has_local = bool(topology.local)
    edges = {edge.name: edge.senders for edge in topology.edges}
    vector = 4.0 * topology.classes
    (group,) = topology.devices
    height, width, channels = group.input
    if has_local:
        height, width, channels = height // 2, width // 2, group.filters[0]

    def latency(costs: Costs) -> float:
        shares = costs.profile.exit_shares
        up = height * width * channels / (8 if has_local else 1)
        total = costs.time("aggregator", "local") if has_local else 0.0
        if has_local:
            total += max(costs.time(name, name) + costs.send(name, "aggregator", vector) for name in devices)
        senders = devices
        beyond = 1 - shares.get("local", 0.0)
        if edges:
            total += beyond * max(
                costs.send(device, name, up) + costs.time(name, name) + costs.send(name, "aggregator", vector)
                for name, members in edges.items()
                for device in members
            )
            beyond = shares["cloud"]
            up = height // 2 * (width // 2) * 32 / 8
            senders = list(edges)
        total += beyond * (
            max(costs.send(name, "cloud", up) for name in senders)
            + costs.time("cloud", "cloud")
            + costs.send("cloud", "aggregator", vector)
        )
        return total + costs.decision(vector)

    return latency


def least(topology: Topology, profile: SectionProfile, deployment: Deployment, latency: Latency) -> float:
    """The least latency of all placements that keep the units' memory."""
    hierarchy = topology.hierarchy
    home_of = {adapter.name: adapter.receiver for adapter in hierarchy.adapters}
    home_of |= {node.name: node.name for node in hierarchy.nodes}
    if len(topology.local or ()) == 1:
        home_of[topology.local[0].name] = "aggregator"
    free = [name for name in hierarchy.process_names if name not in hierarchy.device_names]
    best = np.inf
    for choice in itertools.product(deployment.unit_names, repeat=len(free)):
        units = {**deployment.sensors, **dict(zip(free, choice, strict=True))}
        load = dict.fromkeys(deployment.unit_names, 0.0)
        for section, demand in profile.demands.items():
            load[units[home_of[section]]] += demand.memory_kb
        if all(value <= MEMORY for value in load.values()):
            best = min(best, latency(Costs(profile, deployment, units)))
    return best


@pytest.mark.parametrize("letter", "abcdef")
@pytest.mark.parametrize("seed", range(3))
def test_least_of_all_placements(letter: str, seed: int) -> None:
    topology = Topology.figure_2(letter, 3, image_shape=(16, 16, 3))
    deployment = network(topology, sink="gate" if seed == 1 else None)
    profile = profile_of(topology, seed)
    placed = place_hierarchy(profile, deployment)
    assert placed.status == "optimal"
    latency = figure_2_latency(topology)
    best = least(topology, profile, deployment, latency)
    assert placed.latency_s == pytest.approx(best, rel=1e-6)
    assert latency(Costs(profile, deployment, dict(placed.units))) == pytest.approx(best, rel=1e-6)
    free = ["aggregator", *(edge.name for edge in topology.edges), "cloud"]
    names = [*topology.hierarchy.device_names, *free]
    assert [process.name for process in placed.plan.processes] == list(placed.units) == names
    placed.plan.check_fits(topology.hierarchy)


CAMERA = {"input": (16, 16, 3), "filters": (4,)}
BITS = 8 * 8 * 4 / 8


def three_levels() -> tuple[Topology, Latency]:
    """Two edges, one without an exit, a campus above them, the cloud."""
    topology = Topology(
        devices=Devices(count=3, **CAMERA),
        edges=(
            Edge(name="north", senders=("device_0", "device_1"), filters=(8,), exit=False),
            Edge(name="south", senders=("device_2",), filters=(8,)),
            Edge(name="campus", senders=("north", "south"), filters=(16,)),
        ),
        cloud=Cloud(filters=(16,)),
    )
    below = {"north": ("device_0", "device_1"), "south": ("device_2",)}

    def latency(costs: Costs) -> float:
        local, edge, campus, cloud = costs.profile.exit_shares.values()
        assert local + edge + campus + cloud == pytest.approx(1)
        total = costs.time("aggregator", "local") + costs.decision(12)
        total += max(
            costs.time(d, d) + costs.send(d, "aggregator", 12) for d in ("device_0", "device_1", "device_2")
        )
        total += (1 - local) * max(
            costs.send(device, name, BITS)
            + costs.time(name, name)
            + (costs.send(name, "aggregator", 12) if name == "south" else 0)
            for name, devices in below.items()
            for device in devices
        )
        total += (campus + cloud) * (
            max(costs.send(name, "campus", 4 * 4 * 8 / 8) for name in below)
            + costs.time("campus", "campus")
            + costs.send("campus", "aggregator", 12)
        )
        return total + cloud * (
            costs.send("campus", "cloud", 2 * 2 * 16 / 8)
            + costs.time("cloud", "cloud")
            + costs.send("cloud", "aggregator", 12)
        )

    return topology, latency


def two_sites() -> tuple[Topology, Latency]:
    """A local aggregator for each of two sites, in processes of their own, under one cloud."""
    topology = Topology(
        devices=(Devices(name="a", count=2, **CAMERA), Devices(name="b", **CAMERA)),
        local=(Local(name="site_a", devices=("a",)), Local(name="site_b", devices=("b",))),
        cloud=Cloud(filters=(16,)),
    )
    site = {"a_0": "site_a", "a_1": "site_a", "b": "site_b"}

    def latency(costs: Costs) -> float:
        total = costs.decision(12) + max(
            costs.time(device, device)
            + costs.send(device, local, 12)
            + costs.time(local, local)
            + costs.send(local, "aggregator", 12)
            for device, local in site.items()
        )
        return total + costs.profile.exit_shares["cloud"] * (
            max(costs.send(device, "cloud", BITS) for device in site)
            + costs.time("cloud", "cloud")
            + costs.send("cloud", "aggregator", 12)
        )

    return topology, latency


def unbalanced() -> tuple[Topology, Latency]:
    """A camera behind an edge without an exit; two sensors, one of them without blocks, send to the cloud."""
    topology = Topology(
        devices=(
            Devices(name="camera", count=1, **CAMERA),
            Devices(name="climate", input=(4,), units=(16,)),
            Devices(name="raw", input=(5,)),
        ),
        local=Local(devices=("camera",)),
        edges=(Edge(name="edge", senders=("camera",), filters=(8,), exit=False),),
        cloud=Cloud(adapter=(8,), units=(16,)),
    )

    def latency(costs: Costs) -> float:
        _, cloud = costs.profile.exit_shares.values()
        total = costs.time("aggregator", "local") + costs.decision(12)
        total += costs.time("camera_0", "camera_0") + costs.send("camera_0", "aggregator", 12)
        total += cloud * (costs.send("camera_0", "edge", BITS) + costs.time("edge", "edge"))
        adapters = [name for name in costs.profile.demands if name.startswith("cloud_from_")]
        assert len(adapters) == 3
        return total + cloud * (
            max(
                costs.send("edge", "cloud", 4 * 4 * 8 / 8),
                costs.time("climate", "climate") + costs.send("climate", "cloud", 16 / 8),
                costs.send("raw", "cloud", 5),
            )
            + costs.time("cloud", "cloud", *adapters)
            + costs.send("cloud", "aggregator", 12)
        )

    return topology, latency


@pytest.mark.parametrize("tree", [three_levels, two_sites, unbalanced])
@pytest.mark.parametrize("seed", range(3))
def test_least_of_all_placements_of_any_tree(tree: Callable[[], tuple[Topology, Latency]], seed: int) -> None:
    topology, latency = tree()
    deployment = network(topology, sink="gate" if seed == 1 else None, data_rate_kb_s=0.5)
    profile = profile_of(topology, seed, largest_kb=40)
    placed = place_hierarchy(profile, deployment)
    best = least(topology, profile, deployment, latency)
    assert placed.status == "optimal"
    assert placed.latency_s == pytest.approx(best, rel=1e-6)
    assert latency(Costs(profile, deployment, dict(placed.units))) == pytest.approx(best, rel=1e-6)
    assert tuple(placed.units) == topology.hierarchy.process_names
    placed.plan.check_fits(topology.hierarchy)


def test_adapters_run_in_the_process_of_their_receiver() -> None:
    topology, _ = unbalanced()
    profile = profile_of(topology, 0)
    own = [profile.demands[node.name] for node in topology.hierarchy.adapters_of("cloud")]
    own.append(profile.demands["cloud"])
    assert profile.demand("cloud").mop == pytest.approx(sum(each.mop for each in own))
    assert profile.demand("cloud").memory_kb == pytest.approx(sum(each.memory_kb for each in own))
    assert profile.demand("aggregator") == profile.demands["local"]
    assert profile.demand("raw") == Demand(0, 0)


def test_sections_on_each_unit_can_be_limited() -> None:
    topology = Topology.devices_edge_cloud(3)
    placed = place_hierarchy(profile_of(topology, 0), network(topology, sections_per_unit=1))
    assert len(set(placed.units.values())) == len(placed.units) == 6
    topology = Topology.devices_edges_cloud(3)
    with pytest.raises(InfeasibleError, match=r"need 7 sections, but .* hold 6 \('sections_per_unit'\)"):
        place_hierarchy(profile_of(topology, 0), network(topology, sections_per_unit=1))


def test_profile_of_a_network(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    model = build(tiny_topology)
    profile = section_profile(model, tiny_topology, {"local": 0.97}, tiny_data)
    by_tier = tier_probabilities(model, tiny_topology, tiny_data.part("validation"))
    shares = staged_inference(list(by_tier.values()), [0.97]).shares
    assert list(profile.exit_shares.values()) == pytest.approx(shares.tolist())
    levels = {tier.name: tier.level for tier in tiny_topology.hierarchy.tiers}
    assert profile.reach(levels["local"]) == 1
    assert profile.reach(levels["cloud"]) == pytest.approx(shares[-1])
    assert set(profile.demands) == {"device_0", "device_1", "local", "cloud"}
    assert profile.demands["cloud"].mop > profile.demands["device_0"].mop > 0


@pytest.mark.parametrize("tree", [three_levels, two_sites, unbalanced])
def test_demands_of_any_tree(tree: Callable[[], tuple[Topology, Latency]]) -> None:
    topology, _ = tree()
    sections = cut(build(topology), topology)
    demands = {name: demand_of(each.model.layers, each.model) for name, each in sections.items()}
    assert set(demands) == {node.name for node in topology.hierarchy.sections}
    for node in topology.hierarchy.sections:
        if node.blocks:
            assert demands[node.name].mop > 0
            assert demands[node.name].memory_kb > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensors": {"device_0": "camera_0"}}, "'sensors' to name the unit of device_1's sensor"),
        (
            {"sensors": {f"device_{number}": "camera_0" for number in range(4)}},
            "but got 'device_3': no such device",
        ),
        ({"sensors": {"device_0": "attic"}}, "'attic' is to be a source, sink or sensor"),
        ({"sensors": {}}, "'sensors' is empty"),
        ({"sink": "attic"}, "'attic' is to be a source, sink or sensor"),
        ({"port": 65533}, "'port' to leave room for 5 ports, but got 65533"),
        ({"port": 0}, "'port' is 0"),
        ({"units": [{"name": "a", "type": "jetson", "host": "a:b"}]}, "units.0.host' is 'a:b'"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    topology = Topology.devices_cloud(3)
    with pytest.raises(ValueError, match=message):
        place_hierarchy(profile_of(topology, 0), network(topology, **change))


def test_device_section_that_its_sensor_cannot_hold() -> None:
    topology = Topology.devices_cloud(3)
    profile = profile_of(topology, 0)
    demands = {**profile.demands, "device_1": Demand(1.0, 500.0)}
    with pytest.raises(
        InfeasibleError, match=r"device_1's section needs 500 KB .*'camera_1' has 'memory_kb' 100"
    ):
        place_hierarchy(SectionProfile(profile.hierarchy, demands, profile.exit_shares), network(topology))
