"""Deployment plans: read, checked, and turned into the commands of a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddnn_tf.bundle import Bundle
from ddnn_tf.datasets import DataSource
from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.plan import Plan, PlannedProcess
from ddnn_tf.topology import Topology


def plan_of(names: list[str]) -> Plan:
    return Plan(
        processes=tuple(
            PlannedProcess(name=name, unit=f"unit_{at // 2}", address=f"127.0.0.1:{7000 + at}")
            for at, name in enumerate(names)
        )
    )


@pytest.fixture
def network() -> Network:
    """Of six devices and two edges; without weights, which a plan has nothing to do with."""
    topology = Topology.devices_edges_cloud()
    return Network(Bundle(DataSource(name="scenes"), "", topology, {}, {}, [], [], []))


@pytest.fixture
def plan(network: Network) -> Plan:
    topology = network.topology
    return plan_of([*topology.device_names, "aggregator", *topology.edge_names, "cloud"])


def test_reads_what_it_writes(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    assert Plan.load(tmp_path / "plan.yaml") == plan


def test_commands(plan: Plan, network: Network) -> None:
    plan.check_fits(network)
    topology = network.topology
    address = {process.name: process.address for process in plan.processes}
    assert plan.of_unit("unit_0") == ["device_0", "device_1"]
    assert plan.arguments("cloud", network) == ["cloud", "--listen", address["cloud"]]
    last = topology.device_names[-1]
    assert plan.arguments(last, network) == [
        "device", "--name", last, "--listen", address[last],
        "--aggregator", address["aggregator"], "--upper", address["edge_1"],
    ]  # fmt: skip
    assert plan.arguments("edge_0", network) == [
        "edge", "--name", "edge_0", "--listen", address["edge_0"], "--cloud", address["cloud"],
    ]  # fmt: skip
    found = plan.arguments("aggregator", network)
    assert found[:3] == ["aggregator", "--listen", address["aggregator"]]
    assert [value for value in found[3:] if value != "--upper"] == [
        f"{name}={address[name]}" for name in ("edge_0", "edge_1", "cloud")
    ]


def test_plan_of_another_network(plan: Plan, network: Network) -> None:
    with pytest.raises(ValueError, match="it lacks 'edge_1'"):
        Plan(processes=tuple(one for one in plan.processes if one.name != "edge_1")).check_fits(network)
    more = PlannedProcess(name="edge_9", unit="x", address="127.0.0.1:1")
    with pytest.raises(ValueError, match="'edge_9' is none of these"):
        Plan(processes=(*plan.processes, more)).check_fits(network)


def test_unit_with_nothing_to_do(plan: Plan) -> None:
    with pytest.raises(ValueError, match=r"--unit out of unit_0, .*but got 'attic'"):
        plan.of_unit("attic")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "YAML mapping with `processes`"),
        ("processes: 3", "'processes' is 3"),
        ("{}", "lacks the field 'processes'"),
        ("processes: [{name: cloud, unit: a}]", "lacks the field 'processes.0.address'"),
        ("processes: [{name: a, unit: a, address: x}, {name: a, unit: b, address: y}]", "the name 'a' twice"),
        (
            "processes: [{name: a, unit: a, address: x}, {name: b, unit: b, address: x}]",
            "the address 'x' twice",
        ),
        ("processes: []\nport: 3", "no field 'port'"),
    ],
)
def test_refuses(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"plan\.yaml: .*{message}"):
        Plan.load(tmp_path / "plan.yaml")
