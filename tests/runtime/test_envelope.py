"""Envelopes between microcontroller and gateway: whole, genuine, and good once."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddnn_tf.runtime.envelope import (
    ALIVE,
    FEATURES,
    OVERHEAD,
    SENSE,
    DeviceEnd,
    GatewayEnd,
    Received,
    Request,
    length_of,
)

KEY = bytes(range(32))


def opened(key: bytes = KEY) -> tuple[DeviceEnd, GatewayEnd]:
    device, gateway = DeviceEnd(3, key), GatewayEnd(3, key)
    welcome = gateway.receive(device.hello()).reply
    assert device.receive(welcome) is None
    assert not gateway.is_open
    first = gateway.receive(device.send(b""))
    assert device.receive(first.reply) == Request(ALIVE, 0, 0)
    assert first.is_proof
    assert gateway.is_open
    return device, gateway


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_frames_arrive_as_they_were_sent(frames: list[bytes]) -> None:
    device, gateway = opened()
    for frame in frames:
        envelope = device.send(frame)
        assert len(envelope) == len(frame) + OVERHEAD == length_of(envelope[:16])
        assert gateway.receive(envelope) == Received(frame, b"", is_proof=True)


@given(st.sampled_from([SENSE, FEATURES]), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_requests_arrive_as_they_were_sent(verb: int, number: int, sample: int) -> None:
    device, gateway = opened()
    request = Request(verb, number, sample)
    envelope = gateway.request(request)
    assert device.receive(envelope) == request
    with pytest.raises(ValueError, match="replay"):
        device.receive(envelope)


@given(st.permutations(range(40)), st.data())
def test_each_message_counts_once_whatever_their_order(order: list[int], data: st.DataObject) -> None:
    device, gateway = opened()
    sent = [device.send(bytes([at])) for at in range(40)]
    for at in order:
        assert gateway.receive(sent[at])[0] == bytes([at])
        with pytest.raises(ValueError, match="replay"):
            gateway.receive(sent[data.draw(st.sampled_from(order[: order.index(at) + 1]))])


def test_messages_older_than_the_window_are_refused() -> None:
    device, gateway = opened()
    sent = [device.send(b"x") for _ in range(65)]
    gateway.receive(sent[64])
    with pytest.raises(ValueError, match="replay"):
        gateway.receive(sent[0])
    gateway.receive(sent[1])


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    device, gateway = opened()
    envelope = bytearray(device.send(b"frame"))
    at = data.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"."):
        gateway.receive(bytes(envelope))
    assert gateway.receive(device.send(b"next"))[0] == b"next"


@settings(max_examples=300)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_noise_is_refused_and_does_no_harm(noise: bytes, body: bytes) -> None:
    device, gateway = opened()
    for content in (noise, b"DG\x01" + noise, b"DG\x01\x01\x03\x00" + len(body).to_bytes(2, "little") + body):
        with pytest.raises(ValueError, match=r"."):
            gateway.receive(content)
        with pytest.raises(ValueError, match=r"."):
            device.receive(content)
    assert gateway.receive(device.send(b"x"))[0] == b"x"


def test_other_keys_devices_directions_and_sessions_are_refused() -> None:
    device, gateway = opened()
    stranger, _ = opened(secrets.token_bytes(32))
    other = DeviceEnd(4, KEY)
    for envelope in (
        stranger.send(b"x"),
        stranger.hello(),
        other.hello(),
        gateway.request(Request(SENSE, 1, 1)),
    ):
        with pytest.raises(ValueError, match=r"forged|device|kind"):
            gateway.receive(envelope)
    before = device.send(b"old")
    assert device.receive(gateway.receive(device.hello())[1]) is None
    assert gateway.receive(device.send(b"new"))[0] == b"new"
    with pytest.raises(ValueError, match="session"):
        gateway.receive(before)


def test_a_hello_heard_and_repeated_ends_no_session() -> None:
    device, gateway = DeviceEnd(3, KEY), GatewayEnd(3, KEY)
    hello = device.hello()
    device.receive(gateway.receive(hello)[1])
    gateway.receive(device.send(b"a"))
    for _ in range(10):
        assert gateway.receive(hello)[1]
    assert gateway.receive(device.send(b"b"))[0] == b"b"


def test_a_welcome_that_answers_no_hello_is_refused() -> None:
    device, gateway = DeviceEnd(3, KEY), GatewayEnd(3, KEY)
    old = gateway.receive(DeviceEnd(3, KEY).hello())[1]
    assert device.hello() == device.hello()
    with pytest.raises(ValueError, match="answers no hello"):
        device.receive(old)
    with pytest.raises(ValueError, match="no session"):
        device.send(b"x")
    with pytest.raises(ValueError, match="no session"):
        gateway.request(Request(SENSE, 1, 1))


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, but got 31"):
        GatewayEnd(0, bytes(31))
