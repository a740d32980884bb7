"""An end device: senses, runs its section, and sends what it is asked for.

It opens a stream to the aggregator, over which it gets its orders: to sense a sample, for which it sends its
class vector to its local aggregator; or to offload one, for which it sends its feature map to its receiver.
It listens only if a client pushes readings to it.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Callable, Mapping

import grpc
import numpy as np
from numpy.typing import NDArray

from ddnn_tf.hierarchy import AGGREGATOR, Node
from ddnn_tf.runtime.bounded import Bounded
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.channels import Channel
from ddnn_tf.runtime.ddnn_v1_pb2 import Accepted, Delivery, Orders, Payload, Reading, Reports, Sense
from ddnn_tf.runtime.sensors import PushedSensor, Sensor, is_image
from ddnn_tf.runtime.served import ServedNetwork
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Device", "Orderly", "delivery", "reports"]

_KEPT = 4096
_log = logging.getLogger(__name__)
_PUSH_WAIT = 5.0
_WAITING = 1024  # samples whose readings a client has not pushed yet


class Orderly(abc.ABC):
    """What takes a device's orders and speaks for it: the device itself, or a gateway.

    Args:
        name: Name of the device.
        network: The network.
        callers: The ways to its peers (`policy.peers_of`), by name.
        metrics: Metrics of the process.
    """

    def __init__(
        self, name: str, network: ServedNetwork, callers: Mapping[str, Caller], metrics: Metrics
    ) -> None:
        self.node: Node = network.hierarchy[name]
        assert self.node.receiver is not None
        self.metrics = metrics
        self._attached = Channel(callers[AGGREGATOR], "Aggregator/Attach", reports, Orders, self._obey)
        self._upper = Channel(callers[self.node.receiver], "Upper/Deliver", delivery, Accepted)
        self._local = self._attached
        self.channels = [self._attached, self._upper]
        """Its streams to the aggregator, to its receiver (and past it), and to a local aggregator in another
        process."""
        self._past: Channel | None = None
        if self.node.skip_receiver is not None:
            self._past = Channel(callers[self.node.skip_receiver], "Upper/Deliver", delivery, Accepted)
            self.channels.append(self._past)
        self._sent: Bounded[int, bytes] = Bounded(_KEPT)  # to the receiver, which may prove to be down
        self._to_skip: Bounded[int, bool] = Bounded(_KEPT)
        if self.node.aggregator is not None and self.node.aggregator in callers:
            self._local = Channel(callers[self.node.aggregator], "Upper/Deliver", delivery, Accepted)
            self.channels.append(self._local)

    @abc.abstractmethod
    def sense(self, order: Sense) -> None:
        """Sees to it that the class vector of a sample is sent."""

    @abc.abstractmethod
    def offload(self, order: Sense) -> None:
        """Sees to it that the feature map of a sample is sent."""

    @abc.abstractmethod
    def show(self) -> None:
        """Sends its last image to the dashboard, if it has any."""

    def send_vector(self, ticket: int, vector: bytes | None) -> None:
        """Sends a class vector; None says that there is none."""
        self._local.send(Payload(ticket=ticket, content=vector or b"", absent=vector is None))

    def send_features(self, ticket: int, features: bytes | None) -> None:
        """Sends a feature map, past the receiver if that was ordered; None says that there is none."""
        channel = self._upper
        if self._past is not None:
            if self._to_skip.pop(ticket, False):
                channel = self._past
            elif features is not None:
                self._sent[ticket] = features
        channel.send(Payload(ticket=ticket, content=features or b"", absent=features is None))

    def _obey(self, orders: Orders) -> None:
        for order in orders.sense:
            self.sense(order)
        for order in orders.offload:
            self.offload(order)
        for order in orders.skip:
            self._skip(order)
        if orders.preview:
            self.show()

    def _skip(self, order: Sense) -> None:
        """Sends past the receiver what it has sent there, or else what it has yet to send."""
        self._to_skip[order.ticket] = True
        features = self._sent.pop(order.ticket, None)
        if features is not None:
            self.send_features(order.ticket, features)
        else:
            self.offload(order)


class Device(Orderly):
    """One end device.

    Args:
        name: Its name.
        network: The network.
        sensor: Where its readings come from.
        callers: The ways to its peers (`policy.peers_of`), by name.
        metrics: Its metrics.
        engine: What its section runs on.
        shows_images: Whether its last image is sent to the aggregator's dashboard when that asks.
    """

    def __init__(
        self,
        name: str,
        network: ServedNetwork,
        sensor: Sensor,
        callers: Mapping[str, Caller],
        metrics: Metrics,
        *,
        engine: str = "tflite",
        shows_images: bool = False,
    ) -> None:
        super().__init__(name, network, callers, metrics)
        self._sensor = sensor
        self._run = network.runner(name, engine) if self.node.has_section else None
        self._features: Bounded[int, bytes] = Bounded(_KEPT)
        self._shows_images, self._last = shows_images and is_image(self.node), b""
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Stops waiting for pushed readings."""
        for task in list(self._tasks):
            task.cancel()

    async def push(self, _: str, reading: Reading, __: float | None) -> Accepted:
        """Takes a reading that a client pushes.

        Raises:
            RefusalError: A reading of another size, or a device with a sensor of its own.
        """
        if not isinstance(self._sensor, PushedSensor):
            raise RefusalError(
                grpc.StatusCode.FAILED_PRECONDITION, "sensor", f"{self.node.name} has a sensor of its own."
            )
        spec = self.node.sensor
        if len(reading.codes) != spec.size:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "shape",
                f"Expected a reading of {spec.size} bytes for {spec.shape}, but got {len(reading.codes)}.",
            )
        codes = np.frombuffer(reading.codes, np.uint8).reshape(spec.shape)
        await self._sensor.push(reading.sample, codes)
        return Accepted()

    def sense(self, order: Sense) -> None:
        """Sends the class vector as soon as the reading is there, and keeps the feature map."""
        self._with_codes(order, self._report)

    def offload(self, order: Sense) -> None:
        """Sends the feature map that it has kept, or computes it."""
        features = self._features.pop(order.ticket, None)
        if features is not None:
            self._offload(order.ticket, features)
        else:
            self._with_codes(order, self._compute_and_offload)

    def show(self) -> None:
        """Sends its last image."""
        if self._last:
            self._attached.send(self._last)

    def _with_codes(self, order: Sense, then: Callable[[int, NDArray[np.uint8] | None], None]) -> None:
        """Continues with the reading of a sample: at once if it is there, else when a client pushes it."""
        codes = self._sensor.read(order.sample)
        sensor = self._sensor
        if codes is not None or not isinstance(sensor, PushedSensor) or len(self._tasks) >= _WAITING:
            then(order.ticket, codes)
            return

        async def later() -> None:
            try:
                then(order.ticket, await sensor.wait(order.sample, _PUSH_WAIT))
            except Exception:
                _log.exception("a sample could not be dealt with")

        task = asyncio.ensure_future(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _report(self, ticket: int, codes: NDArray[np.uint8] | None) -> None:
        if codes is None:
            self.metrics.samples.labels("no_reading").inc()
            self.send_vector(ticket, None)
            return
        vector, self._features[ticket] = self._infer(codes)
        self.send_vector(ticket, vector)

    def _compute_and_offload(self, ticket: int, codes: NDArray[np.uint8] | None) -> None:
        self._offload(ticket, None if codes is None else self._infer(codes)[1])

    def _infer(self, codes: NDArray[np.uint8]) -> tuple[bytes, bytes]:
        """Payloads of class vector and feature map; a device without blocks sends its reading."""
        self.metrics.samples.labels("sensed").inc()
        if self._shows_images:
            self._last = codes.tobytes()
        node = self.node
        if self._run is None:
            return b"", node.sensor.encode(codes)
        assert node.output is not None
        outputs = self._run({node.name: codes[None].astype(np.float32)})
        vector = b"" if node.class_vector is None else node.class_vector.encode(outputs["class_vector"][0])
        return vector, node.output.encode(outputs["features"][0])

    def _offload(self, ticket: int, features: bytes | None) -> None:
        self.metrics.samples.labels("offloaded").inc()
        self.send_features(ticket, features)


def reports(items: list[Payload | bytes]) -> Reports:
    """What a device tells the aggregator: class vectors, and the last image as plain bytes."""
    previews = [item for item in items if isinstance(item, bytes)]
    return Reports(
        vectors=[item for item in items if not isinstance(item, bytes)],
        preview=previews[-1] if previews else b"",
    )


def delivery(items: list[Payload]) -> Delivery:
    """What a device or edge delivers to an upper."""
    return Delivery(maps=items)
