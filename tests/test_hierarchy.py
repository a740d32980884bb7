from __future__ import annotations

import xml.etree.ElementTree

import numpy as np
import pytest
from skipping import CAMERAS, SKIPPING
from unlike import UNLIKE

from ddnn_tf.hierarchy import AGGREGATOR, Payload, Role, convp_shape
from ddnn_tf.topology import CONFIGURATIONS, Topology

UNBALANCED = """
devices:
- {name: near, count: 2, input: [8, 8, 1], filters: [2]}
- {name: far, input: [8, 8, 1], filters: [2]}
edges:
- {name: edge, senders: [near], filters: [4]}
cloud: {adapter: [32], units: [16]}
classes: 2
"""


@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_senders_stand_before_receivers_and_links_agree(letter: str) -> None:
    hierarchy = Topology.figure_2(letter).hierarchy
    names = [node.name for node in hierarchy.nodes]
    assert names[-1] == "cloud"
    for node in hierarchy.nodes:
        assert all(names.index(sender) < names.index(node.name) for sender in node.senders)
        for sender, spec in zip(node.senders, node.inputs, strict=False):
            if node.role is not Role.LOCAL:
                assert hierarchy[sender].output == spec
                assert hierarchy[sender].receiver == node.name
    for link in hierarchy.links:
        if link.carries is Payload.FEATURES:
            assert link.sender in hierarchy[link.receiver].senders
            assert link.level == hierarchy[link.receiver].level


def test_processes_of_a_deployment() -> None:
    hierarchy = Topology.figure_2("f", 2).hierarchy
    assert hierarchy.process_names == ("device_0", "device_1", AGGREGATOR, "edge_0", "edge_1", "cloud")
    assert hierarchy.process_of("local") == AGGREGATOR
    assert hierarchy.process_of("edge_1") == "edge_1"
    assert [node.name for node in hierarchy.uppers] == ["edge_0", "edge_1", "cloud"]
    assert hierarchy.coordinator == "local"


def test_only_several_exits_of_a_tier_report_to_the_coordinator() -> None:
    def reports(letter: str) -> list[str]:
        links = Topology.figure_2(letter).hierarchy.links
        return [link.name for link in links if link.carries is Payload.REPORT]

    assert reports("e") == []
    assert reports("f") == ["edge_0 -> local", "edge_1 -> local"]


def test_a_single_edge_passes_on_by_itself() -> None:
    for letter, passes in (("d", True), ("e", True), ("f", False)):
        hierarchy = Topology.figure_2(letter).hierarchy
        assert hierarchy.passes_on(hierarchy["edge_0"]) is passes
        assert not hierarchy.passes_on(hierarchy.cloud)
    unbalanced = Topology.from_yaml(UNBALANCED).hierarchy
    assert not unbalanced.passes_on(unbalanced["edge"])


def test_a_deep_tree_of_unlike_devices() -> None:
    hierarchy = Topology.from_yaml(UNLIKE).hierarchy
    assert hierarchy.device_names == ("camera_0", "camera_1", "microphone", "co2")
    assert [(tier.name, [node.name for node in tier.nodes]) for tier in hierarchy.tiers] == [
        ("local", ["site_a", "site_b"]),
        ("edge", ["edge_a", "edge_b"]),
        ("gateway", ["hall"]),
        ("cloud", ["cloud"]),
    ]
    assert hierarchy.exit_tier_names == ("local", "edge", "cloud")
    assert hierarchy.early_tier_names == ("local", "edge")
    assert hierarchy.local is None
    assert hierarchy.coordinator == AGGREGATOR
    assert hierarchy.process_names == (
        "camera_0", "camera_1", "microphone", "co2", AGGREGATOR, "site_a", "site_b", "edge_a", "edge_b",
        "hall", "cloud",
    )  # fmt: skip
    assert hierarchy.devices_below("hall") == (0, 1, 2, 3)
    assert hierarchy.devices_below("edge_b") == (2, 3)
    assert hierarchy.devices_below("co2") == (3,)


def test_adapters_stand_before_their_receiver_and_are_no_nodes() -> None:
    hierarchy = Topology.from_yaml(UNLIKE).hierarchy
    names = [node.name for node in hierarchy.sections]
    assert names == [
        "camera_0", "camera_1", "microphone", "co2", "site_a", "site_b", "edge_a",
        "edge_b_from_microphone", "edge_b_from_co2", "edge_b", "hall_from_edge_a", "hall_from_edge_b", "hall",
        "cloud",
    ]  # fmt: skip
    assert all(node.role is not Role.ADAPTER for node in hierarchy.nodes)
    assert hierarchy["hall_from_edge_a"].inputs == (hierarchy["edge_a"].output,)
    assert hierarchy["hall"].inputs == (hierarchy["hall_from_edge_a"].output,) * 2
    assert hierarchy.adapters_of("edge_a") == ()


def test_a_device_may_send_to_the_cloud_beside_an_edge() -> None:
    hierarchy = Topology.from_yaml(UNBALANCED).hierarchy
    assert hierarchy.cloud.senders == ("far", "edge")
    links = {link.name: link.level for link in hierarchy.links}
    assert links["far -> cloud"] == links["edge -> cloud"] == hierarchy.cloud.level == 3
    assert links["near_0 -> edge"] == 2


def test_which_inputs_are_bits() -> None:
    hierarchy = Topology.figure_2("e", 2, upper="MP").hierarchy
    assert not hierarchy["device_0"].takes_bits
    assert hierarchy["edge_0"].takes_bits
    assert hierarchy["cloud"].takes_bits
    assert not Topology.figure_2("e", 2, upper="CC").hierarchy["edge_0"].takes_bits
    assert not Topology.figure_2("a", 2, upper="MP").hierarchy["cloud"].takes_bits


