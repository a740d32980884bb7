"""A device and its orders, without a network between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import served, unlike_network
from skipping import SKIPPING
from typer.testing import CliRunner

from ddnn_tf.cli.serve import app
from ddnn_tf.hierarchy import AGGREGATOR
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.channels import Channel
from ddnn_tf.runtime.ddnn_v1_pb2 import Orders, Payload, Sense
from ddnn_tf.runtime.device import Device
from ddnn_tf.runtime.sensors import ArraySensor
from ddnn_tf.runtime.telemetry import Metrics
from ddnn_tf.topology import Topology


def test_a_feature_map_goes_to_the_receiver_and_when_ordered_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = unlike_network(Topology.from_yaml(SKIPPING), samples=4)
    sent: list[tuple[str, int, bytes]] = []

    def send(channel: Any, payload: Payload) -> bool:
        sent.append((channel._caller.peer, payload.ticket, payload.content))
        return True

    monkeypatch.setattr(Channel, "send", send)
    callers = {name: Caller("near_1", name, "127.0.0.1:1", None, "") for name in (AGGREGATOR, "low", "high")}
    sensor = ArraySensor(made.views["near_1"])
    device = Device("near_1", served(made.bundle), sensor, callers, Metrics(), engine="keras")
    assert len(device.channels) == 3
    device._obey(Orders(sense=[Sense(ticket=7, sample=1)]))
    device._obey(Orders(offload=[Sense(ticket=7, sample=1)]))
    device._obey(Orders(skip=[Sense(ticket=7, sample=1)]))
    device._obey(Orders(skip=[Sense(ticket=8, sample=1)]))
    device._obey(Orders(offload=[Sense(ticket=9, sample=1)]))
    assert [(peer, ticket) for peer, ticket, _ in sent] == [
        (AGGREGATOR, 7), ("low", 7), ("high", 7), ("high", 8), ("low", 9),
    ]  # fmt: skip
    assert len({content for _, _, content in sent[1:]}) == 1


@pytest.mark.parametrize(
    ("name", "skip", "message"),
    [
        ("low", [], "Expected --skip HOST:PORT of cloud for low, but got none."),
        ("side", ["--skip", "127.0.0.1:2"], "Expected no --skip for side, but got 127.0.0.1:2."),
    ],
)
def test_an_address_past_the_receiver_belongs_to_a_skip_link(
    name: str, skip: list[str], message: str, tmp_path: Path
) -> None:
    bundle = unlike_network(Topology.from_yaml(SKIPPING), samples=4).write(tmp_path / "bundle")
    arguments = ["edge", str(bundle), "--name", name, "--upper", "127.0.0.1:1", "--plaintext", *skip]
    result = CliRunner().invoke(app, arguments)
    assert str(result.exception) == message
