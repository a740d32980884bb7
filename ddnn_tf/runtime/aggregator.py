"""The aggregator: asks devices and tiers for every sample, decides by entropy, and answers clients.

What to ask next is the policy's business (`policy`); here it is asked, waited for and counted. The only local
aggregator of a hierarchy runs in this process, so the devices' class vectors come over their streams to it;
several local aggregators are processes of their own, which are asked like the tiers above. Devices that are
not there, or do not answer in time, count as absent. If no tier above answers, the highest exit that did
speaks, and the answer says that it is degraded.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ddnn_tf.drift import DriftWatch
from ddnn_tf.hierarchy import Role, link_name
from ddnn_tf.offload import check_asked, surest
from ddnn_tf.runtime.bounded import Bounded
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.channels import Outbox
from ddnn_tf.runtime.ddnn_v1_pb2 import (
    Accepted,
    Answer,
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
from ddnn_tf.runtime.gather import Gather
from ddnn_tf.runtime.policy import Progress, Report, Step
from ddnn_tf.runtime.sensors import is_image
from ddnn_tf.runtime.served import ServedNetwork
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Aggregator", "DeviceState"]

_DEADLINE = 10.0
_LONGEST_DEADLINE = 60.0
_MISSES = 3  # late answers in a row after which a device is not waited for
_NARROWEST = 4
_FORGOTTEN = 5.0  # seconds after which an order that was not answered no longer counts
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
            that was late, so that an overloaded device answers as many as it can.
    """

    stream: _Attached | None = None
    missed: int = 0
    preview: bytes = b""
    asked: Bounded[int, float] = field(default_factory=lambda: Bounded(_IN_FLIGHT))
    window: int = _IN_FLIGHT
    _narrowed: float = 0.0

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

    def answered(self, ticket: int, wait: float = math.inf) -> None:
        """Notes that it answered what it was asked; if in time, it is waited for again."""
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
        if now - self._narrowed > wait:
            self.window = max(_NARROWEST, min(self.window, len(self.asked)) // 2)
            self._narrowed = now


@dataclass
class _Pending:
    """A ticket whose class vectors are being waited for."""

    gather: Gather
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class Aggregator:
    """The process that coordinates.

    Args:
        network: The network.
        uppers: The ways to all nodes in processes of their own but the devices, by name.
        metrics: Its metrics.
        engine: What its section runs on.
        thresholds: T by tier in place of the bundle's, whatever devices are present. They can be set while it
            runs.
        wait: Seconds to wait for class vectors.
        upper_wait: Seconds to wait for the tiers above.
        ask: How many devices to ask for their feature maps when the local exit is unsure, the surest ones;
            None: all.

    Attributes:
        devices: What is known of each device, by name.
        thresholds: T by tier; of a calibrated network, those with all devices present.
        answers: Number of answers by tier, and `labelled`, `right`, `degraded`, `errors` and `samples`.
        bytes: Payload bytes by link, of all answers.
        is_answering: Whether each of `uppers` answered when it was last asked.
    """

    def __init__(
        self,
        network: ServedNetwork,
        uppers: Mapping[str, Caller],
        metrics: Metrics,
        *,
        engine: str = "tflite",
        thresholds: Mapping[str, float] | None = None,
        wait: float = 0.5,
        upper_wait: float = 2.0,
        ask: int | None = None,
    ) -> None:
        if ask is not None:
            check_asked(ask, network.hierarchy)
        self._asked = ask
        self.network, self._uppers, self.metrics = network, uppers, metrics
        self._wait, self._upper_wait = wait, upper_wait
        self._hosted = network.hierarchy.local
        self._run = None if self._hosted is None else network.runner(self._hosted.name, engine)
        self.thresholds: dict[str, float] = {}
        self._chosen: dict[str, float] = {}  # those that go before the calibration's, if there is one
        for tier, value in {**network.thresholds, **(thresholds or {})}.items():
            self.set_threshold(tier, value)
        self._drift: DriftWatch | None = None
        calibration = network.policy.calibration
        if calibration is not None:
            self._chosen = dict(thresholds or {})
            self._drift = DriftWatch(
                {frozenset(entry.devices): entry.entropies for entry in calibration.sets}
            )
            metrics.watch_drift(self._drift)
        self.devices = {name: DeviceState() for name in network.hierarchy.device_names}
        cameras = [node for node in network.hierarchy.devices if is_image(node)]
        self._previewed = {node.name: node.sensor.size for node in cameras}
        self._pending: dict[int, _Pending] = {}
        # No ticket of an earlier life of this process is given again.
        self._next = secrets.randbits(62)
        self._in_flight = 0
        self._someone = asyncio.Event()  # set while a device is attached
        self.exits: collections.Counter[str] = collections.Counter()
        """Answers by tier."""
        self.answers: collections.Counter[str] = collections.Counter()
        self.bytes: collections.Counter[str] = collections.Counter()
        self.is_answering = dict.fromkeys(uppers, True)

    def set_threshold(self, tier: str, value: float) -> None:
        """Sets T of a tier, for the samples to come.

        Raises:
            ValueError: A tier without a threshold, or a value outside 0..1.
        """
        early = self.network.hierarchy.early_tier_names
        if tier not in early:
            raise ValueError(f"Expected a tier out of {', '.join(early) or 'none'}, but got {tier!r}.")
        if not 0 <= value <= 1:
            raise ValueError(f"Expected a threshold between 0 and 1, but got {value}.")
        self.thresholds[tier] = self._chosen[tier] = float(value)

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
            answer = await self._classify(task, min(remaining or _DEADLINE, _LONGEST_DEADLINE), start)
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
        end = start + remaining - _MARGIN
        if not self._someone.is_set():
            # After a restart the devices come back within seconds.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._someone.wait(), min(_ATTACH_WAIT, remaining / 4))
        attached = [name for name, state in self.devices.items() if state.stream is not None]
        progress = self.network.policy.start(self._chosen, attached)
        above: float | None = None  # until when the tiers above are waited for
        while (step := progress.next()) is not None:
            if not step.takes_class_vectors:
                above = above or min(end, time.perf_counter() + self._upper_wait)
                progress.hear(*await self._ask_all(step, ticket, task.sample, progress.devices, above))
            elif self._hosted is not None:
                wait = min(self._wait, (end - time.perf_counter()) / 2)
                progress.hear([await self._decide_locally(step, ticket, task.sample, wait, start)])
            else:
                now = time.perf_counter()
                until = min(now + self._wait + self._upper_wait, (now + end) / 2)
                progress.hear(*await self._ask_locals(step, ticket, task.sample, until))
        if progress.is_without_devices:
            raise RefusalError(
                grpc.StatusCode.UNAVAILABLE, "no_device", "No device took part in this sample."
            )
        if not progress.outcomes:
            raise RefusalError(
                grpc.StatusCode.UNAVAILABLE, "no_exit", f"No exit could answer: {progress.reason}."
            )
        lowest = progress.outcomes[0]
        if self._drift is not None and lowest.tier == self.network.hierarchy.exit_tier_names[0]:
            self._drift.see(lowest.devices, lowest.entropy)
        return _answer(ticket, progress, time.perf_counter() - start, self.network.class_names)

    async def _decide_locally(
        self, step: Step, ticket: int, sample: int, wait: float, start: float
    ) -> Report:
        """What the local aggregator in this process makes of a sample."""
        assert self._hosted is not None
        assert self._run is not None
        name = self._hosted.name
        vectors = await self._sense(step.order, ticket, sample, wait)
        if not vectors:
            return Report(name, ())
        logits = self._run(self.network.joined(name, vectors))["logits"]
        asked = None if self._asked is None else surest(vectors, self._asked)
        return Report(name, tuple(vectors), logits, time.perf_counter() - start, asked)

    async def _sense(
        self, devices: Sequence[str], ticket: int, sample: int, wait: float
    ) -> dict[str, NDArray[np.float32]]:
        """Class vectors of the devices that answer in time, in the order of the topology."""
        gather = Gather(self._prompt(devices))
        pending = self._pending[ticket] = _Pending(gather)
        try:
            for name in self._order(devices, "sense", ticket, sample):
                gather.settle(name)
            await gather.wait(wait)
        finally:
            del self._pending[ticket]
        for name in gather.waited_for:
            self.devices[name].late(ticket, self._wait)
        assert self._hosted is not None
        for name in self._hosted.senders:
            if name not in pending.vectors:
                self.metrics.missing.labels(name).inc()
        return {name: pending.vectors[name] for name in self._hosted.senders if name in pending.vectors}

    def _prompt(self, devices: Sequence[str]) -> set[str]:
        """The devices to wait for: one that was late several times in a row is asked, but not waited for."""
        return {name for name in devices if self.devices[name].missed < _MISSES} or set(devices)

    def _order(self, devices: Sequence[str], verb: str, ticket: int, sample: int) -> list[str]:
        """Orders something of devices; returns those that cannot be told."""
        order = (verb, Sense(ticket=ticket, sample=sample))
        return [name for name in devices if not self.devices[name].order(order)]

    def ask_for_images(self) -> None:
        """Asks every device that senses images for its last one, for the dashboard."""
        for name in self._previewed:
            self.devices[name].order(("preview", None))

    async def _ask_locals(
        self, step: Step, ticket: int, sample: int, until: float
    ) -> tuple[list[Report], list[str]]:
        """Has several local aggregators decide out of the class vectors that devices send them."""
        untold = set(self._order(step.order, "sense", ticket, sample))
        asked = {name: sorted(self._prompt(senders) - untold) for name, senders in step.ask.items()}
        answers = await asyncio.gather(
            *(
                self._ask(
                    name,
                    "Upper/Decide",
                    Question(ticket=ticket, senders=senders, awaited=asked[name]),
                    Verdict,
                    until,
                )
                for name, senders in step.ask.items()
                if asked[name]
            )
        )
        for verdict in answers:
            for report in () if isinstance(verdict, str) else verdict.exits:
                for name in (*report.senders, *report.absent):
                    self.devices[name].answered(ticket)
                for name in asked[report.name]:
                    self.devices[name].late(ticket, self._wait)
        return self._heard(answers)

    async def _ask_all(
        self, step: Step, ticket: int, sample: int, devices: Iterable[str], until: float
    ) -> tuple[list[Report], list[str]]:
        """Has the nodes of a tier decide; edges below forward and devices offload to them meanwhile."""
        self._order([name for name in step.order if name not in step.past], "offload", ticket, sample)
        self._order([name for name in step.order if name in step.past], "skip", ticket, sample)
        if self._is_skipped(step):
            # One that hangs leaves time for asking above it, past it.
            until = (time.perf_counter() + until) / 2
        forwarding = [
            asyncio.ensure_future(
                self._ask(
                    name,
                    "Upper/Forward",
                    Question(ticket=ticket, past_receiver=name in step.past),
                    Accepted,
                    until,
                )
            )
            for name in step.forward
        ]
        chains = self.network.policy.chains
        try:
            answers = await asyncio.gather(
                *(
                    self._ask(
                        name,
                        "Upper/Decide",
                        Question(
                            ticket=ticket,
                            senders=senders,
                            thresholds=self._chosen if len(chains[name]) > 1 else {},
                            devices=devices if len(chains[name]) > 1 else (),
                        ),
                        Verdict,
                        until,
                    )
                    for name, senders in step.ask.items()
                )
            )
        finally:
            await asyncio.gather(*forwarding, return_exceptions=True)
        return self._heard(answers)

    def _is_skipped(self, step: Step) -> bool:
        """Whether a skip link leads past a node that is asked."""
        hierarchy = self.network.hierarchy
        senders = (sender for name in step.ask for sender in hierarchy[name].senders)
        return any(hierarchy[sender].skip_receiver is not None for sender in senders)

    def _heard(self, answers: Sequence[Any]) -> tuple[list[Report], list[str]]:
        """Verdicts as reports, and problems in words."""
        reports: list[Report] = []
        problems: list[str] = []
        for verdict in answers:
            if isinstance(verdict, str):
                problems.append(verdict)
                continue
            for report in verdict.exits:
                self.is_answering[report.name] = True
                logits = self.network.hierarchy.class_vector.decode(report.logits) if report.logits else None
                reports.append(Report(report.name, tuple(report.senders), logits, report.seconds))
            if verdict.degraded:
                problems.append(verdict.reason)
                receiver = self.network.hierarchy[verdict.exits[-1].name].receiver
                if receiver is not None:
                    self.is_answering[receiver] = False
        return reports, problems

    async def _ask(
        self,
        name: str,
        path: str,
        question: Question,
        kind: type[Any],
        until: float,
    ) -> Any:
        """What a node answers; or why it does not, in words."""
        left = until - time.perf_counter()
        if left <= 0:
            return f"{name}: no time left"
        try:
            answer = await self._uppers[name].call(path, question, kind, left)
            if kind is Verdict:
                self._check(name, answer)
        except grpc.aio.AioRpcError as error:
            problem = error.code().name.lower()
        except (ValueError, DecodeError) as error:
            problem = f"no verdict: {error}"
        else:
            self.is_answering[name] = True
            return answer
        self.is_answering[name] = False
        _log.warning("no answer from above", extra={"fields": {"peer": name, "problem": problem}})
        return f"{name}: {problem}"

    def _check(self, name: str, verdict: Verdict) -> None:
        """Raises ValueError for a verdict that the node could not have given."""
        expected = self.network.policy.chains[name]
        names = tuple(report.name for report in verdict.exits)
        if not names or names != expected[: len(names)]:
            raise ValueError(f"exits {list(names)}")
        for report in verdict.exits:
            node = self.network.hierarchy[report.name]
            if not set(report.senders) | set(report.absent) <= set(node.all_senders):
                raise ValueError(f"senders {list(report.senders)}")
            if not report.senders and node.role is not Role.LOCAL:
                raise ValueError("no senders")
            if bool(report.logits) != bool(node.exit is not None and report.senders):
                raise ValueError(f"{len(report.logits)} bytes of logits of {report.name}")
            if report.logits:
                self.network.hierarchy.class_vector.decode(report.logits)

    def _count(self, task: Task, answer: Answer) -> None:
        self.metrics.samples.labels("degraded" if answer.degraded else "answered").inc()
        self.metrics.exits.labels(answer.exit).inc()
        self.metrics.latency.labels("all").observe(answer.seconds)
        for tier in answer.tiers:
            self.metrics.latency.labels(tier.tier).observe(tier.seconds)
        arriving = {link_name(name, self._hosted.name) for name in self.devices} if self._hosted else ()
        for link in answer.links:
            self.bytes[link.link] += link.payload
            if link.link in arriving:
                self.metrics.payload.labels(link.link).inc(link.payload)
        self.exits[answer.exit] += 1
        self.answers["degraded"] += answer.degraded
        if task.HasField("label"):
            self.answers["labelled"] += 1
            self.answers["right"] += answer.label == task.label

    def receive(self, name: str, reports: Reports) -> None:
        """Takes what a device reports.

        Raises:
            RefusalError: A class vector or preview of another shape, or a class vector sent twice.
        """
        state = self.devices[name]
        if reports.preview:
            if len(reports.preview) != self._previewed.get(name):
                raise RefusalError(
                    grpc.StatusCode.INVALID_ARGUMENT, "shape", f"The preview is no image of {name}."
                )
            state.preview = reports.preview
        for vector in reports.vectors:
            self._take(name, state, vector)

    def _take(self, name: str, state: DeviceState, vector: Payload) -> None:
        values = None
        if not vector.absent:
            try:
                values = self.network.hierarchy.class_vector.decode(vector.content)
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
        pending.gather.settle(name)

    def is_wanted(self, name: str, ticket: int) -> bool:
        """Whether a device need still be asked for a ticket, which may have been decided meanwhile.

        One that was late again and again is asked all the same: by its answer it shows that it can be in
        time again. Which tickets a local aggregator in another process has decided is not known here.
        """
        state = self.devices[name]
        if self._hosted is None or ticket in self._pending or state.missed >= _MISSES:
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
            pending.gather.settle(name)


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
            skip=[order for verb, order in items if verb == "skip"],
            preview=any(verb == "preview" for verb, _ in items),
        )

    def close(self) -> None:
        self._aggregator.detach(self._name, self)


def _answer(ticket: int, progress: Progress, seconds: float, class_names: Sequence[str]) -> Answer:
    last = progress.outcomes[-1]
    label = int(last.probabilities.argmax())
    return Answer(
        ticket=ticket,
        label=label,
        class_name=class_names[label] if class_names else "",
        probabilities=last.probabilities.tolist(),
        exit=last.tier,
        tiers=[
            TierReport(
                tier=outcome.tier,
                entropy=outcome.entropy,
                devices=outcome.members,
                seconds=outcome.seconds,
            )
            for outcome in progress.outcomes
        ],
        links=[LinkBytes(link=link, payload=size) for link, size in progress.payload.items()],
        degraded=bool(progress.reason),
        reason=progress.reason,
        seconds=seconds,
    )
