"""An edge, the cloud, or one of several local aggregators: joins what reaches it, runs its section, decides.

Senders deliver feature maps (to a local aggregator: class vectors) over streams; the aggregator asks for a
verdict on a ticket, or an edge that passes on by itself. Whichever comes first waits for the other. Requests
that arrive together run together. A node without an exit computes as well, and forwards when it is told to.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from ddnn_tf.hierarchy import Role, link_name
from ddnn_tf.runtime.batching import Batcher
from ddnn_tf.runtime.bounded import Bounded
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.channels import Channel, Outbox
from ddnn_tf.runtime.ddnn_v1_pb2 import Accepted, Delivery, ExitReport, Payload, Question, Verdict
from ddnn_tf.runtime.device import delivery
from ddnn_tf.runtime.gather import Gather
from ddnn_tf.runtime.policy import is_unsure
from ddnn_tf.runtime.served import ServedNetwork
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Upper"]

_KEPT = 4096  # feature maps of its own that wait to be forwarded
_KEPT_OF_SENDER = 1024  # tickets that a sender has delivered for and nobody has asked about
_KEPT_SECONDS = 10.0
_DEADLINE = 10.0
_LONGEST_DEADLINE = 60.0
_MARGIN = 0.02  # seconds of a deadline kept for the way back


@dataclass
class _Ticket:
    """What has been delivered for a ticket, and what is waited for."""

    made: float
    maps: dict[str, NDArray[np.float32] | None] = field(default_factory=dict)
    gather: Gather | None = None  # while somebody asks

    def settle(self, name: str) -> None:
        if self.gather is not None:
            self.gather.settle(name)


class Upper:
    """A node above the devices in a process of its own.

    Args:
        name: Its name.
        network: The network.
        metrics: Its metrics.
        engine: What its sections run on.
        callers: The ways to its peers (`policy.peers_of`), by name: the receiver of its feature map, and of
            its skip link.
        wait: Seconds to wait for its senders.

    Raises:
        ValueError: The network has no such node, or it is no process of its own.
    """

    def __init__(
        self,
        name: str,
        network: ServedNetwork,
        metrics: Metrics,
        *,
        engine: str = "tflite",
        callers: Mapping[str, Caller] | None = None,
        wait: float = 0.5,
    ) -> None:
        uppers = [node.name for node in network.hierarchy.uppers]
        if name not in uppers:
            raise ValueError(f"Expected --name out of {', '.join(uppers)}, but got {name!r}.")
        self.node = network.hierarchy[name]
        self._network, self._metrics, self._wait = network, metrics, wait
        self._specs = network.policy.specs[name]
        self._tier = network.hierarchy.tier_of(self.node).name
        self._batcher = Batcher(network.runner(name, engine), observe=metrics.batch.observe)
        self._adapters = {
            adapter.senders[0]: Batcher(network.runner(adapter.name, engine))
            for adapter in network.hierarchy.adapters_of(name)
        }
        self._tickets: collections.OrderedDict[int, _Ticket] = collections.OrderedDict()
        self._open: dict[str, _Delivering] = {}
        self._collecting: set[int] = set()
        self._unasked: collections.Counter[str] = collections.Counter()
        self._features: Bounded[int, bytes] = Bounded(_KEPT)
        callers = callers or {}
        self._receiver = None if self.node.receiver is None else callers[self.node.receiver]
        self.channels = {
            peer: Channel(caller, "Upper/Deliver", delivery, Accepted) for peer, caller in callers.items()
        }
        """Its streams, to its receiver and past it, by the peer's name."""

    def close(self) -> None:
        """Ends its threads."""
        for batcher in (self._batcher, *self._adapters.values()):
            batcher.close()

    def open(self, sender: str) -> _Delivering:
        """A sender's stream has opened."""
        return _Delivering(self, sender)

    async def decide(self, _: str, question: Question, remaining: float | None) -> Verdict:
        """Decides on a ticket.

        Raises:
            RefusalError: An unknown sender, nothing delivered in time, or too many samples.
        """
        start = time.perf_counter()
        left = min(remaining or _DEADLINE, _LONGEST_DEADLINE)
        unknown = [sender for sender in question.senders if sender not in self._specs]
        if unknown or not question.senders:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "sender",
                f"Expected senders out of {', '.join(self._specs)}, but got {', '.join(unknown) or 'none'}.",
            )
        maps, absent = await self._collect(question, min(self._wait, left / 2))
        report = ExitReport(name=self.node.name, senders=list(maps), absent=absent)
        logits = await self._compute(question.ticket, maps) if maps else None
        if logits is not None:
            report.logits = self._network.hierarchy.class_vector.encode(logits)
        report.seconds = time.perf_counter() - start
        verdict = Verdict(exits=[report])
        self._metrics.samples.labels("decided").inc()
        self._metrics.latency.labels(self._tier).observe(report.seconds)
        policy = self._network.policy
        if logits is not None and len(policy.chains[self.node.name]) > 1:
            devices = policy.heard(self.node.name, question.devices, maps)
            threshold = policy.thresholds(question.thresholds, devices).get(self._tier)
            if threshold is not None and is_unsure(logits, threshold):
                remains = left - (time.perf_counter() - start) - _MARGIN
                await self._pass_on(question, devices, verdict, remains)
        return verdict

    async def forward(self, _: str, question: Question, __: float | None) -> Accepted:
        """Sends the feature map of a ticket to the receiver, or past it.

        Raises:
            RefusalError: It has none, or the receiver is out of reach.
        """
        peer = self.node.skip_receiver if question.past_receiver else self.node.receiver
        self._send_up(question.ticket, peer)
        return Accepted()

    async def _compute(self, ticket: int, maps: dict[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
        """Logits `(classes,)` of its exit, if it has one; keeps its feature map, if it sends one."""
        if self._adapters:
            adapted = await asyncio.gather(
                *(self._adapters[sender].submit({sender: content}) for sender, content in maps.items())
            )
            maps = {sender: answer["features"] for sender, answer in zip(maps, adapted, strict=True)}
        outputs = await self._batcher.submit(self._network.joined(self.node.name, maps))
        if self.node.output is not None:
            self._features[ticket] = self.node.output.encode(outputs["features"][0])
        logits: NDArray[np.float32] | None = outputs["logits"][0] if "logits" in outputs else None
        return logits

    async def _pass_on(
        self, question: Question, devices: Iterable[str], verdict: Verdict, left: float
    ) -> None:
        """Has the receiver decide; if it cannot, this node's verdict stands and is degraded."""
        if self._receiver is None:
            return
        try:
            self._send_up(question.ticket, self.node.receiver)
            onward = Question(
                ticket=question.ticket,
                senders=[self.node.name],
                thresholds=question.thresholds,
                devices=devices,
            )
            above = await self._receiver.call("Upper/Decide", onward, Verdict, max(left, 0.001))
        except grpc.aio.AioRpcError as error:
            verdict.degraded, verdict.reason = True, f"{self._receiver.peer}: {error.code().name.lower()}"
        except RefusalError as refusal:
            verdict.degraded, verdict.reason = True, f"{self._receiver.peer}: {refusal.reason}"
        else:
            verdict.exits.extend(above.exits)
            verdict.degraded, verdict.reason = above.degraded, above.reason

    def _send_up(self, ticket: int, peer: str | None) -> None:
        features = self._features.get(ticket)
        if self.node.skip_receiver in (None, peer):
            self._features.pop(ticket, None)  # else it may have to go past the receiver, too
        if features is None or peer is None:
            raise RefusalError(
                grpc.StatusCode.NOT_FOUND, "ticket", f"{self.node.name} has no features of this ticket."
            )
        if not self.channels[peer].send(Payload(ticket=ticket, content=features)):
            raise RefusalError(grpc.StatusCode.UNAVAILABLE, "unreachable", f"{peer} is out of reach.")

    async def _collect(
        self, question: Question, wait: float
    ) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
        """What a ticket's senders delivered, in the order of the topology, and those that have nothing."""
        ticket = self._ticket(question.ticket)
        # Who has no stream open cannot deliver, and is not waited for.
        ticket.gather = Gather(
            sender
            for sender in question.awaited or question.senders
            if sender in self._open and sender not in ticket.maps
        )
        self._collecting.add(question.ticket)
        try:
            await ticket.gather.wait(wait)
        finally:
            self._collecting.discard(question.ticket)
            self._drop(question.ticket)
        maps = {}
        for sender in self._specs:
            content = ticket.maps.get(sender)
            if sender in question.senders and content is not None:
                maps[sender] = content
            elif sender in question.senders or sender not in self.node.skips:
                self._metrics.missing.labels(sender).inc()
        # Without class vectors a local aggregator says so, and nothing has failed: the devices are absent.
        if not maps and self.node.role is not Role.LOCAL:
            raise RefusalError(
                grpc.StatusCode.UNAVAILABLE,
                "no_features",
                f"No feature map reached {self.node.name} in time.",
            )
        return maps, [sender for sender, content in ticket.maps.items() if content is None]

    def _ticket(self, number: int) -> _Ticket:
        return self._tickets.setdefault(number, _Ticket(time.monotonic()))

    def _forget_old(self) -> None:
        """Drops what was delivered long ago and that nobody has asked about."""
        oldest = time.monotonic() - _KEPT_SECONDS
        while self._tickets:
            number, ticket = next(iter(self._tickets.items()))
            if ticket.made >= oldest or number in self._collecting:
                break
            self._metrics.late.inc()
            self._drop(number)

    def _drop(self, number: int) -> None:
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            self._unasked.subtract(ticket.maps.keys())

    def receive(self, sender: str, message: Delivery) -> None:
        """Takes what a sender delivers.

        Raises:
            RefusalError: A payload of another shape, or one sent twice.
        """
        self._forget_old()
        for payload in message.maps:
            content = None
            if not payload.absent:
                try:
                    content = self._specs[sender].decode(payload.content)
                except ValueError as error:
                    raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, "shape", str(error)) from None
            known = self._tickets.get(payload.ticket)
            if known is not None and sender in known.maps:
                raise RefusalError(
                    grpc.StatusCode.INVALID_ARGUMENT, "replayed", f"{sender} delivered for a ticket twice."
                )
            if self._unasked[sender] >= _KEPT_OF_SENDER:
                raise RefusalError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "overload",
                    f"{sender} has delivered for {_KEPT_OF_SENDER} tickets that nobody asks about.",
                )
            ticket = self._ticket(payload.ticket)
            self._unasked[sender] += 1
            ticket.maps[sender] = content
            self._metrics.payload.labels(link_name(sender, self.node.name)).inc(len(payload.content))
            ticket.settle(sender)

    def opened(self, sender: str, session: _Delivering) -> None:
        """Notes a sender's stream; a new one takes the place of an old one."""
        if sender in self._open:
            self._open[sender].replaced.set()
        else:
            self._metrics.attached.inc()
        self._open[sender] = session

    def closed(self, sender: str, session: _Delivering) -> None:
        """A sender's stream has ended; what was waited for of it is not."""
        if self._open.get(sender) is not session:
            return
        del self._open[sender]
        self._metrics.attached.dec()
        for number in self._collecting:
            self._tickets[number].settle(sender)


class _Delivering:
    """The stream of one sender."""

    outbox: Outbox | None = None

    def __init__(self, upper: Upper, sender: str) -> None:
        self._upper, self._sender = upper, sender
        self.replaced = asyncio.Event()
        upper.opened(sender, self)

    def receive(self, message: Delivery) -> None:
        self._upper.receive(self._sender, message)

    def pack(self, items: list[Payload]) -> Accepted:
        raise NotImplementedError("Nothing is sent down this stream.")

    def close(self) -> None:
        self._upper.closed(self._sender, self)