def test_prints_itself_as_a_tree() -> None:
    assert str(Topology.devices_edge_cloud(devices=2).hierarchy) == (
        "cloud  exit, CC of 1, 64\n"
        "└─ edge_0  exit, CC of 2, 32 -> bits 8x8x32, 256 bytes\n"
        "   ├─ device_0  bytes 32x32x3, 4 -> bits 16x16x4, 128 bytes\n"
        "   └─ device_1  bytes 32x32x3, 4 -> bits 16x16x4, 128 bytes\n"
        "local  exit, MP of 2: device_0, device_1"
    )


@pytest.mark.parametrize("text", [UNLIKE, UNBALANCED, SKIPPING, *map(str, CONFIGURATIONS)])
def test_draws_every_node_and_link(text: str) -> None:
    topology = Topology.figure_2(text) if text in CONFIGURATIONS else Topology.from_yaml(text)
    hierarchy = topology.hierarchy
    root = xml.etree.ElementTree.fromstring(hierarchy.to_svg())
    space = "{http://www.w3.org/2000/svg}"
    texts = {element.text for element in root.iter(f"{space}text")}
    assert {node.name for node in hierarchy.nodes} <= texts
    assert len(list(root.iter(f"{space}line"))) == len(hierarchy.links)
    width, height = (float(root.get(key)) for key in ("width", "height"))
    for box in root.iter(f"{space}rect"):
        assert 0 <= float(box.get("x")) <= width - float(box.get("width"))
        assert 0 <= float(box.get("y")) <= height - float(box.get("height"))


def test_an_unknown_node_is_an_error_that_names_those_there_are() -> None:
    hierarchy = Topology.figure_2("b").hierarchy
    with pytest.raises(ValueError, match="out of device_0, local, cloud, but got 'edge_9'"):
        hierarchy["edge_9"]
    with pytest.raises(ValueError, match="'cloud', which has no sensor"):
        _ = hierarchy.cloud.sensor


@pytest.mark.parametrize(
    ("shape", "expected"), [((32, 32, 3), (16, 16, 5)), ((4, 3, 1), (2, 2, 5)), ((7, 2), (4, 5))]
)
def test_convp_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert convp_shape(shape, 5) == expected


def test_the_nodes_that_may_fail_are_devices_then_edges() -> None:
    hierarchy = Topology.figure_2("f", 2).hierarchy
    assert hierarchy.failable_names == ("device_0", "device_1", "edge_0", "edge_1")
    assert hierarchy.presence(["edge_0", "device_1"], 2).tolist() == [[True, False, False, True]] * 2
    assert Topology.figure_2("c", 2).hierarchy.failable_names == ("device_0", "device_1")


def test_unknown_missing_nodes_are_refused() -> None:
    hierarchy = Topology.figure_2("e", 2).hierarchy
    for name in ("cloud", "edge_7"):
        with pytest.raises(ValueError, match=f"out of device_0, device_1, edge_0, but got '{name}': the oth"):
            hierarchy.presence([name])


def test_presence_of_devices_alone_leaves_the_edges_up() -> None:
    hierarchy = Topology.figure_2("f", 3).hierarchy
    assert hierarchy.all_present([[False, True, True]]).tolist() == [[False, True, True, True, True]]
    assert np.array_equal(
        hierarchy.all_present(hierarchy.presence(["edge_1"])), hierarchy.presence(["edge_1"])
    )
    for shape in ((2, 4), (3,), (2, 6)):
        with pytest.raises(
            ValueError, match=r"shape \(samples, 3 or 5\), but got .*: give a column for each"
        ):
            hierarchy.all_present(np.ones(shape))


def test_skip_links_go_to_the_receiver_of_the_receiver() -> None:
    hierarchy = Topology.from_yaml(SKIPPING).hierarchy
    skips = {link.name: link for link in hierarchy.links if link.carries is Payload.SKIP}
    assert list(skips) == ["near_1 -> high", "far_0 -> cloud", "low -> cloud"]
    assert skips["low -> cloud"].spec == hierarchy["low"].output
    assert skips["near_1 -> high"].level == hierarchy["high"].level
    assert hierarchy["high"].senders == ("low",)
    assert hierarchy["high"].all_senders == ("low", "near_1")
    assert len(hierarchy["high"].inputs) == 2
    assert [node.name for node in hierarchy.adapters_of("high")] == ["high_from_low", "high_from_near_1"]
    assert "high  exit, CC of 1 and skips of near_1, 16" in str(hierarchy)


def test_the_wiring_of_six_cameras_and_eight_nodes() -> None:
    topology = Topology.from_yaml(CAMERAS)
    hierarchy = topology.with_skips().hierarchy
    assert hierarchy.failable_names[6:] == (
        "edge1",
        "edge2",
        "edge3",
        "edge4",
        "fog3",
        "fog4",
        "fog2",
        "fog1",
    )
    skips = {node.name: node.skips for node in hierarchy.receivers if node.skips}
    assert skips == {
        "fog3": ("camera_0", "camera_1"),
        "fog4": ("camera_2", "camera_3", "camera_4", "camera_5"),
        "fog2": ("edge1", "edge2", "edge3", "edge4"),
        "fog1": ("fog3", "fog4"),
        "cloud": ("fog2",),
    }
    assert not any(node.skips for node in topology.hierarchy.nodes)
    assert hierarchy.heard(hierarchy.presence(["fog1"])).nodes["cloud"].all()
    assert not hierarchy.heard(hierarchy.presence(["fog1", "fog2"])).nodes["cloud"].any()
    assert not topology.hierarchy.heard(topology.hierarchy.presence(["fog1"])).nodes["cloud"].any()
