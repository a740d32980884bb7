"""Asking a running hierarchy: `AsyncClient` for asyncio, and `Client`, the same for threads.

>>> certificates = Certificates.read("certs", "client")  # doctest: +SKIP
>>> with Client("127.0.0.1:7000", certificates=certificates) as client:  # doctest: +SKIP
...     answer = client.classify(17)
>>> answer.label, answer.exit, answer.entropies  # doctest: +SKIP
(0, 'local', {'local': 0.12})

A call that fails because the aggregator cannot be reached is repeated within its deadline; classifying a
sample twice does no harm, and the caller gets one answer.
"""

from __future__ import annotations

import asyncio
import functools
import random
import threading
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from ddnn_tf.runtime import ddnn_v1_pb2 as messages
from ddnn_tf.runtime.calls import SERVICE, Caller
from ddnn_tf.runtime.security import CLIENT, Certificates
from ddnn_tf.runtime.sensors import as_codes

__all__ = ["Answer", "AsyncClient", "ClassificationError", "Client"]

_CLASSIFY = f"/{SERVICE}.Aggregator/Classify"
_FIRST_PAUSE = 0.05
_STARTING = threading.Lock()
Result = TypeVar("Result")


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
        class_name: Its name; empty if the bundle, of an earlier version, has none.
        probabilities: Of every class, `(classes,)`.
        exit: The tier at which the sample left, e.g. `local`, `edge` or `cloud`.
        entropies: Normalized entropy at each tier with an exit that was reached.
        devices: The senders that took part at each of these tiers: devices, or edges.
        payload_bytes: Payload bytes sent on each link, as in Eq. (1).
        seconds: Time spent at each tier, from the moment that it was asked.
        degraded: No tier above answered, so a lower one did.
        reason: Why it is degraded; empty if it is not.
        total_seconds: From the aggregator's receiving the question to its answer.
    """

    ticket: int
    label: int
    class_name: str
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

    async def push(self, device: str, sample: int, codes: ArrayLike, *, timeout: float = 10.0) -> None:
        """Gives a device a reading.

        Args:
            device: Name of the device.
            sample: Number of the sample.
            codes: 8-bit codes of the device's input shape, whole numbers 0..255: an image
                `(height, width, channels)`, a series `(steps, channels)` or a vector `(features,)`.
            timeout: Seconds until the device must have taken it.

        Raises:
            ClassificationError: The device did not take it.
            ValueError: An unknown device, or numbers that are no codes.
        """
        if device not in self._devices:
            known = ", ".join(self._devices) or "none"
            raise ValueError(f"Expected a device out of {known}, but got {device!r}: give its address.")
        caller = self._devices[device]
        message = messages.Reading(sample=sample, codes=as_codes(codes).tobytes())
        try:
            await caller.call("Sensor/Push", message, messages.Accepted, timeout)
        except grpc.aio.AioRpcError as error:
            details = " ".join(str(error.details()).split())
            raise ClassificationError(
                error.code().name.lower(), f"{caller.peer} at {caller.address}: {details}"
            ) from None


class Client:
    """An `AsyncClient` for threads, of which any number may share it; used with `with`, or closed by hand.

    Its calls run in an event loop of their own, in a thread that all clients of the process share.

    Args: as of `AsyncClient`.
    """

    def __init__(
        self,
        address: str,
        *,
        certificates: Certificates | None = None,
        devices: Mapping[str, str] | None = None,
    ) -> None:
        with _STARTING:
            _loop()
        self._client = AsyncClient(address, certificates=certificates, devices=devices)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        _wait_for(self._client.close())

    def classify(self, sample: int, *, label: int | None = None, timeout: float = 10.0) -> Answer:
        """As `AsyncClient.classify`."""
        return _wait_for(self._client.classify(sample, label=label, timeout=timeout))

    def push(self, device: str, sample: int, codes: ArrayLike, *, timeout: float = 10.0) -> None:
        """As `AsyncClient.push`."""
        _wait_for(self._client.push(device, sample, codes, timeout=timeout))


def _wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs some work in the loop of the clients, and waits for its result."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    # One loop for all: gRPC polls for one event loop of a process, and others get its wake-ups in vain.
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="ddnn clients", daemon=True).start()
    return loop


def _task(sample: int, label: int | None) -> bytes:
    if not 0 <= sample < 1 << 32:
        raise ValueError(f"Expected `sample` between 0 and 2^32 - 1, but got {sample}.")
    return messages.Task(sample=sample, label=label).SerializeToString()


def _answer(content: bytes) -> Answer:
    message = messages.Answer.FromString(content)
    return Answer(
        ticket=message.ticket,
        label=message.label,
        class_name=message.class_name,
        probabilities=tuple(message.probabilities),
        exit=message.exit,
        entropies={tier.tier: tier.entropy for tier in message.tiers},
        devices={tier.tier: tuple(tier.devices) for tier in message.tiers},
        payload_bytes={link.link: link.payload for link in message.links},
        seconds={tier.tier: tier.seconds for tier in message.tiers},
        degraded=message.degraded,
        reason=message.reason,
        total_seconds=message.seconds,
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
