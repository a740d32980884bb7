from __future__ import annotations

import numpy as np
import pytest
from skipping import SKIPPING
from unlike import UNLIKE

from ddnn_tf.communication import bytes_at_exit, bytes_per_link, bytes_per_sample, device_bytes, raw_bytes
from ddnn_tf.topology import Devices, Topology

# Table II of the paper: Local Exit (%) and Comm. (B).
TABLE_2 = [
    (0.00, 140), (0.58, 139), (1.75, 138), (2.92, 136),
    (22.81, 111), (60.82, 62), (83.04, 34), (100.0, 12),
]  # fmt: skip


@pytest.mark.parametrize(("local_exit", "printed"), TABLE_2)
def test_table_2_to_the_printed_precision(local_exit: float, printed: int) -> None:
    share = local_exit / 100
    assert round(device_bytes(share, classes=3, filters=4, positions=256)) == printed
    assert round(bytes_per_sample(Topology.devices_cloud(), [share, 1 - share])) == printed


def test_equation_1_wants_a_fraction() -> None:
    with pytest.raises(ValueError, match="divide a percentage by 100"):
        device_bytes(60.82, 3, 4, 256)


def test_raw_offload_is_3072_bytes() -> None:
    assert raw_bytes(Topology()) == 3072
    assert bytes_per_sample(Topology.cloud_only(), [1.0]) == 3072


def test_links_of_one_edge() -> None:
    links = bytes_per_link(Topology.devices_edge_cloud(devices=2), [0.5, 0.3, 0.2])
    assert links == pytest.approx(
        {
            "device_0 -> local": 12,
            "device_0 -> edge_0": 0.5 * 128,
            "device_1 -> local": 12,
            "device_1 -> edge_0": 0.5 * 128,
            "edge_0 -> cloud": 0.2 * 8 * 8 * 32 / 8,
        }
    )


def test_several_edges_report_their_class_vectors() -> None:
    links = bytes_per_link(Topology.devices_edges_cloud(), [0.0, 1.0, 0.0])
    assert links["edge_0 -> local"] == 12
    assert links["device_5 -> edge_1"] == 128
    assert links["edge_1 -> cloud"] == 0


def test_bytes_at_exit_add_up() -> None:
    for letter in "abcdef":
        topology = Topology.figure_2(letter)
        costs = bytes_at_exit(topology)
        shares = [1 / len(costs)] * len(costs)
        assert list(costs) == sorted(costs)
        assert bytes_per_sample(topology, shares) == pytest.approx(sum(costs) / len(costs))


def test_float_feature_maps_take_four_bytes_an_element() -> None:
    topology = Topology(devices=Devices(count=6, input=(32, 32, 3), filters=(4,), precision="float"))
    assert bytes_at_exit(topology) == (12, 12 + 16 * 16 * 4 * 4)


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.6], [1.5, -0.5], [0.2, 0.2]])
def test_bad_shares(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="exit_shares"):
        bytes_per_sample(Topology(), shares)


def test_a_deep_tree_sends_what_its_links_say() -> None:
    """Half leave at the sites, a quarter at the edges; the gateway has no exit, so it sends the rest."""
    topology = Topology.from_yaml(UNLIKE)
    links = bytes_per_link(topology, [0.5, 0.25, 0.25])
    assert links == pytest.approx(
        {
            "camera_0 -> site_a": 16,
            "camera_0 -> edge_a": 0.5 * 4 * 3 * 4 / 8,
            "camera_1 -> site_a": 16,
            "camera_1 -> edge_a": 0.5 * 4 * 3 * 4 / 8,
            "microphone -> site_b": 16,
            "microphone -> edge_b": 0.5 * 1,
            "co2 -> site_b": 16,
            "co2 -> edge_b": 0.5 * 2,
            "site_a -> aggregator": 16,
            "site_b -> aggregator": 16,
            "edge_a -> aggregator": 0.5 * 16,
            "edge_a -> hall": 0.25 * 2 * 2 * 8 / 8,
            "edge_b -> aggregator": 0.5 * 16,
            "edge_b -> hall": 0.25 * 2 * 8 / 8,
            "hall -> cloud": 0.25 * 2,
        }
    )
    assert raw_bytes(topology) == (2 * 8 * 6 * 3 + 10 + 2) / 4


def test_skip_links_carry_bytes_in_the_share_of_the_samples_whose_parent_is_down() -> None:
    topology = Topology.from_yaml(SKIPPING)
    hierarchy = topology.hierarchy
    shares = [0.5, 0.0, 0.0, 0.5]
    whole = bytes_per_link(topology, shares)
    assert whole["far_0 -> cloud"] == whole["low -> cloud"] == whole["near_1 -> high"] == 0
    assert whole == bytes_per_link(topology, shares, hierarchy.presence(samples=3))

    present = np.concatenate([hierarchy.presence(["side"]), hierarchy.presence(samples=3)])
    some = bytes_per_link(topology, shares, present)
    assert some["far_0 -> cloud"] == 0.5 * 0.25 * hierarchy["far_0"].output.size
    for link, share in (("far_1 -> side", 0.75), ("side -> cloud", 0.75), ("far_1 -> local", 1)):
        assert some[link] == pytest.approx(share * whole[link]), link

    down = bytes_per_link(topology, shares, hierarchy.presence(["low", "near_0"]))
    assert down["near_1 -> high"] == 0.5 * hierarchy["near_1"].output.size
    assert (
        down["near_0 -> local"] == down["near_1 -> low"] == down["low -> high"] == down["low -> cloud"] == 0
    )
    devices = len(hierarchy.devices)
    assert bytes_per_sample(topology, shares, hierarchy.presence(["low", "near_0"])) == pytest.approx(
        sum(down.values()) / devices
    )
