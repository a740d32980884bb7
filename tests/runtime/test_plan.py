"""Deployment plans: read, checked, and turned into the commands of a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest
from skipping import SKIPPING
from unlike import UNLIKE

from ddnn_tf.hierarchy import Hierarchy
from ddnn_tf.plan import Plan, PlannedProcess
from ddnn_tf.topology import Topology


def plan_of(names: list[str]) -> Plan:
    return Plan(
        processes=tuple(
            PlannedProcess(name=name, unit=f"unit_{at // 2}", address=f"127.0.0.1:{7000 + at}")
            for at, name in enumerate(names)
        )
    )


@pytest.fixture
def hierarchy() -> Hierarchy:
    """Of six devices and two edges."""
    return Topology.devices_edges_cloud().hierarchy


@pytest.fixture
def plan(hierarchy: Hierarchy) -> Plan:
    return plan_of(list(hierarchy.process_names))


def test_reads_what_it_writes(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    assert Plan.load(tmp_path / "plan.yaml") == plan


def test_commands(plan: Plan, hierarchy: Hierarchy) -> None:
    plan.check_fits(hierarchy)
    address = {process.name: process.address for process in plan.processes}
    assert plan.of_unit("unit_0") == ["device_0", "device_1"]
    assert plan.arguments("cloud", hierarchy) == ["cloud", "--listen", address["cloud"]]
    last = hierarchy.device_names[-1]
    assert plan.arguments(last, hierarchy) == [
        "device", "--name", last, "--aggregator", address["aggregator"], "--upper", address["edge_1"],
        "--listen", address[last],
    ]  # fmt: skip
    assert plan.arguments("edge_0", hierarchy) == [
        "edge", "--name", "edge_0", "--upper", address["cloud"], "--listen", address["edge_0"],
    ]  # fmt: skip
    found = plan.arguments("aggregator", hierarchy)
    assert (found[0], found[-2:]) == ("aggregator", ["--listen", address["aggregator"]])
    assert [value for value in found[1:-2] if value != "--upper"] == [
        f"{name}={address[name]}" for name in ("edge_0", "edge_1", "cloud")
    ]


def test_commands_of_sites_and_of_edges_below_edges() -> None:
    hierarchy = Topology.from_yaml(UNLIKE).hierarchy
    plan = plan_of(list(hierarchy.process_names))
    plan.check_fits(hierarchy)
    address = {process.name: process.address for process in plan.processes}
    assert plan.arguments("co2", hierarchy) == [
        "device", "--name", "co2", "--aggregator", address["aggregator"], "--local", address["site_b"],
        "--upper", address["edge_b"], "--listen", address["co2"],
    ]  # fmt: skip
    assert plan.arguments("site_a", hierarchy) == ["local", "--name", "site_a", "--listen", address["site_a"]]
    assert plan.arguments("edge_a", hierarchy)[3:5] == ["--upper", address["hall"]]
    assert plan.arguments("hall", hierarchy)[3:5] == ["--upper", address["cloud"]]
    uppers = [part.partition("=")[0] for part in plan.arguments("aggregator", hierarchy) if "=" in part]
    assert uppers == ["site_a", "site_b", "edge_a", "edge_b", "hall", "cloud"]


def test_commands_of_skip_links() -> None:
    hierarchy = Topology.from_yaml(SKIPPING).hierarchy
    plan = plan_of(list(hierarchy.process_names))
    address = {process.name: process.address for process in plan.processes}
    assert plan.arguments("near_1", hierarchy)[5:9] == [
        "--upper", address["low"], "--skip", address["high"],
    ]  # fmt: skip
    assert plan.arguments("low", hierarchy)[3:7] == ["--upper", address["high"], "--skip", address["cloud"]]
    assert "--skip" not in plan.arguments("near_0", hierarchy)


def test_plan_of_another_network(plan: Plan, hierarchy: Hierarchy) -> None:
    with pytest.raises(ValueError, match="it lacks 'edge_1'"):
        Plan(processes=tuple(one for one in plan.processes if one.name != "edge_1")).check_fits(hierarchy)
    more = PlannedProcess(name="edge_9", unit="x", address="127.0.0.1:1")
    with pytest.raises(ValueError, match="'edge_9' is none of these"):
        Plan(processes=(*plan.processes, more)).check_fits(hierarchy)


def test_unit_with_nothing_to_do(plan: Plan) -> None:
    with pytest.raises(ValueError, match=r"--unit out of unit_0, .*but got 'attic'"):
        plan.of_unit("attic")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "YAML mapping with `network`, `latency_s`, `processes`"),
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
