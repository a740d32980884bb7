"""An edge or the cloud: aggregates feature maps, runs its section, and decides or passes on.

Senders deliver feature maps over streams; the aggregator (for the cloud above a single edge, the edge)
asks for a verdict on a ticket. Whichever comes first waits for the other. Requests that arrive together
run together.

Source: Teerapittayanon et al. 2017, Section III-D.
"""

from __future__ import annotations

import asyncio
import collections
import time
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from ddnn_tf.exits import is_confident, normalized_entropy, softmax
from ddnn_tf.runtime.batching import Batcher
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.ddnn_v1_pb2 import (
    Accepted,
    Delivery,
    ExitReport,
    LinkBytes,
    Payload,
    Question,
    Verdict,
)
from ddnn_tf.runtime.device import delivery
from ddnn_tf.runtime.gathering import Gathering
from ddnn_tf.runtime.links import Link, Outbox
from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Upper"]

_KEPT = 4096  # feature maps of an edge's own
_KEPT_OF_SENDER = 1024  # tickets that a sender has delivered for and nobody has asked about
_KEPT_SECONDS = 10.0
_DEADLINE = 10.0
_MARGIN = 0.02


@dataclass
class _Ticket:
    """What has been delivered for a ticket, and what is waited for."""

    made: float
    maps: dict[str, NDArray[np.float32] | None] = field(default_factory=dict)
    gathering: Gathering | None = None  # while somebody asks

    def settle(self, name: str) -> None:
        if self.gathering is not None:
            self.gathering.settle(name)


