"""An end device: senses, runs its section, and sends what it is asked for.

It opens a stream to its aggregator and one to the tier above, and is ordered over the first: to sense a
sample, for which it sends its class vector; or to offload one, for which it sends its feature map up.
It listens only if a client pushes images to it.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable

import grpc
import numpy as np
from numpy.typing import NDArray

from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.ddnn_v1_pb2 import (
    Accepted,
    Delivery,
    Image,
    Orders,
    Payload,
    Reports,
    Sense,
)
from ddnn_tf.runtime.links import Link
from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.sensors import PushedSensor, Sensor
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Device", "delivery", "reports"]

_KEPT = 4096
_log = logging.getLogger(__name__)
_PUSH_WAIT = 5.0
_WAITING = 1024  # samples whose images a client has not pushed yet


class Device:
    """One end device.

    Args:
        name: `device_0`, ...
        network: The network.
        sensor: Where its images come from.
        aggregator: The way to the local aggregator.
        upper: The way to its edge, or to the cloud.
        metrics: Its metrics.
        engine: What its section runs on.
        shows_images: Whether its last image is sent to the aggregator's dashboard when that asks.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        sensor: Sensor,
        aggregator: Caller,
        upper: Caller,
        metrics: Metrics,
        *,
        engine: str = "tflite",
        shows_images: bool = False,
    ) -> None:
        self.name, self._network, self._sensor, self._metrics = name, network, sensor, metrics
        self._run = network.runner(name, engine) if network.has_local else None
        self._features: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._aggregator = Link(aggregator, "Aggregator/Attach", reports, Orders, self._obey)
        self._upper = Link(upper, "Upper/Deliver", delivery, Accepted)
        self._shows_images, self._last = shows_images, b""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def links(self) -> tuple[Link, Link]:
        """Its streams to the aggregator and to the tier above."""
        return self._aggregator, self._upper

    def close(self) -> None:
        """Waits for no more images."""
        for task in list(self._tasks):
            task.cancel()

    async def push(self, _: str, image: Image, __: float | None) -> Accepted:
        """Takes an image that a client pushes.

        Raises:
            RefusalError: An image of another size, or a device with a sensor of its own.
        """
        if not isinstance(self._sensor, PushedSensor):
            raise RefusalError(
                grpc.StatusCode.FAILED_PRECONDITION, "sensor", f"{self.name} has a sensor of its own."
            )
        codec = self._network.image
        if len(image.pixels) != codec.size:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "shape",
                f"Expected an image of {codec.size} bytes for {codec.shape}, but got {len(image.pixels)}.",
            )
        pixels = np.frombuffer(image.pixels, np.uint8).reshape(codec.shape)
        await self._sensor.push(image.sample, pixels)
        return Accepted()

    def _obey(self, orders: Orders) -> None:
        for sense in orders.sense:
            self._with_image(sense, self._report)
        for sense in orders.offload:
            known = self._features.pop(sense.ticket, None)
            if known is not None:
                self._offload(sense.ticket, known)
            else:
                self._with_image(sense, self._sense_and_offload)
        if orders.preview and self._shows_images and self._last:
            self._aggregator.send(self._last)

    def _with_image(self, sense: Sense, then: Callable[[int, NDArray[np.uint8] | None], None]) -> None:
        """Goes on with the image, at once if it is there."""
        image = self._sensor.image(sense.sample)
        if image is not None or not isinstance(self._sensor, PushedSensor):
            then(sense.ticket, image)
            return
        sensor = self._sensor
        if len(self._tasks) >= _WAITING:
            then(sense.ticket, None)
            return

        async def later() -> None:
            try:
                then(sense.ticket, await sensor.wait(sense.sample, _PUSH_WAIT))
            except Exception:
                _log.exception("a sample could not be dealt with")

        task = asyncio.ensure_future(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _report(self, ticket: int, image: NDArray[np.uint8] | None) -> None:
        if image is None:
            self._metrics.samples.labels("no_image").inc()
            self._aggregator.send(Payload(ticket=ticket, absent=True))
            return
        vector, features = self._infer(image)
        self._features[ticket] = features
        while len(self._features) > _KEPT:
            self._features.popitem(last=False)
        self._aggregator.send(Payload(ticket=ticket, content=vector))

    def _sense_and_offload(self, ticket: int, image: NDArray[np.uint8] | None) -> None:
        self._offload(ticket, None if image is None else self._infer(image)[1])

    def _infer(self, image: NDArray[np.uint8]) -> tuple[bytes, bytes]:
        """Payloads of class vector and feature map; a device without blocks has its image only."""
        self._metrics.samples.labels("sensed").inc()
        if self._shows_images:
            self._last = image.tobytes()
        if self._run is None:
            return b"", self._network.image.encode(image)
        found = self._run({self.name: image[None].astype(np.float32)})
        return (
            self._network.class_vector.encode(found["class_vector"][0]),
            self._network.features.encode(found["features"][0]),
        )

    def _offload(self, ticket: int, features: bytes | None) -> None:
        self._metrics.samples.labels("offloaded").inc()
        content, absent = features or b"", features is None
        self._upper.send(Payload(ticket=ticket, content=content, absent=absent))


def reports(items: list[Payload | bytes]) -> Reports:
    """What a device tells its aggregator: class vectors, and the last image as plain bytes."""
    previews = [item for item in items if isinstance(item, bytes)]
    return Reports(
        vectors=[item for item in items if not isinstance(item, bytes)],
        preview=previews[-1] if previews else b"",
    )


def delivery(items: list[Payload]) -> Delivery:
    """What a device or edge sends one tier up."""
    return Delivery(maps=items)
