"""The local aggregator: asks the devices, decides by entropy, and asks the tiers above if unsure.

A sample leaves at the lowest exit that is confident, as in `exits`. Devices that are not there, or do
not answer within the wait, are masked as absent. Without an answer from above the highest exit that did
answer speaks, and the answer says that it is degraded.

Configuration (a) has no local exit: there the aggregator only hands on what the cloud answers.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ddnn_tf.exits import is_confident, most_confident, normalized_entropy, softmax
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.ddnn_v1_pb2 import (
    Accepted,
    Answer,
    ExitReport,
    LinkBytes,
    Orders,
    Payload,
    Question,
    Reports,
    Sense,
    Task,
    TierReport,
    Verdict,
)
from ddnn_tf.runtime.gathering import Gathering
from ddnn_tf.runtime.links import Outbox
from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Aggregator", "DeviceState"]

_DEADLINE = 10.0
_MISSES = 3
_NARROWEST = 4
_FORGOTTEN = 5.0
_ATTACH_WAIT = 2.0
_MARGIN = 0.02  # seconds of a deadline kept for the way back
_IN_FLIGHT = 1024
_FEW = 2
_LINGER = 0.002
_log = logging.getLogger(__name__)


@dataclass
class DeviceState:
    """What the aggregator knows of a device.

    Attributes:
        stream: Its stream; None while it is not attached.
        missed: Samples in a row for which it came too late.
        preview: Its last image, if it shows one.
        asked: When it was asked for each ticket that it has not answered yet.
        window: How many of these there may be: one more after each answer in time, half as many after one
            that was late, so that a device with more to do than it can does what it can.
    """

    stream: _Attached | None = None
    missed: int = 0
    preview: bytes = b""
    asked: collections.OrderedDict[int, float] = field(default_factory=collections.OrderedDict)
    window: int = _IN_FLIGHT
    _cut: float = 0.0

    def order(self, order: tuple[str, Sense | None]) -> bool:
        """Tells the device to do something; False if it is not there, or has more to do than it can."""
        now = time.monotonic()
        while self.asked and next(iter(self.asked.values())) < now - _FORGOTTEN:
            self.asked.popitem(last=False)
        verb, sense = order
        if verb == "sense" and len(self.asked) >= self.window:
            return False
        if self.stream is None or not self.stream.outbox.put(order):
            return False
        if verb == "sense" and sense is not None:
            self.asked[sense.ticket] = now
        return True

    def answered(self, ticket: int, wait: float) -> None:
        """Notes that it answered what it was asked; in time, and it is waited for again."""
        asked = self.asked.pop(ticket, None)
        if asked is None:
            return
        if time.monotonic() - asked <= wait:
            self.missed = 0
            self.window = min(_IN_FLIGHT, self.window + 1)
        else:
            self._narrow(wait)

    def late(self, ticket: int, wait: float) -> None:
        """Notes that it did not answer in time."""
        if ticket in self.asked:
            self.missed += 1
            self._narrow(wait)

    def _narrow(self, wait: float) -> None:
        """Halves the window, once for all that are late together."""
        now = time.monotonic()
        if now - self._cut > wait:
            self.window, self._cut = max(_NARROWEST, min(self.window, len(self.asked)) // 2), now


@dataclass
class _Pending:
    """A ticket whose class vectors are being waited for."""

    gathering: Gathering
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass
class _Tier:
    """What one tier said."""

    name: str
    probabilities: NDArray[np.float64]
    entropy: float
    devices: list[str]
    seconds: float


class Aggregator:
    """The local aggregator.

    Args:
        network: The network.
        uppers: The ways to its edges and the cloud, by name.
        metrics: Its metrics.
        engine: What its section runs on.
        thresholds: T by tier in place of the bundle's. They can be set while it runs.
        wait: Seconds to wait for class vectors.
        upper_wait: Seconds to wait for a tier above.
    """

    def __init__(
        self,
        network: Network,
        uppers: Mapping[str, Caller],
        metrics: Metrics,
        *,
        engine: str = "tflite",
        thresholds: Mapping[str, float] | None = None,
        wait: float = 0.5,
        upper_wait: float = 2.0,
    ) -> None:
        self.network, self._uppers, self.metrics = network, uppers, metrics
        self._wait, self._upper_wait = wait, upper_wait
        self._local = network.runner("local", engine) if network.has_local else None
        self.thresholds: dict[str, float] = {}
        for tier, value in {**network.bundle.thresholds, **(thresholds or {})}.items():
            self.set_threshold(tier, value)
        self.devices = {name: DeviceState() for name in network.topology.device_names}
        self._pending: dict[int, _Pending] = {}
        # No ticket of an earlier life of this process is given again.
        self._next = secrets.randbits(62)
        self._in_flight = 0
        self._someone = asyncio.Event()  # set while a device is attached
        self._is_edge_decisive = len(network.topology.edges) == 1
        self.answers: collections.Counter[str] = collections.Counter()
        """Answers by exit, and `labelled`, `right`, `degraded`, `errors` and `samples`."""
        self.bytes: collections.Counter[str] = collections.Counter()
        """Payload bytes by link, of all answers."""
        self.answers_above = dict.fromkeys(uppers, True)
        """Whether each tier above answered when it was last asked."""

    def set_threshold(self, tier: str, value: float) -> None:
        """Sets T of a tier, for the samples to come.

        Raises:
            ValueError: A tier without a threshold, or a value outside 0..1.
        """
        early = self.network.topology.exit_tiers[:-1]
        if tier not in early:
            raise ValueError(f"Expected a tier out of {', '.join(early) or 'none'}, but got {tier!r}.")
        if not 0 <= value <= 1:
            raise ValueError(f"Expected a threshold between 0 and 1, but got {value}.")
        self.thresholds[tier] = float(value)

    def linger(self) -> float:
        """Seconds that orders wait for others: none while few samples are about.

        Many samples then share a message and its cost, which is most of what a sample costs.
        """
        return _LINGER if self._in_flight > _FEW else 0.0

    def attach(self, name: str) -> _Attached:
        """A device's stream has opened; an older one of the same device ends."""
        state, stream = self.devices[name], _Attached(self, name)
        if state.stream is None:
            self.metrics.attached.inc()
        else:
            state.stream.replaced.set()
        state.stream, state.missed, state.window = stream, 0, _IN_FLIGHT
        state.asked.clear()
        self._someone.set()
        return stream

    async def classify(self, _: str, task: Task, remaining: float | None) -> Answer:
        """Classifies a sample.

        Args:
            task: Which.
            remaining: Seconds that the client waits; None: 10.

        Raises:
            RefusalError: Too many samples at once, no device took part, or no exit could answer.
        """
        if self._in_flight >= _IN_FLIGHT:
            raise RefusalError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "overload", f"{_IN_FLIGHT} samples are being classified"
            )
        self._in_flight += 1
        self.metrics.in_flight.inc()
        start = time.perf_counter()
        self.answers["samples"] += 1
        try:
            answer = await self._classify(task, min(remaining or _DEADLINE, 60.0), start)
        except BaseException as error:
            self.answers["errors"] += 1
            reason = error.reason if isinstance(error, RefusalError) else type(error).__name__
            self.metrics.samples.labels(reason).inc()
            raise
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.dec()
        self._count(task, answer)
        return answer

    async def _classify(self, task: Task, remaining: float, start: float) -> Answer:
        self._next += 1
        ticket = self._next
        tiers: list[_Tier] = []
        links: dict[str, int] = {}
        if not self._someone.is_set():
            # After a restart the devices come back within seconds.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._someone.wait(), min(_ATTACH_WAIT, remaining / 4))
        if self._local is None:
            devices = [name for name, state in self.devices.items() if state.stream is not None]
        else:
            left = remaining - (time.perf_counter() - start)
            vectors = await self._sense(ticket, task.sample, min(self._wait, left / 2))
            if vectors:
                tiers.append(self._decide_locally(vectors, start))
                links = dict.fromkeys(map("{} -> local".format, vectors), self.network.class_vector.size)
                if is_confident(tiers[0].entropy, self.thresholds["local"]):
                    return self._answer(ticket, tiers, links, start)
            devices = list(vectors)
        if not devices:
            raise RefusalError(
                grpc.StatusCode.UNAVAILABLE, "no_device", "No device took part in this sample."
            )
        self._order(devices, "offload", ticket, task.sample)
        left = min(self._upper_wait, remaining - (time.perf_counter() - start) - _MARGIN)
        reason = await self._ask_above(ticket, devices, left, tiers, links)
        if not tiers:
            raise RefusalError(grpc.StatusCode.UNAVAILABLE, "no_exit", f"No exit could answer: {reason}.")
        return self._answer(ticket, tiers, links, start, reason)

    async def _sense(self, ticket: int, sample: int, wait: float) -> dict[str, NDArray[np.float32]]:
        """Class vectors of the devices that answer in time, in the order of the topology."""
        attached = [name for name, state in self.devices.items() if state.stream is not None]
        # One that came too late several times in a row is asked, but not waited for.
        prompt = {name for name in attached if self.devices[name].missed < _MISSES} or set(attached)
        if not attached:
            return {}
        gathering = Gathering(prompt)
        pending = self._pending[ticket] = _Pending(gathering)
        try:
            for name in self._order(attached, "sense", ticket, sample):
                gathering.settle(name)
            await gathering.wait(wait)
        finally:
            del self._pending[ticket]
        for name in gathering.waited_for:
            self.devices[name].late(ticket, self._wait)
        for name in self.devices:
            if name not in pending.vectors:
                self.metrics.missing.labels(name).inc()
        return {name: pending.vectors[name] for name in self.devices if name in pending.vectors}

    def _order(self, devices: Sequence[str], verb: str, ticket: int, sample: int) -> list[str]:
        """Orders something of devices; gives those that are not told."""
        order = (verb, Sense(ticket=ticket, sample=sample))
        return [name for name in devices if not self.devices[name].order(order)]

    def ask_for_images(self) -> None:
        """Asks every device for its last image, for the dashboard."""
        for state in self.devices.values():
            state.order(("preview", None))

    def _decide_locally(self, vectors: Mapping[str, NDArray[np.float32]], start: float) -> _Tier:
        assert self._local is not None
        logits = self._local(self.network.aggregate("local", vectors))["logits"]
        return _tier("local", softmax(logits)[0], list(vectors), time.perf_counter() - start)

    async def _ask_above(
        self, ticket: int, devices: list[str], left: float, tiers: list[_Tier], links: dict[str, int]
    ) -> str:
        """Adds the tiers above to `tiers`; gives why there is one too few, or nothing."""
        begin = time.perf_counter()
        if not self.network.topology.edges:
            return await self._ask_cloud(ticket, devices, left, tiers, links)
        groups = {
            name: [device for device in self.network.senders(name) if device in devices]
            for name in self.network.topology.edge_names
        }
        asked = [name for name, group in groups.items() if group]
        limit = self.thresholds["edge"]
        verdicts = await asyncio.gather(
            *(
                self._ask(
                    name,
                    Question(
                        ticket=ticket, senders=groups[name], decide=self._is_edge_decisive, threshold=limit
                    ),
                    left,
                )
                for name in asked
            )
        )
        given = [verdict for verdict in verdicts if isinstance(verdict, Verdict)]
        if not given:
            return "; ".join(map(str, verdicts))
        for verdict in given:
            links.update({one.link: one.payload for one in verdict.links})
        reports = [verdict.exits[0] for verdict in given]
        if self._is_edge_decisive:
            for report in given[0].exits:
                tiers.append(self._reported(report))
            if given[0].degraded or len(given[0].exits) > 1:
                self.answers_above["cloud"] = not given[0].degraded
            return given[0].reason if given[0].degraded else ""
        links.update({f"{report.name} -> local": len(report.logits) for report in reports})
        codec = self.network.class_vector
        surest = most_confident([softmax(codec.decode(report.logits)) for report in reports])[0]
        members = [device for report in reports for device in report.senders]
        tiers.append(_tier("edge", surest, members, time.perf_counter() - begin))
        if is_confident(tiers[-1].entropy, limit):
            return ""
        left -= time.perf_counter() - begin
        edges = [report.name for report in reports]
        forwarding = [
            asyncio.ensure_future(self._ask(name, Question(ticket=ticket), left, "Upper/Forward"))
            for name in edges
        ]
        try:
            return await self._ask_cloud(ticket, edges, left, tiers, links)
        finally:
            await asyncio.gather(*forwarding, return_exceptions=True)

    async def _ask_cloud(
        self, ticket: int, senders: list[str], left: float, tiers: list[_Tier], links: dict[str, int]
    ) -> str:
        verdict = await self._ask("cloud", Question(ticket=ticket, senders=senders), left)
        if isinstance(verdict, str):
            return verdict
        links.update({one.link: one.payload for one in verdict.links})
        tiers.append(self._reported(verdict.exits[0]))
        return ""

    async def _ask(self, name: str, question: Question, left: float, path: str = "Upper/Decide") -> Any:
        """What an edge or the cloud answers; or why it does not, in words."""
        if left <= 0:
            return f"{name}: no time left"
        kind = Verdict if path == "Upper/Decide" else Accepted
        try:
            answer = await self._uppers[name].call(path, question, kind, left)
            if kind is Verdict:
                self._check(name, answer)
        except grpc.aio.AioRpcError as error:
            problem = error.code().name.lower()
        except (ValueError, DecodeError) as error:
            problem = f"no verdict: {error}"
        else:
            self.answers_above[name] = True
            return answer
        self.answers_above[name] = False
        _log.warning("no answer from above", extra={"fields": {"peer": name, "problem": problem}})
        return f"{name}: {problem}"

    def _check(self, name: str, verdict: Verdict) -> None:
        """Raises ValueError for a verdict that the tier could not have given."""
        expected = [name, "cloud"] if name != "cloud" else [name]
        found = [report.name for report in verdict.exits]
        if not found or found != expected[: len(found)]:
            raise ValueError(f"exits {found}")
        for report in verdict.exits:
            self.network.class_vector.decode(report.logits)

    def _reported(self, report: ExitReport) -> _Tier:
        probabilities = softmax(self.network.class_vector.decode(report.logits))[0]
        tier = report.name.split("_")[0]
        return _tier(tier, probabilities, list(report.senders), report.seconds)

    def _answer(
        self, ticket: int, tiers: Sequence[_Tier], links: Mapping[str, int], start: float, reason: str = ""
    ) -> Answer:
        last = tiers[-1]
        return Answer(
            ticket=ticket,
            label=int(last.probabilities.argmax()),
            probabilities=last.probabilities.tolist(),
            exit=last.name,
            tiers=[
                TierReport(tier=tier.name, entropy=tier.entropy, devices=tier.devices, seconds=tier.seconds)
                for tier in tiers
            ],
            links=[LinkBytes(link=link, payload=size) for link, size in links.items()],
            degraded=bool(reason),
            reason=reason,
            seconds=time.perf_counter() - start,
        )

    def _count(self, task: Task, answer: Answer) -> None:
        self.metrics.samples.labels("degraded" if answer.degraded else "answered").inc()
        self.metrics.exits.labels(answer.exit).inc()
        self.metrics.latency.labels("all").observe(answer.seconds)
        for tier in answer.tiers:
            self.metrics.latency.labels(tier.tier).observe(tier.seconds)
        for link in answer.links:
            self.bytes[link.link] += link.payload
            if link.link.endswith(" -> local"):
                self.metrics.payload.labels(link.link).inc(link.payload)
        self.answers[answer.exit] += 1
        self.answers["degraded"] += answer.degraded
        if task.HasField("label"):
            self.answers["labelled"] += 1
            self.answers["right"] += answer.label == task.label

    def receive(self, name: str, reports: Reports) -> None:
        """Takes what a device reports.

        Raises:
            RefusalError: A class vector of another shape, or one sent twice.
        """
        state = self.devices[name]
        if reports.preview:
            if len(reports.preview) != self.network.image.size:
                raise RefusalError(
                    grpc.StatusCode.INVALID_ARGUMENT, "shape", "The preview is no image of a device."
                )
            state.preview = reports.preview
        for vector in reports.vectors:
            self._take(name, state, vector)

    def _take(self, name: str, state: DeviceState, vector: Payload) -> None:
        values = None
        if not vector.absent:
            try:
                values = self.network.class_vector.decode(vector.content)
            except ValueError as error:
                raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, "shape", str(error)) from None
        state.answered(vector.ticket, self._wait)
        pending = self._pending.get(vector.ticket)
        if pending is None:
            self.metrics.late.inc()
            return
        if name in pending.vectors:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT, "replayed", f"{name} sent its class vector twice."
            )
        if values is not None:
            pending.vectors[name] = values
        pending.gathering.settle(name)

    def is_wanted(self, name: str, ticket: int) -> bool:
        """Whether a device need still be asked for a ticket, which may have been decided meanwhile.

        One that was late again and again is asked all the same: by its answer it shows that it can be in
        time again.
        """
        state = self.devices[name]
        if ticket in self._pending or state.missed >= _MISSES:
            return True
        state.asked.pop(ticket, None)
        return False

    def detach(self, name: str, stream: _Attached) -> None:
        """A device's stream has ended; what was waited for of it is not."""
        if self.devices[name].stream is not stream:
            return  # it has come back over a new stream already
        self.devices[name].stream = None
        self.metrics.attached.dec()
        if all(state.stream is None for state in self.devices.values()):
            self._someone.clear()
        for pending in list(self._pending.values()):
            pending.gathering.settle(name)


class _Attached:
    """The stream of one device."""

    def __init__(self, aggregator: Aggregator, name: str) -> None:
        self._aggregator, self._name = aggregator, name
        self.outbox: Outbox = Outbox(linger=aggregator.linger)
        self.replaced = asyncio.Event()

    def receive(self, message: Reports) -> None:
        self._aggregator.receive(self._name, message)

    def pack(self, items: list[Any]) -> Orders:
        senses = [order for verb, order in items if verb == "sense"]
        return Orders(
            sense=[sense for sense in senses if self._aggregator.is_wanted(self._name, sense.ticket)],
            offload=[order for verb, order in items if verb == "offload"],
            preview=any(verb == "preview" for verb, _ in items),
        )

    def close(self) -> None:
        self._aggregator.detach(self._name, self)


def _tier(name: str, probabilities: NDArray[np.float64], devices: list[str], seconds: float) -> _Tier:
    return _Tier(name, probabilities, float(normalized_entropy(probabilities)), devices, seconds)