class Upper:
    """An edge, or the cloud.

    Args:
        name: `edge_0`, ..., or `cloud`.
        network: The network.
        metrics: Its metrics.
        engine: What its section runs on.
        cloud: An edge's way to the cloud.
        wait: Seconds to wait for feature maps.

    Raises:
        ValueError: The network has no such section.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        metrics: Metrics,
        *,
        engine: str = "tflite",
        cloud: Caller | None = None,
        wait: float = 0.5,
    ) -> None:
        known = (*network.topology.edge_names, "cloud")
        if name not in known:
            raise ValueError(f"Expected an edge or the cloud out of {', '.join(known)}, but got {name!r}.")
        self.name, self._network, self._metrics, self._wait = name, network, metrics, wait
        self._batcher = Batcher(network.runner(name, engine), observe=metrics.batch.observe)
        self._tickets: collections.OrderedDict[int, _Ticket] = collections.OrderedDict()
        self._open: dict[str, _Delivering] = {}
        self._collecting: set[int] = set()
        self._unasked: collections.Counter[str] = collections.Counter()
        self._features: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._codecs = {sender: network.codec_to(name, sender) for sender in network.senders(name)}
        self._cloud = cloud
        self.link: Link | None = None
        if cloud is not None:
            self.link = Link(cloud, "Upper/Deliver", delivery, Accepted)

    def close(self) -> None:
        """Ends its thread."""
        self._batcher.close()

    def open(self, sender: str) -> _Delivering:
        """A sender's stream has opened."""
        return _Delivering(self, sender)

    async def decide(self, _: str, question: Question, remaining: float | None) -> Verdict:
        """Decides on a ticket.

        Raises:
            RefusalError: An unknown sender, nothing delivered in time, or too many samples.
        """
        start = time.perf_counter()
        left = min(remaining or _DEADLINE, 60.0)
        unknown = [sender for sender in question.senders if sender not in self._codecs]
        if unknown or not question.senders:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "sender",
                f"Expected senders out of {', '.join(self._codecs)}, but got {', '.join(unknown) or 'none'}.",
            )
        maps = await self._collect(question, min(self._wait, left / 2))
        found = await self._batcher.submit(self._network.aggregate(self.name, maps))
        logits = found["logits"][0]
        if "features" in found:
            codec = self._network.codec_to("cloud", self.name)
            self._remember(question.ticket, codec.encode(found["features"][0]))
        verdict = Verdict(
            exits=[
                ExitReport(
                    name=self.name,
                    logits=self._network.class_vector.encode(logits),
                    senders=list(maps),
                    seconds=time.perf_counter() - start,
                )
            ],
            links=[
                LinkBytes(link=f"{sender} -> {self.name}", payload=self._codecs[sender].size)
                for sender in maps
            ],
        )
        self._metrics.samples.labels("decided").inc()
        self._metrics.latency.labels(self.name.split("_")[0]).observe(time.perf_counter() - start)
        if question.decide and self._is_unsure(logits, question.threshold):
            await self._pass_on(question.ticket, verdict, left - (time.perf_counter() - start) - _MARGIN)
        return verdict

    async def forward(self, _: str, question: Question, __: float | None) -> Accepted:
        """Sends the feature map of a ticket to the cloud.

        Raises:
            RefusalError: It has none, or the cloud is out of reach.
        """
        self._send_up(question.ticket)
        return Accepted()

    def _is_unsure(self, logits: NDArray[np.float32], threshold: float) -> bool:
        return not is_confident(normalized_entropy(softmax(logits)), threshold)

    async def _pass_on(self, ticket: int, verdict: Verdict, left: float) -> None:
        """Has the cloud decide; if it cannot, the edge's verdict stands and is degraded."""
        assert self._cloud is not None
        try:
            self._send_up(ticket)
            question = Question(ticket=ticket, senders=[self.name])
            above = await self._cloud.call("Upper/Decide", question, Verdict, max(left, 0.001))
        except grpc.aio.AioRpcError as error:
            verdict.degraded, verdict.reason = True, f"cloud: {error.code().name.lower()}"
        except RefusalError as refusal:
            verdict.degraded, verdict.reason = True, f"cloud: {refusal.reason}"
        else:
            verdict.exits.extend(above.exits)
            verdict.links.extend(above.links)

    def _send_up(self, ticket: int) -> None:
        features = self._features.pop(ticket, None)
        if features is None or self.link is None:
            raise RefusalError(
                grpc.StatusCode.NOT_FOUND, "ticket", f"{self.name} has no features of this ticket."
            )
        if not self.link.send(Payload(ticket=ticket, content=features)):
            raise RefusalError(grpc.StatusCode.UNAVAILABLE, "unreachable", "The cloud is out of reach.")

    def _remember(self, ticket: int, features: bytes) -> None:
        self._features[ticket] = features
        while len(self._features) > _KEPT:
            self._features.popitem(last=False)

    async def _collect(self, question: Question, wait: float) -> dict[str, NDArray[np.float32]]:
        """The feature maps of a ticket's senders, in the order of the topology."""
        ticket = self._ticket(question.ticket)
        # Who has no stream open cannot deliver, and is not waited for.
        ticket.gathering = Gathering(
            sender for sender in question.senders if sender in self._open and sender not in ticket.maps
        )
        self._collecting.add(question.ticket)
        try:
            await ticket.gathering.wait(wait)
        finally:
            self._collecting.discard(question.ticket)
            self._drop(question.ticket)
        found = {}
        for sender in self._codecs:
            content = ticket.maps.get(sender)
            if sender in question.senders and content is not None:
                found[sender] = content
            else:
                self._metrics.missing.labels(sender).inc()
        if not found:
            raise RefusalError(
                grpc.StatusCode.UNAVAILABLE, "no_features", f"No feature map reached {self.name} in time."
            )
        return found

    def _ticket(self, number: int) -> _Ticket:
        return self._tickets.setdefault(number, _Ticket(time.monotonic()))

    def _forget_old(self) -> None:
        """Drops what was delivered long ago and that nobody has asked about."""
        oldest = time.monotonic() - _KEPT_SECONDS
        while self._tickets and next(iter(self._tickets.values())).made < oldest:
            if (number := next(iter(self._tickets))) in self._collecting:
                break
            self._metrics.late.inc()
            self._drop(number)

    def _drop(self, number: int) -> None:
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            self._unasked.subtract(ticket.maps.keys())

    def receive(self, sender: str, message: Delivery) -> None:
        """Takes feature maps.

        Raises:
            RefusalError: One of another shape, or sent twice.
        """
        self._forget_old()
        for one in message.maps:
            features = None
            if not one.absent:
                try:
                    features = self._codecs[sender].decode(one.content)
                except ValueError as error:
                    raise RefusalError(grpc.StatusCode.INVALID_ARGUMENT, "shape", str(error)) from None
            known = self._tickets.get(one.ticket)
            if known is not None and sender in known.maps:
                raise RefusalError(
                    grpc.StatusCode.INVALID_ARGUMENT, "replayed", f"{sender} sent a feature map twice."
                )
            if self._unasked[sender] >= _KEPT_OF_SENDER:
                raise RefusalError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "overload",
                    f"{sender} has delivered for {_KEPT_OF_SENDER} tickets that nobody asks about.",
                )
            ticket = self._ticket(one.ticket)
            self._unasked[sender] += 1
            ticket.maps[sender] = features
            self._metrics.payload.labels(f"{sender} -> {self.name}").inc(len(one.content))
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
