from __future__ import annotations

from ddnn_tf.export.c.source import Footprint
from ddnn_tf.search import Limits, device_footprints
from ddnn_tf.topology import Topology


def test_more_filters_take_more_flash_and_raw_inputs_none(tiny_topology: Topology) -> None:
    small = device_footprints(tiny_topology)
    devices = [group.model_copy(update={"filters": (32,)}) for group in tiny_topology.devices]
    large = device_footprints(tiny_topology.replace(devices=devices))
    assert set(small) == {"device_0", "device_1"}
    assert small["device_0"] == small["device_1"]
    assert large["device_0"].flash_bytes > small["device_0"].flash_bytes
    assert large["device_0"].ram_bytes > small["device_0"].ram_bytes
    assert device_footprints(Topology.cloud_only(2)) == {}


def test_a_limit_that_no_training_can_keep_is_named(tiny_topology: Topology) -> None:
    taken = {"device_0": Footprint(1000, 300), "device_1": Footprint(2000, 400)}
    assert Limits().refusal(tiny_topology, taken) is None
    assert Limits(max_device_flash=1500).refusal(tiny_topology, taken) == "2000 bytes of flash for 'device_1'"
    assert Limits(max_device_ram=299).refusal(tiny_topology, taken) == "300 bytes of RAM for 'device_0'"
    assert Limits(max_device_ram=400, max_device_flash=2000).refusal(tiny_topology, taken) is None
    # 4 bytes a class in any case; what goes up only training tells.
    assert Limits(max_bytes=8).refusal(tiny_topology, taken) is None
    assert "8 bytes" in (Limits(max_bytes=7).refusal(tiny_topology, taken) or "")


def test_excess_is_positive_beyond_a_limit() -> None:
    limits = Limits(max_bytes=40, min_accuracy_any_one_missing=0.9)
    assert limits.excess(50, 0.95)["max_bytes"] == 10
    assert limits.excess(50, 0.95)["min_accuracy_any_one_missing"] < 0
    assert limits.excess(10, 0.8)["min_accuracy_any_one_missing"] > 0
    assert Limits().excess(50, 0.1) == {}
