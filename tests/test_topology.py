from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skipping import SKIPPING
from unlike import UNLIKE

from ddnn_tf.specs import Coding
from ddnn_tf.topology import CONFIGURATIONS, Cloud, Devices, Edge, Local, Topology

EXITS = {
    "a": ("cloud",),
    "b": ("local", "cloud"),
    "c": ("local", "cloud"),
    "d": ("local", "edge_0", "cloud"),
    "e": ("local", "edge_0", "cloud"),
    "f": ("local", "edge_0", "edge_1", "cloud"),
}
DEVICES = {"a": 6, "b": 1, "c": 6, "d": 1, "e": 6, "f": 6}
CAMERA = {"input": [32, 32, 3], "filters": [4]}
CAMERAS = {"count": 6, **CAMERA}


@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_configurations_of_figure_2(letter: str) -> None:
    topology = Topology.figure_2(letter)
    assert topology.exit_names == EXITS[letter]
    assert len(topology.hierarchy.devices) == DEVICES[letter]
    assert list(topology.loss_weights) == list(EXITS[letter])
    assert set(topology.loss_weights.values()) == {1.0}
    assert Topology.from_yaml(topology.to_yaml()) == topology


def test_default_is_the_papers_network() -> None:
    topology = Topology()
    assert topology == Topology.devices_cloud(devices=6, filters=4, classes=3)
    assert topology.local == (Local(aggregation="MP"),)
    assert topology.cloud.aggregation == "CC"
    assert topology.hierarchy["device_0"].output.shape == (16, 16, 4)


def test_a_loss_weight_alone_leaves_the_aggregation_as_it_was() -> None:
    assert Topology(local={"loss_weight": 2}).local == (Local(aggregation="MP", loss_weight=2),)


def test_edges_share_the_devices_in_neighbouring_groups() -> None:
    topology = Topology.devices_edges_cloud(devices=7, edges=3)
    members = [edge.senders for edge in topology.edges]
    assert members == [
        ("device_0", "device_1"),
        ("device_2", "device_3", "device_4"),
        ("device_5", "device_6"),
    ]
    assert topology.hierarchy.exit_tier_names == ("local", "edge", "cloud")
    assert topology.hierarchy["edge_0"].output.shape == (8, 8, 32)


def test_configurations_take_unlike_devices() -> None:
    """Unlike maps go through adapters, vectors through FC blocks; alike maps as before."""
    camera = Devices(name="camera", input=(32, 32, 3), filters=(4,))
    co2 = Devices(name="co2", input=(2,), units=(16,))
    mixed = Topology.figure_2("f", [camera, co2])
    assert mixed.edges[0] == Edge(name="edge_0", senders=("camera",), adapter=(64,), units=(32,))
    assert mixed.cloud.units == (64,)
    vectors = Topology.figure_2("c", [co2, co2.model_copy(update={"name": "pir"})])
    assert vectors.cloud == Cloud(units=(64, 128))
    raw = Topology.figure_2("a", [camera, co2])
    assert raw.exit_names == ("cloud",)
    assert raw.hierarchy["co2"].output.kind == "bytes"


@given(
    count=st.integers(1, 8),
    filters=st.integers(1, 32),
    blocks=st.integers(1, 3),
    classes=st.integers(2, 20),
    edges=st.integers(0, 3),
    scheme=st.sampled_from(["MP", "AP", "CC"]),
    weight=st.floats(0.01, 10),
    scale=st.floats(1e-3, 1e3),
)
def test_yaml_round_trip(
    count: int, filters: int, blocks: int, classes: int, edges: int, scheme: str, weight: float, scale: float
) -> None:
    devices = Devices(count=count, input=(16, 3), filters=(filters,) * blocks)
    groups = [devices.names[start::edges] for start in range(min(edges, count))] if edges else []
    topology = Topology(
        devices=devices,
        edges=[
            Edge(name=f"edge_{number}", senders=group, filters=(4,)) for number, group in enumerate(groups)
        ],
        cloud=Cloud(filters=(8,), hidden=(16,), precision="float"),
        classes=classes,
        local=Local(aggregation=scheme, loss_weight=weight),
        codings={"device_0": Coding(scale=(scale,) * 3, offset=(-scale, 0.0, scale))},
    )
    assert Topology.from_yaml(topology.to_yaml()) == topology
    assert hash(Topology.from_yaml(topology.to_yaml()).devices) == hash(topology.devices)


