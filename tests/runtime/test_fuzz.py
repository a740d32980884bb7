"""Whatever comes in, nothing falls: over 100,000 malformed, oversized, repeated and mutated inputs."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import RandomNetwork
from running import Running, refused, sensors_of, served

from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.ddnn_v1_pb2 import Delivery, Payload, Question, Reports, Task
from ddnn_tf.runtime.envelope import DeviceEnd, GatewayEnd, Request
from ddnn_tf.runtime.gateway import Gateway
from ddnn_tf.runtime.security import CLIENT, create_certificates
from ddnn_tf.runtime.telemetry import Metrics
from ddnn_tf.runtime.upper import Upper

pytestmark = pytest.mark.slow

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DIRECT, CALLS, CONNECTIONS, DATAGRAMS = 40_000, 4_000, 1_500, 55_000


def noisy(draw: random.Random, valid: bytes) -> bytes:
    """Noise, or a valid message cut, lengthened, repeated, or with changed bytes."""
    kind = draw.randrange(6)
    if kind == 0:
        return draw.randbytes(draw.randrange(300))
    if kind == 1:
        return valid[: draw.randrange(len(valid) + 1)]
    if kind == 2:
        return valid + draw.randbytes(draw.randrange(1, 100))
    if kind == 3:
        return valid * draw.randrange(2, 5)
    changed = bytearray(valid)
    for _ in range(draw.randrange(1, 6)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def messages(made: RandomNetwork, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Methods, and valid messages for them."""
    network = served(made.bundle)
    size = network.policy.specs["cloud"]["device_0"].size
    while True:
        ticket = draw.getrandbits(64)
        vector = Payload(ticket=ticket, content=draw.randbytes(network.hierarchy.class_vector.size))
        features = Payload(ticket=ticket, content=draw.randbytes(size))
        yield "Aggregator/Attach", Reports(vectors=[vector, vector]).SerializeToString()
        yield "Upper/Deliver", Delivery(maps=[features]).SerializeToString()
        yield "Upper/Decide", Question(ticket=ticket, senders=["device_0"]).SerializeToString()
        yield "Aggregator/Classify", Task(sample=draw.randrange(1 << 32)).SerializeToString()


def test_messages_straight_into_the_handlers(network_of: Callable[..., RandomNetwork]) -> None:
    made = network_of("c")
    network = served(made.bundle)
    draw = random.Random(3)

    async def run() -> None:
        aggregator = Aggregator(network, {}, Metrics())
        upper = Upper("cloud", network, Metrics(), wait=0.001)
        taken = refusals = 0
        for count, (path, valid) in zip(range(DIRECT), messages(made, draw), strict=False):
            kind: Any = Reports if path == "Aggregator/Attach" else Delivery
            session: Any = aggregator.attach("device_0") if kind is Reports else upper.open("device_1")
            content = noisy(draw, valid)
            try:
                session.receive(kind.FromString(content))
                taken += 1
            except (RefusalError, DecodeError):
                refusals += 1
            if count % 2:
                session.close()
        assert taken > DIRECT / 20
        assert refusals > DIRECT / 2
        assert not aggregator._pending
        # One sender can fill its own share of what is kept, and nobody else's.
        assert len(upper._tickets) <= 1025
        question = Question(ticket=1, senders=["device_0"])
        with pytest.raises(RefusalError, match="No feature map"):
            await upper.decide("aggregator", question, 1.0)
        upper.open("device_0")
        delivering = upper.open("device_0")
        spec = network.policy.specs["cloud"]["device_0"]
        delivering.receive(Delivery(maps=[Payload(ticket=1, content=b"\1" * spec.size)]))
        assert (await upper.decide("aggregator", question, 1.0)).exits[0].senders == ["device_0"]
        upper.close()

    asyncio.run(run())


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 2**64 - 1), st.booleans())
def test_class_vectors_of_any_content(
    network_of: Callable[..., RandomNetwork], content: bytes, ticket: int, absent: bool
) -> None:
    network = served(network_of("c").bundle)
    aggregator = Aggregator(network, {}, Metrics())
    session = aggregator.attach("device_0")
    report = Reports(vectors=[Payload(ticket=ticket, content=content, absent=absent)])
    is_vector = len(content) == 12 and bool((np.abs(np.frombuffer(content, "<f4")) <= 1e6).all())
    if is_vector or absent:
        session.receive(report)
    else:
        with pytest.raises(RefusalError, match="Expected") as caught:
            session.receive(report)
        assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_over_the_wire_and_into_raw_sockets(network_of: Callable[..., RandomNetwork], tmp_path: Path) -> None:
    made = network_of("c")
    network = served(made.bundle)
    draw = random.Random(5)
    certs = tmp_path / "certs"

    async def calls(tiers: Running) -> None:
        """Noise from peers who are let in; each is refused with a status."""
        names = {"Aggregator/Attach": "device_0", "Upper/Deliver": "device_0", "Upper/Decide": "aggregator"}
        callers: dict[str, Caller] = {}
        limit = asyncio.Semaphore(32)
        codes: set[grpc.StatusCode] = set()

        async def one(path: str, content: bytes) -> None:
            name = names.get(path, CLIENT)
            peer = path.split("/")[0].lower().replace("upper", "cloud")
            key = name + peer
            if key not in callers:
                certificates = tiers.certificates(name)
                callers[key] = Caller(name, peer, tiers.addresses[peer], certificates, network.fingerprint)
            caller = callers[key]
            async with limit:
                try:
                    if path in ("Aggregator/Attach", "Upper/Deliver"):
                        call = caller.channel.stream_stream(f"/ddnn.v1.{path}")(
                            iter([content]), timeout=20, metadata=caller.metadata
                        )
                        while await call.read() is not grpc.aio.EOF:
                            pass
                    else:
                        method = caller.channel.unary_unary(f"/ddnn.v1.{path}")
                        await method(content, timeout=20, metadata=caller.metadata)
                    codes.add(grpc.StatusCode.OK)
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code())

        stream = zip(range(CALLS), messages(made, draw), strict=False)
        tasks = [one(path, noisy(draw, valid)) for _, (path, valid) in stream if path != "Aggregator/Attach"]
        # Attaching as device_0 takes its place, so these come one after the other at the end.
        await asyncio.gather(*tasks)
        oversized = (
            Task(sample=1).SerializeToString() + b"\x82\x3f" + (200_000).to_bytes(4, "little") * 50_000
        )
        await one("Aggregator/Classify", oversized)
        for _, (path, valid) in zip(range(40), messages(made, draw), strict=False):
            if path == "Aggregator/Attach":
                await one(path, noisy(draw, valid))
        allowed = {
            grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        }  # fmt: skip
        assert codes <= allowed, codes
        assert grpc.StatusCode.INVALID_ARGUMENT in codes
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        for caller in callers.values():
            await caller.close()

    def sockets(address: str) -> None:
        """Noise from strangers: plain, after a preface, and inside TLS without a certificate."""
        host, port = address.split(":")
        context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        for count in range(CONNECTIONS):
            with socket.create_connection((host, int(port)), timeout=10) as line:
                try:
                    if count % 10 == 0:
                        context.load_cert_chain(certs / "client.pem", certs / "client.key")
                        with context.wrap_socket(line) as tls:
                            tls.sendall(PREFACE + draw.randbytes(draw.randrange(200)))
                    else:
                        line.sendall(
                            (b"", PREFACE, b"\x16\x03\x01")[count % 3] + draw.randbytes(draw.randrange(300))
                        )
                except OSError:
                    pass  # the server has hung up already, as it may

    async def run() -> None:
        async with (
            Running(network, sensors_of(made.views), certs, wait=2) as tiers,
            tiers.client() as client,
        ):
            before = [await client.classify(sample) for sample in range(20)]
            gc.collect()
            descriptors = len(os.listdir("/proc/self/fd"))
            await calls(tiers)
            for name in ("aggregator", "cloud"):
                await asyncio.to_thread(sockets, tiers.addresses[name])
            # device_0 lost its place to the noise, and comes back by itself.
            for _ in range(200):
                if len((await client.classify(0)).devices["local"]) == 3:
                    break
                await asyncio.sleep(0.05)
            after = [await client.classify(sample) for sample in range(20)]
            assert [answer.label for answer in after] == [answer.label for answer in before]
            assert [answer.exit for answer in after] == [answer.exit for answer in before]
            assert not tiers.aggregator._pending
            counts = refused(tiers.metrics["aggregator"])
            assert counts["malformed"] > 100
            assert counts["oversized"] == 1
            assert refused(tiers.metrics["cloud"])["malformed"] > 100
            assert "internal" not in counts
            assert "internal" not in refused(tiers.metrics["cloud"])
            await asyncio.sleep(0.5)
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 20

    asyncio.run(run())


