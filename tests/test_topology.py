from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnn_tf.topology import CONFIGURATIONS, Cloud, Devices, Edge, Exit, Topology, convp_size

EXITS = {
    "a": ("cloud",),
    "b": ("local", "cloud"),
    "c": ("local", "cloud"),
    "d": ("local", "edge_0", "cloud"),
    "e": ("local", "edge_0", "cloud"),
    "f": ("local", "edge_0", "edge_1", "cloud"),
}
DEVICES = {"a": 6, "b": 1, "c": 6, "d": 1, "e": 6, "f": 6}


@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_configurations_of_figure_2(letter: str) -> None:
    topology = Topology.figure_2(letter)
    assert topology.exit_names == EXITS[letter]
    assert topology.devices.count == DEVICES[letter]
    assert list(topology.loss_weights) == list(EXITS[letter])
    assert set(topology.loss_weights.values()) == {1.0}
    assert Topology.from_yaml(topology.to_yaml()) == topology


def test_default_is_the_papers_network() -> None:
    topology = Topology()
    assert topology == Topology.devices_cloud(devices=6, filters=4, classes=3)
    assert topology.exits["local"].aggregation == "MP"
    assert topology.exits["cloud"].aggregation == "CC"
    assert topology.feature_shape == (16, 16, 4)


def test_a_loss_weight_alone_leaves_the_aggregation_as_it_was() -> None:
    topology = Topology(exits={"local": {"loss_weight": 2}})
    assert topology.exits["local"] == Exit(aggregation="MP", loss_weight=2)
    assert topology.exits["cloud"].aggregation == "CC"


def test_edges_share_the_devices_in_neighbouring_groups() -> None:
    topology = Topology.devices_edges_cloud(devices=7, edges=3)
    assert [edge.devices for edge in topology.edges] == [(0, 1), (2, 3, 4), (5, 6)]
    assert topology.exit_tiers == ("local", "edge", "cloud")
    assert topology.edge_feature_shape(0) == (8, 8, 32)


@given(
    count=st.integers(1, 8),
    filters=st.integers(1, 32),
    blocks=st.integers(1, 3),
    classes=st.integers(2, 20),
    edges=st.integers(0, 3),
    scheme=st.sampled_from(["MP", "AP", "CC"]),
    weight=st.floats(0.01, 10),
)
def test_yaml_round_trip(
    count: int, filters: int, blocks: int, classes: int, edges: int, scheme: Any, weight: float
) -> None:
    groups = [tuple(range(start, count, edges)) for start in range(min(edges, count))] if edges else []
    topology = Topology(
        devices=Devices(count=count, filters=filters, blocks=blocks),
        edges=[Edge(devices=group) for group in groups],
        cloud=Cloud(filters=(8,), hidden=(16,), precision="float"),
        classes=classes,
        exits={"local": Exit(aggregation=scheme, loss_weight=weight)},
    )
    assert Topology.from_yaml(topology.to_yaml()) == topology


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"devices": {"filters": 0}}, "'devices.filters' is 0"),
        ({"devices": {"count": 0}}, "'devices.count' is 0"),
        ({"devices": {"image_shape": [32, 32]}}, "devices.image_shape"),
        ({"devices": {"precision": "ternary"}}, "'devices.precision' is 'ternary'"),
        ({"devices": {"colour": 1}}, "no field 'devices.colour'"),
        ({"cloud": {"filters": [8, 0]}}, "cloud.filters.1"),
        ({"classes": 1}, "'classes' is 1"),
        ({"exits": {"cloud": {"aggregation": "XX"}}}, "'exits.cloud.aggregation' is 'XX'"),
        ({"exits": {"edge_0": {}}}, "'exits.edge_0' names no exit"),
        ({"exits": {"cloud": {"loss_weight": -1}}}, "exits.cloud.loss_weight"),
        ({"exits": {"cloud": {"loss_weight": float("nan")}}}, "exits.cloud.loss_weight"),
        ({"exits": {"cloud": {"loss_weight": 0}, "local": {"loss_weight": 0}}}, "every loss_weight is 0"),
        ({"edges": [{"devices": []}]}, "edges.0: 'devices' is empty"),
        ({"edges": [{}]}, "lacks the field 'edges.0.devices'"),
        ({"edges": [{"devices": [0, 1, 2]}, {"devices": [2, 3, 4, 5]}]}, "device 2, which is in 'edges.0"),
        ({"edges": [{"devices": [0, 1, 2, 3, 4, 6]}]}, "device 6, but 'devices.count' is 6"),
        ({"edges": [{"devices": [0, 1, 2]}]}, "device 3 belongs to no edge"),
        ({"edges": [{"devices": range(6), "filters": []}]}, "edges.0: 'filters' is empty"),
        (
            {"edges": [{"devices": [0, 1, 2]}, {"devices": [3, 4, 5], "filters": [8]}]},
            "feature maps of different shapes",
        ),
        ({"devices": {"blocks": 0}, "edges": [{"devices": range(6)}]}, "'devices.blocks' is 0"),
    ],
)
def test_contradictions_name_the_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match="topology") as caught:
        Topology(**fields)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_configuration_and_too_many_edges() -> None:
    with pytest.raises(ValueError, match="one of a, b, c, d, e, f, but got 'g'"):
        Topology.figure_2("g")
    with pytest.raises(ValueError, match=r"`edges` to be at most `devices` \(2\), but got 3"):
        Topology.devices_edges_cloud(devices=2, edges=3)
    with pytest.raises(ValueError, match="`edges` to be at least 1, but got 0"):
        Topology.devices_edges_cloud(edges=0)
    with pytest.raises(TypeError, match="`cloud`: known are blocks"):
        Topology.figure_2("c", cloud=Cloud())
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


@pytest.mark.parametrize(("size", "blocks", "expected"), [((32, 32), 1, (16, 16)), ((16, 10), 2, (4, 3))])
def test_convp_size(size: tuple[int, int], blocks: int, expected: tuple[int, int]) -> None:
    assert convp_size(size, blocks) == expected