def test_a_tree_of_unlike_devices_survives_yaml() -> None:
    topology = Topology.from_yaml(UNLIKE)
    again = Topology.from_yaml(topology.to_yaml())
    assert again == topology
    assert again.hierarchy == topology.hierarchy


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"devices": {**CAMERAS, "filters": [0]}}, "devices.0.filters.0"),
        ({"devices": {**CAMERAS, "count": 0}}, "'devices.0.count' is 0"),
        ({"devices": {"count": 6, "filters": [4]}}, "lacks the field 'devices.0.input'"),
        ({"devices": []}, "devices"),
        ({"devices": {**CAMERAS, "input": [1, 2, 3, 4]}}, "devices.0.input"),
        ({"devices": {**CAMERAS, "input": [8], "units": [2]}}, "devices.0: 'filters' are ConvP blocks"),
        ({"devices": {**CAMERAS, "precision": "ternary"}}, "'devices.0.precision' is 'ternary'"),
        ({"devices": {**CAMERAS, "colour": 1}}, "no field 'devices.0.colour'"),
        ({"devices": {**CAMERAS, "name": "a-b"}}, "devices.0.name"),
        ({"devices": [CAMERA, CAMERA]}, "'devices.1.name' is 'device', which 'devices.0.name' names too"),
        (
            {"devices": {**CAMERA, "name": "aggregator"}},
            "'devices.0.name' is 'aggregator', which is reserved",
        ),
        ({"cloud": {"filters": [8, 0]}}, "cloud.filters.1"),
        ({"classes": 1}, "'classes' is 1"),
        ({"cloud": {"aggregation": "XX"}}, "'cloud.aggregation' is 'XX': expected the aggregation scheme"),
        ({"local": {"aggregation": "XX"}}, "'local.0.aggregation' is 'XX'"),
        ({"local": {"devices": ["nobody"]}}, "'local.0.devices' names 'nobody'"),
        ({"local": {"loss_weight": -1}}, "local.0.loss_weight"),
        ({"cloud": {"loss_weight": float("nan")}}, "cloud.loss_weight"),
        ({"cloud": {"loss_weight": 0}, "local": {"loss_weight": 0}}, "every 'loss_weight' is 0"),
        (
            {"local": [{"name": "a", "devices": ["device"]}, {"name": "b", "devices": ["device_0"]}]},
            "'local.1.devices' names 'device_0', which is in 'local.0.devices' too",
        ),
        (
            {"devices": [{**CAMERAS, "filters": []}], "local": {"devices": ["device"]}},
            "'device_0', which has no blocks",
        ),
        ({"edges": [{"name": "e", "senders": [], "filters": [8]}]}, "edges.0: 'senders' is empty"),
        ({"local": {"devices": []}}, "'local.0.devices' is empty"),
        ({"edges": [{"name": "e", "filters": [8]}]}, "lacks the field 'edges.0.senders'"),
        ({"edges": [{"name": "e", "senders": ["device"]}]}, "edges.0: 'filters' and 'units' are empty"),
        (
            {"edges": [{"name": "e", "senders": ["nobody"], "filters": [8]}]},
            "'edges.0.senders' names 'nobody'",
        ),
        (
            {
                "edges": [
                    {"name": "e", "senders": ["device"], "filters": [8]},
                    {"name": "f", "senders": ["device_2"], "filters": [8]},
                ]
            },
            "'edges.1.senders' names 'device_2', which sends to 'e' already",
        ),
        (
            {
                "edges": [
                    {"name": "e", "senders": ["f"], "filters": [8]},
                    {"name": "f", "senders": ["e"], "filters": [8]},
                ]
            },
            "in a cycle (e -> f -> e)",
        ),
        (
            {"edges": [{"name": "e", "senders": ["device_0", "device_1"], "filters": [8]}]},
            "'cloud.adapter' is left out, but 'cloud' receives feature maps of unlike shapes",
        ),
        (
            {"devices": [CAMERA, {"name": "b", "input": [9], "units": [3]}], "cloud": {"units": [4]}},
            "(device (16, 16, 4), b (3,))",
        ),
        (
            {"devices": [{**CAMERA, "units": [9]}], "cloud": {"filters": [4]}},
            "'cloud.filters' are ConvP blocks, but what 'cloud' joins are vectors",
        ),
        (
            {
                "edges": [
                    {"name": "e", "senders": ["device_0", "device_1"], "filters": [8], "tier": "x"},
                    {"name": "f", "senders": ["device_2", "device_3"], "filters": [8], "tier": "y"},
                    {"name": "g", "senders": ["device_4", "device_5"], "filters": [8]},
                ]
            },
            "'tier' is x and y",
        ),
        (
            {"edges": [{"name": "e", "senders": ["device"], "filters": [8], "tier": "local"}]},
            "'tier' is 'local' on two levels",
        ),
        ({"devices": {**CAMERA, "name": "ca"}}, "'devices.0.name' is 'ca', which is reserved"),
        ({"devices": {**CAMERA, "name": "local_logits"}}, "'local_logits', which is a layer of 'local'"),
        ({"devices": {**CAMERAS, "count": 10**8}}, "'devices.0.count' is 100000000"),
        (
            {"edges": {"name": "e", "senders": ["device"], "units": [8], "exit": False, "hidden": [7]}},
            "edges.0",
        ),
        ({"exits": {"local": {}}}, "the form of version 0.1"),
        ({"devices": {"count": 6, "image_shape": [32, 32, 3]}}, "the form of version 0.1"),
        ({"codings": {"nobody": {"scale": [1], "offset": [0]}}}, "'codings.nobody' names no device"),
        ({"codings": {"device_0": {"scale": [1], "offset": [0]}}}, "'codings.device_0' has 1 channels"),
        ({"codings": {"device_0": {"scale": [0], "offset": [0]}}}, "codings.device_0: 'scale' holds 0"),
    ],
)
def test_contradictions_name_the_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match="topology") as caught:
        Topology(**fields)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_codings_of_the_data_are_filled_in_but_not_replaced() -> None:
    coding = Coding(scale=(2.0,) * 3, offset=(1.0,) * 3)
    topology = Topology().with_codings({"device_1": coding, "somebody_else": coding})
    assert topology.hierarchy["device_1"].coding == coding
    assert topology.hierarchy["device_0"].coding is None
    with pytest.raises(ValueError, match=r"'codings\.device_1' are not those of the data set"):
        topology.with_codings({"device_1": Coding(scale=(3.0,) * 3, offset=(1.0,) * 3)})