class Peer:
    """Keeps what it is sent."""

    is_proven = False

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def send(self, content: bytes) -> None:
        self.taken.append(content)

    def close(self) -> None: ...


def test_envelopes_straight_into_the_gateway(
    network_of: Callable[..., RandomNetwork], tmp_path: Path
) -> None:
    network = served(network_of("c").bundle)
    create_certificates(tmp_path / "certs", ["gateway"])
    draw = random.Random(11)
    key = bytes(32)

    async def run() -> None:
        metrics = Metrics()
        caller = Caller("device_0", "aggregator", "127.0.0.1:1", None)
        callers = {"device_0": {"aggregator": caller, "cloud": caller}}
        gateway = Gateway(network, {"device_0": key}, callers, metrics)
        device = DeviceEnd(0, key)
        peer = Peer()
        assert gateway.receive(device.hello(), peer)
        device.receive(peer.taken.pop())
        assert not peer.is_proven
        valid = device.send(b"")
        assert gateway.receive(valid, peer)
        assert peer.is_proven
        genuine = 0
        for count in range(DATAGRAMS):
            # Genuine envelopes with noise for a frame, and noise for an envelope.
            content = device.send(draw.randbytes(60)) if count % 10 == 0 else noisy(draw, valid)
            genuine += gateway.receive(content, peer)
        assert genuine == 0
        assert sum(refused(metrics).values()) == DATAGRAMS
        assert refused(metrics)["replayed"] > 10
        assert gateway.receive(device.send(b""), peer)

    asyncio.run(run())


def test_the_device_takes_noise_from_its_gateway(network_of: Callable[..., RandomNetwork]) -> None:
    draw = random.Random(13)
    device, gateway = DeviceEnd(0, bytes(32)), GatewayEnd(0, bytes(32))
    device.receive(gateway.receive(device.hello())[1])
    gateway.receive(device.send(b""))
    for _ in range(2000):
        with pytest.raises(ValueError, match=r"."):
            device.receive(noisy(draw, gateway.request(Request(1, 1, 1))) + b"!")
    assert device.receive(gateway.request(Request(1, 2, 3))) == Request(1, 2, 3)


def test_the_inputs_are_over_one_hundred_thousand() -> None:
    assert DIRECT + CALLS + 2 * CONNECTIONS + DATAGRAMS > 100_000
