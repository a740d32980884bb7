"""Sections of a DDNN on units, against every placement and the latency written out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ddnn_tf.datasets import MultiViewDataset
from ddnn_tf.evaluation import tier_probabilities
from ddnn_tf.exits import staged_inference
from ddnn_tf.network import build
from ddnn_tf.placement import InfeasibleError
from ddnn_tf.placement.deployment import Deployment
from ddnn_tf.placement.hierarchy import SectionProfile, place_hierarchy, section_profile
from ddnn_tf.placement.profile import Demand
from ddnn_tf.topology import Topology


def network(devices: int, **changes: Any) -> Deployment:
    """Cameras in a row, each linked to the next, and behind the last one three units in a row."""
    names = [*(f"camera_{at}" for at in range(devices)), "hub", "gate", "server"]
    units = [
        {"name": name, "memory_kb": 100, "speed_mop_s": speed, "host": f"10.0.0.{at}"}
        for at, (name, speed) in enumerate(zip(names, [20.0] * devices + [50, 200, 2000], strict=True))
    ]
    fields = {
        "units": units,
        "links": list(itertools.pairwise(names)),
        "data_rate_kb_s": 50.0,
        "sensors": {f"device_{at}": f"camera_{at}" for at in range(devices)},
    }
    return Deployment(**{**fields, **changes})


def profile_of(topology: Topology, seed: int) -> SectionProfile:
    generator = np.random.default_rng(seed)
    names = [*topology.device_names, "local", *topology.edge_names, "cloud"]
    if not topology.devices.blocks:
        names = ["cloud"]
    demands = {
        name: Demand(float(generator.uniform(0.1, 20)), float(generator.uniform(1, 60))) for name in names
    }
    shares = generator.dirichlet(np.ones(len(topology.exit_tiers)))
    return SectionProfile(topology, demands, dict(zip(topology.exit_tiers, map(float, shares), strict=True)))


def latency(profile: SectionProfile, deployment: Deployment, units: dict[str, str]) -> float:
    """The expected latency of a decision, as the module's docstring says."""
    topology, shares = profile.topology, profile.exit_shares
    number = {name: at for at, name in enumerate(deployment.unit_names)}

    def time(process: str, section: str | None = None) -> float:
        demand = profile.demands.get(section or process)
        speed = deployment.units[number[units[process]]].speed_mop_s
        return 0.0 if demand is None else demand.mop / speed

    def send(first: str, second: str, size: float) -> float:
        hops = deployment.hops[number[units[first]], number[units[second]]]
        return size / 1000 * hops / deployment.data_rate_kb_s

    vector = 4.0 * topology.classes
    height, width, channels = topology.feature_shape
    up = height * width * channels / (8 if topology.devices.blocks else 1)
    total = time("aggregator", "local")
    if topology.devices.blocks:
        total += max(time(name) + send(name, "aggregator", vector) for name in topology.device_names)
    senders = list(topology.device_names)
    beyond = 1 - shares.get("local", 0.0)
    if topology.edges:
        total += beyond * max(
            send(f"device_{device}", name, up) + time(name) + send(name, "aggregator", vector)
            for name, edge in zip(topology.edge_names, topology.edges, strict=True)
            for device in edge.devices
        )
        beyond = shares["cloud"]
        up = float(np.prod(topology.edge_feature_shape(0))) / 8
        senders = list(topology.edge_names)
    total += beyond * (
        max(send(name, "cloud", up) for name in senders) + time("cloud") + send("cloud", "aggregator", vector)
    )
    if deployment.sink is not None:
        hops = deployment.hops_from(deployment.sink)[number[units["aggregator"]]]
        total += vector / 1000 * hops / deployment.data_rate_kb_s
    return total


@pytest.mark.parametrize("letter", "abcdef")
@pytest.mark.parametrize("seed", range(3))
def test_least_of_all_placements(letter: str, seed: int) -> None:
    topology = Topology.figure_2(letter, 3, image_shape=(16, 16, 3))
    deployment = network(topology.devices.count, sink="gate" if seed == 1 else None)
    profile = profile_of(topology, seed)
    placed = place_hierarchy(profile, deployment)
    assert placed.status == "optimal"
    free = ["aggregator", *topology.edge_names, "cloud"]
    fixed = {name: deployment.sensors[name] for name in topology.device_names}
    best = np.inf
    for choice in itertools.product(deployment.unit_names, repeat=len(free)):
        units = {**fixed, **dict(zip(free, choice, strict=True))}
        load = dict.fromkeys(deployment.unit_names, 0.0)
        for name, unit in units.items():
            demand = profile.demands.get("local" if name == "aggregator" else name)
            load[unit] += 0.0 if demand is None else demand.memory_kb
        if all(value <= 100 for value in load.values()):
            best = min(best, latency(profile, deployment, units))
    assert placed.latency_s == pytest.approx(best, rel=1e-6)
    assert latency(profile, deployment, dict(placed.units)) == pytest.approx(best, rel=1e-6)
    assert [process.name for process in placed.plan.processes] == [*topology.device_names, *free]


def test_sections_on_each_unit_can_be_limited() -> None:
    profile = profile_of(Topology.devices_edge_cloud(3), 0)
    placed = place_hierarchy(profile, network(3, sections_per_unit=1))
    assert len(set(placed.units.values())) == len(placed.units) == 6
    with pytest.raises(InfeasibleError, match=r"need 7 sections, but .* hold 6 \('sections_per_unit'\)"):
        place_hierarchy(profile_of(Topology.devices_edges_cloud(3), 0), network(3, sections_per_unit=1))


def test_profile_of_a_network(tiny_topology: Topology, tiny_data: MultiViewDataset) -> None:
    model = build(tiny_topology)
    found = section_profile(model, tiny_topology, {"local": 0.97}, tiny_data)
    images = tiny_data.images[tiny_data.split["validation"]]
    by_tier = tier_probabilities(model, tiny_topology, images)
    shares = staged_inference(list(by_tier.values()), [0.97]).shares
    assert list(found.exit_shares.values()) == pytest.approx(shares.tolist())
    assert found.reach("local") == 1
    assert found.reach("cloud") == pytest.approx(shares[-1])
    assert set(found.demands) == {"device_0", "device_1", "local", "cloud"}
    assert found.demands["cloud"].mop > found.demands["device_0"].mop > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensors": {"device_0": "camera_0"}}, "'sensors' to name the unit of device_1's sensor"),
        ({"sensors": {f"device_{at}": "camera_0" for at in range(4)}}, "but got 'device_3': no such device"),
        ({"sensors": {"device_0": "attic"}}, "'attic' is to be a source, sink or sensor"),
        ({"sensors": {}}, "'sensors' is empty"),
        ({"sink": "attic"}, "'attic' is to be a source, sink or sensor"),
        ({"port": 65533}, "'port' to leave room for 5 ports, but got 65533"),
        ({"port": 0}, "'port' is 0"),
        ({"units": [{"name": "a", "type": "jetson", "host": "a:b"}]}, "units.0.host' is 'a:b'"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place_hierarchy(profile_of(Topology.devices_cloud(3), 0), network(3, **change))


def test_device_section_that_its_sensor_cannot_hold() -> None:
    topology = Topology.devices_cloud(3)
    profile = profile_of(topology, 0)
    demands = {**profile.demands, "device_1": Demand(1.0, 500.0)}
    with pytest.raises(
        InfeasibleError, match=r"device_1's section needs 500 KB .*'camera_1' has 'memory_kb' 100"
    ):
        place_hierarchy(SectionProfile(topology, demands, profile.exit_shares), network(3))
