"""A gateway for microcontrollers that speak no gRPC: their framed messages over UDP or TCP.

Towards aggregator and upper tier it is each of its devices, with a certificate that carries their names;
towards a device it speaks the envelopes of `envelope`, with a key for each. A device that is not there is
reported absent at once.
"""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddnn_tf.frames import FEATURES as FEATURES_FRAME
from ddnn_tf.frames import read_frame
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.ddnn_v1_pb2 import Accepted, Orders, Payload, Sense
from ddnn_tf.runtime.device import delivery, reports
from ddnn_tf.runtime.envelope import ALIVE, FEATURES, KEY_BYTES, SENSE, GatewayEnd, Request, length_of
from ddnn_tf.runtime.links import Link, within
from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.security import host_and_port, joined
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Gateway", "read_keys"]

_KEPT = 4096
_CONNECTIONS = 256
_GREETING = 5.0  # seconds for a connection's first genuine message
_QUEUE = 1 << 20  # bytes that wait for a device that does not read
_START = 16
_ALIVE_PAUSE = 10.0
_log = logging.getLogger(__name__)


def read_keys(path: str | Path, network: Network) -> dict[str, bytes]:
    """Keys of devices from a JSON file: `{"device_3": "64 hexadecimal digits"}`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Something else in it, or a device that the network does not have.
    """
    place = Path(path)
    if not place.is_file():
        raise FileNotFoundError(f"There is no file of keys '{place}': make one with `ddnn certs --gateway`.")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        keys = {str(name): bytes.fromhex(key) for name, key in content.items()}
    except (ValueError, TypeError, AttributeError):
        # Nothing of the content is told: it is secret.
        raise ValueError(
            f"'{place}' holds no keys: expected a JSON object of hexadecimal keys by device."
        ) from None
    for name, key in keys.items():
        if name not in network.topology.device_names:
            raise ValueError(f"'{place}' has a key for {name!r}, which is no device of the network.")
        if len(key) != KEY_BYTES:
            raise ValueError(f"'{place}': the key of {name} has {len(key)} bytes, expected {KEY_BYTES}.")
    return keys


class Gateway:
    """Speaks for microcontrollers.

    Args:
        network: The network; its devices must have binary feature maps.
        keys: The key of each of its devices, by name.
        aggregators: Each device's way to the aggregator, by name.
        uppers: Each device's way to the tier above, by name.
        metrics: Its metrics.

    Raises:
        ValueError: A network whose devices send no bits.
    """

    def __init__(
        self,
        network: Network,
        keys: Mapping[str, bytes],
        aggregators: Mapping[str, Caller],
        uppers: Mapping[str, Caller],
        metrics: Metrics,
    ) -> None:
        if not network.has_local or network.features.kind != "bits":
            raise ValueError("Expected a network whose devices send bits: the frames carry nothing else.")
        self._metrics = metrics
        self._members = {
            network.topology.device_names.index(name): _Member(
                name, network, GatewayEnd(network.topology.device_names.index(name), key),
                aggregators[name], uppers[name], metrics,
            )
            for name, key in keys.items()
        }  # fmt: skip
        self._connections: set[asyncio.Task[Any]] = set()
        self._alive: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None

    @property
    def links(self) -> list[Link]:
        """The streams of all its devices."""
        return [link for member in self._members.values() for link in member.links]

    async def start(self, address: str) -> str:
        """Listens for UDP and TCP at one port.

        Args:
            address: `host:port`; port 0 takes a free one.

        Returns:
            The address, with its port.

        Raises:
            OSError: The port is in use.
            ValueError: No address.
        """
        host, port = host_and_port(address)
        try:
            self._server = await asyncio.start_server(self._connected, host, port)
            bound = self._server.sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            self._datagrams, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(host, bound)
            )
        except OSError as error:
            await self.stop()
            raise OSError(f"Cannot listen at {address}: {error.strerror or error}.") from None
        self._alive = asyncio.ensure_future(self._keep_alive())
        return joined(host, bound)

    async def stop(self) -> None:
        """Closes its sockets."""
        if self._server is not None:
            self._server.close()
        if self._datagrams is not None:
            self._datagrams.close()
        ending = [*self._connections, *([] if self._alive is None else [self._alive])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def receive(self, content: bytes, peer: _Peer) -> bool:
        """Takes one envelope.

        Args:
            content: The envelope.
            peer: Where it came from.

        Returns:
            Whether it was good; if not, it has been counted.
        """
        try:
            length_of(content[:_START].ljust(_START, b"\0"))
            member = self._members.get(int.from_bytes(content[4:6], "little"))
            if member is None:
                raise ValueError("The envelope is of an unknown device.")
            member.receive(content, peer)
        except ValueError as error:
            reason = "replayed" if "replay" in str(error) else "envelope"
            self._metrics.refused.labels(reason).inc()
            _log.debug("refused", extra={"fields": {"reason": str(error)}})
            return False
        return True

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= _CONNECTIONS:
            self._metrics.refused.labels("overload").inc()
            writer.close()
            return
        self._connections.add(task)
        peer = _Connection(writer)
        try:
            while True:
                wait = None if peer.is_proven else _GREETING
                start = await within(reader.readexactly(_START), wait)
                rest = length_of(start) - _START
                content = start + await within(reader.readexactly(rest), _GREETING)
                if not self.receive(content, peer):
                    break  # over TCP nothing is lost or repeated: this peer is no device
        except ValueError:
            self._metrics.refused.labels("envelope").inc()
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError):
            _log.debug("a connection ended")
        finally:
            self._connections.discard(task)
            for member in self._members.values():
                member.forget(peer)
            writer.close()

    async def _keep_alive(self) -> None:
        """Lets devices know that the gateway is there, and their connections that they are in use."""
        while True:
            await asyncio.sleep(_ALIVE_PAUSE)
            for member in self._members.values():
                member.keep_alive()


