"""Asking a running hierarchy: `Client` for threads, `AsyncClient` for asyncio.

>>> with Client("127.0.0.1:7000", certificates=Certificates.read("certs", "client")) as client:
...     answer = client.classify(17)
>>> answer.label, answer.exit, answer.entropies
(0, 'local', {'local': 0.12})

A call that fails because the aggregator is out of reach is repeated within its deadline; to classify a
sample twice does no harm, and only one answer is given.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddnn_tf.runtime import ddnn_v1_pb2 as messages
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.security import CLIENT, Certificates

__all__ = ["Answer", "AsyncClient", "ClassificationError", "Client"]

_CLASSIFY, _PUSH = "/ddnn.v1.Aggregator/Classify", "/ddnn.v1.Sensor/Push"
_FIRST_PAUSE = 0.05


class ClassificationError(Exception):
    """A sample that got no answer within its deadline.

    Attributes:
        code: The gRPC status, e.g. `unavailable` or `deadline_exceeded`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Answer:
    """What the hierarchy answers to one sample.

    Attributes:
        ticket: The aggregator's number for this classification; never given twice.
        label: The class.
        probabilities: Of every class, `(classes,)`.
        exit: Where the sample left: `local`, `edge` or `cloud`.
        entropies: Normalized entropy at each tier that was reached.
        devices: Who took part at each tier: devices, or edges.
        payload_bytes: Payload bytes sent on each link, as in Eq. (1).
        seconds: Time spent at each tier, from the moment that it was asked.
        degraded: A tier above did not answer, so a lower one did.
        reason: Why it is degraded; empty if it is not.
        total_seconds: From the aggregator's receiving the question to its answer.
    """

    ticket: int
    label: int
    probabilities: tuple[float, ...]
    exit: str
    entropies: Mapping[str, float]
    devices: Mapping[str, tuple[str, ...]]
    payload_bytes: Mapping[str, int]
    seconds: Mapping[str, float]
    degraded: bool
    reason: str
    total_seconds: float


class AsyncClient:
    """Classifies over asyncio; used with `async with`, or closed by hand.

    Args:
        address: Of the aggregator, `host:port`.
        certificates: For mutual TLS; None: plaintext, on loopback only.
        devices: Address of each device that images are pushed to, by its name.

    Raises:
        ValueError: Plaintext to an address that is not loopback.
    """

    def __init__(
        self,
        address: str,
        *,
        certificates: Certificates | None = None,
        devices: Mapping[str, str] | None = None,
    ) -> None:
        self._aggregator = Caller(CLIENT, "aggregator", address, certificates)
        self._devices = {
            name: Caller(CLIENT, name, place, certificates) for name, place in (devices or {}).items()
        }

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        for caller in (self._aggregator, *self._devices.values()):
            await caller.close()

    async def classify(self, sample: int, *, label: int | None = None, timeout: float = 10.0) -> Answer:
        """Classifies the sample of this number, as the devices' sensors have it.

        Args:
            sample: Its number.
            label: Its class, if known, for the accuracy on the dashboard.
            timeout: Seconds until the answer must be there.

        Raises:
            ClassificationError: It got none.
        """
        content = _task(sample, label)
        end = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        method: Any = self._aggregator.channel.unary_unary(_CLASSIFY)
        while True:
            try:
                left = max(0.001, end - time.monotonic())
                return _answer(await method(content, timeout=left, metadata=self._aggregator.metadata))
            except grpc.aio.AioRpcError as error:
                pause = _pause(error, pause, end)
                await asyncio.sleep(pause)

    async def push(self, device: str, sample: int, image: ArrayLike, *, timeout: float = 10.0) -> None:
        """Gives a device an image `(height, width, channels)`, whole numbers 0..255.

        Raises:
            ClassificationError: The device did not take it.
            ValueError: An unknown device, or no image.
        """
        caller = _device(self._devices, device)
        message = messages.Image(sample=sample, pixels=_pixels(image).tobytes())
        try:
            await caller.call("Sensor/Push", message, messages.Accepted, timeout)
        except grpc.aio.AioRpcError as error:
            raise _failed(error, caller) from None