def test_a_copy_with_other_fields_has_a_hierarchy_of_its_own() -> None:
    topology = Topology()
    assert topology.hierarchy.classes == 3
    for changed in (topology.replace(classes=5), topology.model_copy(update={"classes": 5})):
        assert changed.hierarchy.classes == 5
    with pytest.raises(ValueError, match="'classes' is 1"):
        topology.model_copy(update={"classes": 1})


def test_unknown_configuration_and_too_many_edges() -> None:
    with pytest.raises(ValueError, match="one of a, b, c, d, e, f, but got 'g'"):
        Topology.figure_2("g")
    with pytest.raises(ValueError, match=r"`edges` to be at most `devices` \(2\), but got 3"):
        Topology.devices_edges_cloud(devices=2, edges=3)
    with pytest.raises(ValueError, match="`edges` to be at least 1, but got 0"):
        Topology.devices_edges_cloud(edges=0)
    with pytest.raises(TypeError, match="`cloud`: known are blocks"):
        Topology.figure_2("c", cloud=Cloud())
    cameras = [Devices(name=name, input=(8, 8, 1), filters=(2,)) for name in ("left", "right")]
    with pytest.raises(ValueError, match=r"one device for configuration \(b\), but got left, right"):
        Topology.figure_2("b", cameras)
    with pytest.raises(ValueError, match="no `filters` in configuration"):
        Topology.cloud_only(filters=4)


def test_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Topology().classes = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("devices: [", "not valid YAML"),
        ("- 1", "YAML mapping"),
        ("classes: 1", "'classes' is 1"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_yaml_is_one_sentence_with_the_path(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Topology.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Topology.load(tmp_path / "none.yaml")


def test_a_wide_concatenation_at_the_local_exit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'local\.0\.aggregation' is 'WCC', which makes no class vector"):
        Topology.devices_cloud(local="WCC")


@pytest.mark.parametrize(
    ("skips", "reason"),
    [
        (["nobody"], "'cloud.skips' names 'nobody', but there is no such device or edge"),
        (["cloud"], "'cloud.skips' names 'cloud', but there is no such device or edge"),
        (["direct"], "'cloud.skips' names 'direct', but it sends to 'cloud' anyway"),
        (
            ["near_1"],
            "'cloud.skips' names 'near_1', but it sends to 'low', which does not send to 'cloud': nodes that "
            "can send to 'cloud' past their receiver are far_0, far_1, low",
        ),
        (["low", "far", "far_0"], "'cloud.skips' names 'far_0' twice"),
    ],
)
def test_skip_links_that_cannot_be_are_refused(skips: list[str], reason: str) -> None:
    cloud = {"skips": skips, "adapter": [16], "units": [16]}
    with pytest.raises(ValueError, match=re.escape(reason)):
        Topology.from_yaml(SKIPPING).replace(cloud=cloud)


def test_a_skip_link_of_another_shape_needs_an_adapter() -> None:
    edges = [{"name": "edge", "senders": ["device"], "filters": [8]}]
    reason = r"'cloud.adapter' is left out, but .* \(edge \(8, 8, 8\), device_0 \(16, 16, 4\)"
    with pytest.raises(ValueError, match=reason):
        Topology(edges=edges, cloud={"skips": ["device"], "filters": [8]})
    with pytest.raises(ValueError, match=reason):
        Topology(edges=edges, cloud={"filters": [8]}).with_skips()


def test_skip_links_survive_yaml() -> None:
    topology = Topology.from_yaml(SKIPPING).with_skips()
    assert topology.cloud.skips == ("far_0", "far_1", "low")
    assert Topology.from_yaml(topology.to_yaml()).hierarchy == topology.hierarchy
