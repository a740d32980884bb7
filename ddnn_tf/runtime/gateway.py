"""A gateway for microcontrollers that speak no gRPC: their framed messages over UDP or TCP.

Towards the other processes the gateway is each of its devices, with a certificate that carries their names;
towards a device it speaks the envelopes of `envelope`, with a key for each. A device that is not there is
reported absent at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddnn_tf.frames import FEATURES as FEATURES_FRAME
from ddnn_tf.frames import read_frame
from ddnn_tf.runtime.bounded import Bounded
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.channels import Channel, within
from ddnn_tf.runtime.ddnn_v1_pb2 import Sense
from ddnn_tf.runtime.device import Orderly
from ddnn_tf.runtime.envelope import ALIVE, FEATURES, KEY_BYTES, SENSE, GatewayEnd, Request, length_of
from ddnn_tf.runtime.security import host_and_port, joined
from ddnn_tf.runtime.served import ServedNetwork
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Gateway", "read_keys"]

_KEPT = 4096
_CONNECTIONS = 256
_GREETING = 5.0  # seconds for a connection's first genuine message
_QUEUE = 1 << 20  # bytes that wait for a device that does not read
_START = 16
_ALIVE_PAUSE = 10.0
_log = logging.getLogger(__name__)


def read_keys(path: str | Path, network: ServedNetwork) -> dict[str, bytes]:
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
        if name not in network.hierarchy.device_names:
            raise ValueError(f"'{place}' has a key for {name!r}, which is no device of the network.")
        if len(key) != KEY_BYTES:
            raise ValueError(f"'{place}': the key of {name} has {len(key)} bytes, expected {KEY_BYTES}.")
    return keys


class Gateway:
    """Speaks for microcontrollers.

    Args:
        network: The network.
        keys: The key of each device behind it, by name.
        callers: Each device's ways to its peers (`policy.peers_of`), by name of the device and the peer.
        metrics: Its metrics.

    Raises:
        ValueError: A device that sends no class vector, or no bits.
    """

    def __init__(
        self,
        network: ServedNetwork,
        keys: Mapping[str, bytes],
        callers: Mapping[str, Mapping[str, Caller]],
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        devices = [_Microcontroller(name, network, key, callers[name], metrics) for name, key in keys.items()]
        self._devices = {device.number: device for device in devices}
        self._connections: set[asyncio.Task[Any]] = set()
        self._alive: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None

    @property
    def channels(self) -> list[Channel]:
        """The streams of all its devices."""
        return [channel for device in self._devices.values() for channel in device.channels]

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
            device = self._devices.get(int.from_bytes(content[4:6], "little"))
            if device is None:
                raise ValueError("The envelope is of an unknown device.")
            device.receive(content, peer)
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
            for device in self._devices.values():
                device.forget(peer)
            writer.close()

    async def _keep_alive(self) -> None:
        """Lets devices know that the gateway is there, and their connections that they are in use."""
        while True:
            await asyncio.sleep(_ALIVE_PAUSE)
            for device in self._devices.values():
                device.keep_alive()


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


class _Microcontroller(Orderly):
    """One device behind the gateway; its orders go on to it as requests."""

    def __init__(
        self,
        name: str,
        network: ServedNetwork,
        key: bytes,
        callers: Mapping[str, Caller],
        metrics: Metrics,
    ) -> None:
        super().__init__(name, network, callers, metrics)
        node = self.node
        if node.class_vector is None or node.output is None or node.output.kind != "bits":
            raise ValueError(
                f"Expected a device that sends a class vector and bits, but '{name}' does not: frames carry "
                "nothing else."
            )
        self._vector, self._output = node.class_vector, node.output
        self.number = network.hierarchy.device_names.index(name)
        self._end = GatewayEnd(self.number, key)
        self._peer: _Peer | None = None
        self._tickets: Bounded[int, int] = Bounded(_KEPT)

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

    def sense(self, order: Sense) -> None:
        """Requests the class vector; says that there is none if the device is not there."""
        if not self._request(SENSE, order):
            self.send_vector(order.ticket, None)

    def offload(self, order: Sense) -> None:
        """Requests the feature map; says that there is none if the device is not there."""
        if not self._request(FEATURES, order):
            self.send_features(order.ticket, None)

    def show(self) -> None:
        """Its images stay on the device."""

    def _request(self, verb: int, order: Sense) -> bool:
        if self._peer is None or not self._end.is_open:
            return False
        number = order.ticket & 0xFFFFFFFF
        self._tickets[number] = order.ticket
        self._peer.send(self._end.request(Request(verb, number, order.sample)))
        return True

    def _pass_on(self, content: bytes) -> None:
        frame = read_frame(content)
        if frame.device != self.number:
            raise ValueError(f"Expected a frame of device {self.number}, but got one of {frame.device}.")
        ticket = self._tickets.get(frame.sample)
        if ticket is None:
            self.metrics.late.inc()
            return
        # A frame may hold any numbers: decoding refuses those that no network gives.
        if frame.kind == FEATURES_FRAME:
            self._output.decode(frame.payload)
            self.metrics.samples.labels("offloaded").inc()
            self.send_features(ticket, frame.payload)
            return
        vector = self._vector.encode(frame.class_vector())
        self._vector.decode(vector)
        self.metrics.samples.labels("sensed").inc()
        self.send_vector(ticket, vector)