class _Peer:
    """Where envelopes come from and go to: an address of UDP, or a connection of TCP.

    Attributes:
        is_proven: Whether the device itself has been heard from there.
    """

    is_proven = False

    def send(self, content: bytes) -> None:
        """Sends an envelope."""
        raise NotImplementedError

    def close(self) -> None:
        """The device speaks from elsewhere now."""


class _Address(_Peer):
    def __init__(self, transport: asyncio.DatagramTransport, address: Any) -> None:
        self._transport, self._address = transport, address

    def send(self, content: bytes) -> None:
        self._transport.sendto(content, self._address)


class _Connection(_Peer):
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, content: bytes) -> None:
        if self._writer.transport.get_write_buffer_size() < _QUEUE:
            self._writer.write(content)
        else:
            self.close()  # it has read nothing for long

    def close(self) -> None:
        self._writer.transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, content: bytes, address: Any) -> None:
        assert self._transport is not None
        self._gateway.receive(content, _Address(self._transport, address))


class _Member:
    """One microcontroller."""

    def __init__(
        self,
        name: str,
        network: Network,
        end: GatewayEnd,
        aggregator: Caller,
        upper: Caller,
        metrics: Metrics,
    ) -> None:
        self._network, self._end, self._metrics = network, end, metrics
        self._peer: _Peer | None = None
        self._tickets: collections.OrderedDict[int, int] = collections.OrderedDict()
        self._aggregator = Link(aggregator, "Aggregator/Attach", reports, Orders, self._obey)
        self._upper = Link(upper, "Upper/Deliver", delivery, Accepted)
        self._number = network.topology.device_names.index(name)
        self.links = (self._aggregator, self._upper)

    def receive(self, content: bytes, peer: _Peer) -> None:
        frame, reply, is_proof = self._end.receive(content)
        if is_proof:
            self._move_to(peer)
        if reply:
            peer.send(reply)
        if frame:
            self._pass_on(frame)

    def forget(self, peer: _Peer) -> None:
        """A connection has ended."""
        if self._peer is peer:
            self._peer = None
            self._end.close()

    def keep_alive(self) -> None:
        """Sends a sign of life, if the device is there."""
        if self._peer is not None and self._end.is_open:
            self._peer.send(self._end.request(Request(ALIVE, 0, 0)))

    def _move_to(self, peer: _Peer) -> None:
        """Speaks to the device where it was heard last."""
        peer.is_proven = True
        if self._peer is not peer:
            old, self._peer = self._peer, peer
            if old is not None:
                old.close()

    def _obey(self, orders: Orders) -> None:
        for verb, senses in ((SENSE, orders.sense), (FEATURES, orders.offload)):
            for sense in senses:
                self._ask(verb, sense)

    def _ask(self, verb: int, sense: Sense) -> None:
        if self._peer is None or not self._end.is_open:
            link = self._aggregator if verb == SENSE else self._upper
            link.send(Payload(ticket=sense.ticket, absent=True))
            return
        number = sense.ticket & 0xFFFFFFFF
        self._tickets[number] = sense.ticket
        while len(self._tickets) > _KEPT:
            self._tickets.popitem(last=False)
        self._peer.send(self._end.request(Request(verb, number, sense.sample)))

    def _pass_on(self, content: bytes) -> None:
        frame = read_frame(content)
        if frame.device != self._number:
            raise ValueError(f"Expected a frame of device {self._number}, but got one of {frame.device}.")
        ticket = self._tickets.get(frame.sample)
        if ticket is None:
            self._metrics.late.inc()
            return
        if frame.kind == FEATURES_FRAME:
            payload = frame.payload
            self._network.features.decode(payload)
            self._metrics.samples.labels("offloaded").inc()
            self._upper.send(Payload(ticket=ticket, content=payload))
            return
        vector = frame.class_vector()
        payload = self._network.class_vector.encode(vector)
        self._network.class_vector.decode(payload)
        self._metrics.samples.labels("sensed").inc()
        self._aggregator.send(Payload(ticket=ticket, content=payload))