class Client:
    """Classifies from threads, of which any number may share it; used with `with`, or closed by hand.

    Args: as of `AsyncClient`.
    """

    def __init__(
        self,
        address: str,
        *,
        certificates: Certificates | None = None,
        devices: Mapping[str, str] | None = None,
    ) -> None:
        self._aggregator = Caller(CLIENT, "aggregator", address, certificates)
        self._channel = self._aggregator.sync_channel()
        self._devices = {
            name: Caller(CLIENT, name, place, certificates) for name, place in (devices or {}).items()
        }
        self._device_channels = {name: caller.sync_channel() for name, caller in self._devices.items()}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        for channel in (self._channel, *self._device_channels.values()):
            channel.close()

    def classify(self, sample: int, *, label: int | None = None, timeout: float = 10.0) -> Answer:
        """As `AsyncClient.classify`."""
        content = _task(sample, label)
        end = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        method: Any = self._channel.unary_unary(_CLASSIFY)
        while True:
            try:
                left = max(0.001, end - time.monotonic())
                return _answer(method(content, timeout=left, metadata=self._aggregator.metadata))
            except grpc.RpcError as error:
                pause = _pause(error, pause, end)
                time.sleep(pause)

    def push(self, device: str, sample: int, image: ArrayLike, *, timeout: float = 10.0) -> None:
        """As `AsyncClient.push`."""
        caller = _device(self._devices, device)
        method: Any = self._device_channels[device].unary_unary(_PUSH)
        content = messages.Image(sample=sample, pixels=_pixels(image).tobytes()).SerializeToString()
        try:
            method(content, timeout=timeout, metadata=caller.metadata)
        except grpc.RpcError as error:
            raise _failed(error, caller) from None


def _task(sample: int, label: int | None) -> bytes:
    if not 0 <= sample < 1 << 32:
        raise ValueError(f"Expected `sample` between 0 and 2^32 - 1, but got {sample}.")
    return messages.Task(sample=sample, label=label).SerializeToString()


def _answer(content: bytes) -> Answer:
    found = messages.Answer.FromString(content)
    return Answer(
        ticket=found.ticket,
        label=found.label,
        probabilities=tuple(found.probabilities),
        exit=found.exit,
        entropies={tier.tier: tier.entropy for tier in found.tiers},
        devices={tier.tier: tuple(tier.devices) for tier in found.tiers},
        payload_bytes={link.link: link.payload for link in found.links},
        seconds={tier.tier: tier.seconds for tier in found.tiers},
        degraded=found.degraded,
        reason=found.reason,
        total_seconds=found.seconds,
    )


def _pause(error: Any, last: float, end: float) -> float:
    """How long to wait until the call is repeated; raises if it is not to be."""
    pause = min(1.0, 2 * last) * random.uniform(0.5, 1.5)
    trailing = dict(error.trailing_metadata() or ())
    is_transport = error.code() == grpc.StatusCode.UNAVAILABLE and (
        "ddnn-reason" not in trailing or trailing["ddnn-reason"] == "draining"
    )
    is_hopeless = "CERTIFICATE_VERIFY_FAILED" in str(error.details())
    if not is_transport or is_hopeless or time.monotonic() + pause >= end:
        raise ClassificationError(error.code().name.lower(), " ".join(str(error.details()).split())) from None
    return pause


def _failed(error: Any, caller: Caller) -> ClassificationError:
    details = " ".join(str(error.details()).split())
    return ClassificationError(error.code().name.lower(), f"{caller.peer} at {caller.address}: {details}")


def _device(devices: Mapping[str, Caller], name: str) -> Caller:
    if name not in devices:
        raise ValueError(
            f"Expected a device out of {', '.join(devices) or 'none'}, but got {name!r}: give its address."
        )
    return devices[name]


def _pixels(image: ArrayLike) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.ndim != 3 or not np.isin(pixels, np.arange(256)).all():
        raise ValueError(
            f"Expected an image (height, width, channels) of whole numbers 0..255, but got {pixels.shape} "
            f"{pixels.dtype}."
        )
    return np.ascontiguousarray(pixels, np.uint8)
