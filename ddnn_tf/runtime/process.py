"""One process of the hierarchy, from its start to its orderly end.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.ddnn_v1_pb2 import Delivery, Image, Question, Reports, Task
from ddnn_tf.runtime.device import Device
from ddnn_tf.runtime.links import Link, message_limit
from ddnn_tf.runtime.meter import WireMeter
from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.security import CLIENT, Certificates
from ddnn_tf.runtime.sensors import PushedSensor, Sensor
from ddnn_tf.runtime.server import Server
from ddnn_tf.runtime.telemetry import Metrics

__all__ = [
    "SUPERVISED",
    "Announce",
    "Place",
    "serve_aggregator",
    "serve_device",
    "serve_gateway",
    "serve_upper",
]

SUPERVISED = "DDNN_SUPERVISED"
"""Environment variable of the processes of a local cluster."""

_GRACE = 5.0
_LAST = 2.0
_SMALL = 1 << 16
_log = logging.getLogger(__name__)

Announce = Callable[[str, Any], None]
"""Is told `listening` with the address, if the process has one; `ready`, once its peers are reached; and
`wire` with the bytes sent to and received from each peer, when asked by SIGUSR1."""


@dataclass(frozen=True)
class Place:
    """Where a process stands, and whom it trusts.

    Attributes:
        listen: `host:port` to listen at; port 0 takes a free one.
        certificates: For mutual TLS; None: plaintext, on loopback only.
        wait: Seconds within which its peers must be reached at the start.
        grace: Seconds for running samples when it is asked to end.
    """

    listen: str = "127.0.0.1:0"
    certificates: Certificates | None = None
    wait: float = 10.0
    grace: float = _GRACE


async def serve_device(
    name: str,
    network: Network,
    sensor: Sensor,
    aggregator: str,
    upper: str,
    place: Place,
    metrics: Metrics,
    announce: Announce,
    *,
    engine: str = "tflite",
    shows_images: bool = False,
) -> None:
    """Runs a device until it is asked to end.

    Args:
        name: `device_0`, ...
        network: The network.
        sensor: Where its images come from; it listens if that is a `PushedSensor`.
        aggregator: Address of the aggregator.
        upper: Address of its edge, or of the cloud.
        place: Where it stands.
        metrics: Its metrics.
        announce: Is told how far it is.
        engine: What its section runs on.
        shows_images: Whether it sends its last image to the dashboard.

    Raises:
        ConnectionError: A peer cannot be reached, or refuses it.
        OSError: The port is in use.
        ValueError: A name or an engine that the network does not have.
    """
    if name not in network.topology.device_names:
        known = ", ".join(network.topology.device_names)
        raise ValueError(f"Expected a device out of {known}, but got {name!r}.")
    below = _caller(name, "aggregator", aggregator, place, network)
    above = _caller(name, network.upper_of(name), upper, place, network)
    device = Device(name, network, sensor, below, above, metrics, engine=engine, shows_images=shows_images)
    server = None
    address = ""
    if isinstance(sensor, PushedSensor):
        server = Server(name, network.fingerprint, metrics, place.certificates)
        server.unary("Sensor/Push", (CLIENT,), Image, device.push, network.image.size + _SMALL)
        address = await server.start(place.listen)
    try:
        await _run(server, device.links, place, address, announce, [below, above])
    finally:
        device.close()


async def serve_aggregator(
    aggregator: Aggregator,
    uppers: Mapping[str, Caller],
    place: Place,
    announce: Announce,
) -> None:
    """Runs the aggregator until it is asked to end.

    Args:
        aggregator: What it does.
        uppers: Its ways to edges and cloud; they are closed at the end.
        place: Where it stands.
        announce: Is told how far it is.

    Raises:
        ConnectionError: A tier above refuses it, or cannot be reached.
        OSError: The port is in use.
    """
    network = aggregator.network
    server = Server("aggregator", network.fingerprint, aggregator.metrics, place.certificates)
    server.unary("Aggregator/Classify", (CLIENT,), Task, aggregator.classify, _SMALL)
    limit = message_limit(network.class_vector.size) + network.image.size
    devices = network.topology.device_names
    server.stream("Aggregator/Attach", devices, Reports, aggregator.attach, limit)
    address = await server.start(place.listen)
    await _run(server, (), place, address, announce, list(uppers.values()))


async def serve_upper(
    name: str,
    network: Network,
    cloud: str | None,
    place: Place,
    metrics: Metrics,
    announce: Announce,
    *,
    engine: str = "tflite",
    features_wait: float = 0.5,
) -> None:
    """Runs an edge or the cloud until it is asked to end.

    Args:
        name: `edge_0`, ..., or `cloud`.
        network: The network.
        cloud: An edge's address of the cloud.
        place: Where it stands.
        metrics: Its metrics.
        announce: Is told how far it is.
        engine: What its section runs on.
        features_wait: Seconds to wait for feature maps.

    Raises:
        ConnectionError: The cloud refuses the edge, or cannot be reached.
        OSError: The port is in use.
        ValueError: The network has no such section.
    """
    from ddnn_tf.runtime.upper import Upper

    above = None if cloud is None else _caller(name, "cloud", cloud, place, network)
    upper = Upper(name, network, metrics, engine=engine, cloud=above, wait=features_wait)
    server = Server(name, network.fingerprint, metrics, place.certificates)
    senders = network.senders(name)
    size = max(network.codec_to(name, sender).size for sender in senders)
    server.stream("Upper/Deliver", senders, Delivery, upper.open, message_limit(size))
    asking: tuple[str, ...] = ("aggregator",)
    if name == "cloud" and len(network.topology.edges) == 1:
        asking += network.topology.edge_names
    server.unary("Upper/Decide", asking, Question, upper.decide, _SMALL)
    if above is not None:
        server.unary("Upper/Forward", ("aggregator",), Question, upper.forward, _SMALL)
    address = await server.start(place.listen)
    links = () if upper.link is None else (upper.link,)
    try:
        await _run(server, links, place, address, announce, [] if above is None else [above])
    finally:
        upper.close()


async def serve_gateway(
    network: Network,
    keys: Mapping[str, bytes],
    aggregator: str,
    uppers: Mapping[str, str],
    place: Place,
    metrics: Metrics,
    announce: Announce,
) -> None:
    """Runs a gateway for microcontrollers until it is asked to end.

    Args:
        network: The network.
        keys: The key of each device behind it, by name.
        aggregator: Address of the aggregator.
        uppers: Address of edges and cloud, by name.
        place: Where it stands; it listens for UDP and TCP.
        metrics: Its metrics.
        announce: Is told how far it is.

    Raises:
        ConnectionError: A peer cannot be reached, or refuses it.
        OSError: The port is in use.
    """
    from ddnn_tf.runtime.gateway import Gateway

    below = {name: _caller(name, "aggregator", aggregator, place, network) for name in keys}
    above = {}
    for name in keys:
        peer = network.upper_of(name)
        above[name] = _caller(name, peer, uppers[peer], place, network)
    gateway = Gateway(network, keys, below, above, metrics)
    address = await gateway.start(place.listen)
    try:
        await _run(None, gateway.links, place, address, announce, [*below.values(), *above.values()])
    finally:
        await gateway.stop()


def _caller(name: str, peer: str, address: str, place: Place, network: Network) -> Caller:
    return Caller(name, peer, address, place.certificates, network.fingerprint)


async def _run(
    server: Server | None,
    links: Sequence[Link],
    place: Place,
    address: str,
    announce: Announce,
    callers: Sequence[Caller],
) -> None:
    """Keeps links open until SIGTERM or SIGINT; then lets running samples end, and closes all."""
    tasks = [asyncio.ensure_future(link.run()) for link in links]
    reached = asyncio.ensure_future(_reach(links, callers, place.wait))
    asked = asyncio.Event()
    try:
        meter = WireMeter({caller.peer: caller.address for caller in callers})
        with _signals(asked, lambda: announce("wire", meter.read())):
            if address:
                announce("listening", address)
            stop = asyncio.ensure_future(asked.wait())
            waited: set[asyncio.Future[Any]] = {stop, reached, *tasks}
            while not asked.is_set():
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                waited -= done
                for task in done:
                    task.result()
                if reached in done:
                    announce("ready", address)
            stop.cancel()
            _log.info("draining")
            if server is not None:
                await server.stop(place.grace)
    except BaseException:
        if server is not None:
            await server.stop(0)
        raise
    finally:
        everything: list[asyncio.Future[None]] = [reached, *tasks]
        for one in everything:
            one.cancel()
        ended, _ = await asyncio.wait(everything, timeout=_LAST)
        for one in ended:
            if not one.cancelled():
                one.exception()  # told already, or of no more interest
        for caller in callers:
            await caller.close()


async def _reach(links: Sequence[Link], callers: Sequence[Caller], timeout: float) -> None:
    """Waits until every peer has been reached once: over its stream, or else by asking its health."""
    if links:
        await asyncio.gather(*(link.ready(timeout) for link in links))
    else:
        await asyncio.gather(*(caller.reach(timeout) for caller in callers))


def _at_its_end(asked: asyncio.Event) -> None:
    """Sets the event if standard input has ended."""
    if not os.read(sys.stdin.fileno(), 1):
        asked.set()


@contextlib.contextmanager
def _signals(asked: asyncio.Event, tell: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT set the event; SIGUSR1 makes the process tell what went over its connections.

    In a cluster the end of standard input sets it too: then the cluster itself has ended. In another
    thread than the main one there are no signals: there, cancel the task.
    """
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    actions = {signal.SIGTERM: asked.set, signal.SIGINT: asked.set, signal.SIGUSR1: tell}
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    is_supervised = SUPERVISED in os.environ
    if is_supervised:
        loop.add_reader(sys.stdin, _at_its_end, asked)
    try:
        yield
    finally:
        if is_supervised:
            loop.remove_reader(sys.stdin)
        for number in actions:
            loop.remove_signal_handler(number)
