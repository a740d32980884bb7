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
from typing import TYPE_CHECKING, Any

from ddnn_tf.hierarchy import AGGREGATOR, Role
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.channels import Channel, message_limit
from ddnn_tf.runtime.ddnn_v1_pb2 import Delivery, Question, Reading, Reports, Task
from ddnn_tf.runtime.device import Device
from ddnn_tf.runtime.meter import WireMeter
from ddnn_tf.runtime.policy import peers_of
from ddnn_tf.runtime.security import CLIENT, Certificates
from ddnn_tf.runtime.sensors import PushedSensor, Sensor
from ddnn_tf.runtime.served import ServedNetwork
from ddnn_tf.runtime.server import Server
from ddnn_tf.runtime.telemetry import Metrics

if TYPE_CHECKING:
    from ddnn_tf.runtime.aggregator import Aggregator

__all__ = [
    "SUPERVISED",
    "Announce",
    "ProcessConfig",
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
class ProcessConfig:
    """Where a process listens, and whom it trusts.

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
    network: ServedNetwork,
    sensor: Sensor,
    peers: Mapping[str, str],
    config: ProcessConfig,
    metrics: Metrics,
    announce: Announce,
    *,
    engine: str = "tflite",
    shows_images: bool = False,
) -> None:
    """Runs a device until it is asked to end.

    Args:
        name: Its name.
        network: The network.
        sensor: Where its readings come from; it listens if that is a `PushedSensor`.
        peers: Addresses of the processes that it calls (`policy.peers_of`), by name.
        config: Where it listens, and whom it trusts.
        metrics: Its metrics.
        announce: Is told how far it is.
        engine: What its section runs on.
        shows_images: Whether it sends its last image to the dashboard.

    Raises:
        ConnectionError: A peer cannot be reached, or refuses it.
        OSError: The port is in use.
        ValueError: A name or an engine that the network does not have, or a peer without address.
    """
    if name not in network.hierarchy.device_names:
        known = ", ".join(network.hierarchy.device_names)
        raise ValueError(f"Expected a device out of {known}, but got {name!r}.")
    callers = _callers(name, network, peers, config)
    device = Device(name, network, sensor, callers, metrics, engine=engine, shows_images=shows_images)
    server = None
    address = ""
    if isinstance(sensor, PushedSensor):
        server = Server(name, network.fingerprint, metrics, config.certificates)
        server.unary("Sensor/Push", (CLIENT,), Reading, device.push, device.node.sensor.size + _SMALL)
        address = await server.start(config.listen)
    try:
        await _run(server, device.channels, config, address, announce, list(callers.values()))
    finally:
        device.close()


async def serve_aggregator(
    aggregator: Aggregator,
    uppers: Mapping[str, Caller],
    config: ProcessConfig,
    announce: Announce,
) -> None:
    """Runs the aggregator until it is asked to end.

    Args:
        aggregator: What it does.
        uppers: Its ways to the nodes above the devices; they are closed at the end.
        config: Where it listens, and whom it trusts.
        announce: Is told how far it is.

    Raises:
        ConnectionError: A node above refuses it, or cannot be reached.
        OSError: The port is in use.
    """
    network = aggregator.network
    server = Server(AGGREGATOR, network.fingerprint, aggregator.metrics, config.certificates)
    server.unary("Aggregator/Classify", (CLIENT,), Task, aggregator.classify, _SMALL)
    # A class vector, and beside it the last reading for the dashboard.
    size = network.hierarchy.class_vector.size + max(node.sensor.size for node in network.hierarchy.devices)
    devices = network.hierarchy.device_names
    server.stream("Aggregator/Attach", devices, Reports, aggregator.attach, message_limit(size))
    address = await server.start(config.listen)
    await _run(server, (), config, address, announce, list(uppers.values()))


async def serve_upper(
    name: str,
    network: ServedNetwork,
    peers: Mapping[str, str],
    config: ProcessConfig,
    metrics: Metrics,
    announce: Announce,
    *,
    engine: str = "tflite",
    features_wait: float = 0.5,
) -> None:
    """Runs an edge, the cloud, or one of several local aggregators until it is asked to end.

    Args:
        name: Its name.
        network: The network.
        peers: Addresses of the processes that it calls (`policy.peers_of`), by name.
        config: Where it listens, and whom it trusts.
        metrics: Its metrics.
        announce: Is told how far it is.
        engine: What its sections run on.
        features_wait: Seconds to wait for its senders.

    Raises:
        ConnectionError: A peer refuses the edge, or cannot be reached.
        OSError: The port is in use.
        ValueError: The network has no such node, or a peer has no address.
    """
    from ddnn_tf.runtime.upper import Upper

    is_edge = any(node.name == name for node in network.hierarchy.of(Role.EDGE))
    callers = _callers(name, network, peers, config) if is_edge else {}
    upper = Upper(name, network, metrics, engine=engine, callers=callers, wait=features_wait)
    server = Server(name, network.fingerprint, metrics, config.certificates)
    specs = network.policy.specs[name]
    size = max(spec.size for spec in specs.values())
    server.stream("Upper/Deliver", tuple(specs), Delivery, upper.open, message_limit(size))
    server.unary("Upper/Decide", network.policy.askers[name], Question, upper.decide, _SMALL)
    if is_edge:
        server.unary("Upper/Forward", (AGGREGATOR,), Question, upper.forward, _SMALL)
    address = await server.start(config.listen)
    channels = list(upper.channels.values())
    try:
        await _run(server, channels, config, address, announce, list(callers.values()))
    finally:
        upper.close()


async def serve_gateway(
    network: ServedNetwork,
    keys: Mapping[str, bytes],
    peers: Mapping[str, str],
    config: ProcessConfig,
    metrics: Metrics,
    announce: Announce,
) -> None:
    """Runs a gateway for microcontrollers until it is asked to end.

    Args:
        network: The network.
        keys: The key of each device behind it, by name.
        peers: Addresses of the processes that its devices call (`policy.peers_of`), by name.
        config: Where it listens (for UDP and TCP), and whom it trusts.
        metrics: Its metrics.
        announce: Is told how far it is.

    Raises:
        ConnectionError: A peer cannot be reached, or refuses it.
        OSError: The port is in use.
        ValueError: A peer without address, or a device that sends no bits.
    """
    from ddnn_tf.runtime.gateway import Gateway

    callers = {name: _callers(name, network, peers, config) for name in keys}
    gateway = Gateway(network, keys, callers, metrics)
    address = await gateway.start(config.listen)
    everybody = [caller for group in callers.values() for caller in group.values()]
    try:
        await _run(None, gateway.channels, config, address, announce, everybody)
    finally:
        await gateway.stop()


def _callers(
    name: str, network: ServedNetwork, peers: Mapping[str, str], config: ProcessConfig
) -> dict[str, Caller]:
    """The ways of a process to those that it calls."""
    called = peers_of(network.hierarchy, name)
    for peer in called:
        if peer not in peers:
            raise ValueError(f"Expected the address of {peer}, which {name} calls, but got none.")
    return {
        peer: Caller(name, peer, peers[peer], config.certificates, network.fingerprint) for peer in called
    }


async def _run(
    server: Server | None,
    channels: Sequence[Channel],
    config: ProcessConfig,
    address: str,
    announce: Announce,
    callers: Sequence[Caller],
) -> None:
    """Keeps channels open until SIGTERM or SIGINT; then lets running samples end, and closes all."""
    tasks = [asyncio.ensure_future(channel.run()) for channel in channels]
    reached = asyncio.ensure_future(_reach(channels, callers, config.wait))
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
                await server.stop(config.grace)
    except BaseException:
        if server is not None:
            await server.stop(0)
        raise
    finally:
        everything: list[asyncio.Future[None]] = [reached, *tasks]
        for ending in everything:
            ending.cancel()
        ended, _ = await asyncio.wait(everything, timeout=_LAST)
        for done_task in ended:
            if not done_task.cancelled():
                done_task.exception()  # told already, or of no more interest
        for caller in callers:
            await caller.close()


async def _reach(channels: Sequence[Channel], callers: Sequence[Caller], timeout: float) -> None:
    """Waits until every peer has been reached once: over its stream, or else by asking its health."""
    if channels:
        await asyncio.gather(*(channel.ready(timeout) for channel in channels))
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
