"""Calls and streams between tiers: gRPC with every caller's name, protocol and network checked.

A `Server` admits a call only if the caller's certificate carries the name it gives, the method is for
that name, and protocol and network are its own; it parses messages itself, within a size, so that each
one refused is answered with a status and counted. A `Link` is the other end of a long-lived stream: it
is opened again, later and later and never at the same moment as its neighbours', when it breaks.

What waits to be sent stands in an `Outbox`: bounded, and emptied in one message, so that a busy stream
carries many samples a message and an idle one is not slowed.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ddnn_tf.runtime.ddnn_v1_pb2 import Accepted
from ddnn_tf.runtime.security import (
    CLIENT,
    Certificates,
    has_name,
    host_and_port,
    is_loopback,
    joined,
    server_name,
)
from ddnn_tf.runtime.telemetry import Metrics

__all__ = [
    "PROTOCOL",
    "Caller",
    "Link",
    "Outbox",
    "RefusalError",
    "RejectedError",
    "Server",
    "Session",
    "is_refusal",
]

PROTOCOL = "1"

_PROTOCOL_KEY, _NETWORK_KEY, _NAME_KEY = "ddnn-protocol", "ddnn-network", "ddnn-name"
_SERVICE = "ddnn.v1"
_LARGEST = 4 << 20  # what gRPC takes off the wire at all; a method's own limit is below
_CALLS = 4096
_LEASE = 3600.0  # seconds after which a stream is opened anew
_CONNECT = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_TOGETHER = 64
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
_SERVER_OPTIONS = [
    *_KEEPALIVE,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_receive_message_length", _LARGEST),
    # Else two processes may listen on one port, and each get half of the calls.
    ("grpc.so_reuseport", 0),
]
_CHANNEL_OPTIONS = [
    *_KEEPALIVE,
    ("grpc.max_receive_message_length", _LARGEST),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A channel of its own for each process's peer, also where several run in one process.
    ("grpc.use_local_subchannel_pool", 1),
]
_REJECTIONS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
)
_log = logging.getLogger(__name__)


class RefusalError(Exception):
    """Why a call or message is not served.

    Args:
        code: The gRPC status.
        reason: One word for the metrics, e.g. `overload`.
        message: One sentence.
    """

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class RejectedError(ConnectionError):
    """A peer will never talk to this process: wrong certificate, name, protocol or network."""


class Outbox:
    """What waits to be sent on one stream.

    Args:
        limit: The most items that wait; further ones are dropped.
        linger: Gives the seconds to wait for more items after the first.
    """

    def __init__(self, limit: int = 4096, linger: Callable[[], float] = lambda: 0.0) -> None:
        self._items: collections.deque[Any] = collections.deque()
        self._limit, self._linger, self._some = limit, linger, asyncio.Event()

    def put(self, item: Any) -> bool:
        """Adds an item; False if there is no room."""
        if len(self._items) >= self._limit:
            return False
        self._items.append(item)
        self._some.set()
        return True

    async def take(self) -> list[Any]:
        """All that waits, at most as many as one message carries; waits for the first."""
        await self._some.wait()
        if seconds := self._linger():
            await asyncio.sleep(seconds)
        taken = [self._items.popleft() for _ in range(min(_TOGETHER, len(self._items)))]
        if not self._items:
            self._some.clear()
        return taken

    def clear(self) -> None:
        """Forgets all."""
        self._items.clear()
        self._some.clear()


class Session(Protocol):
    """A server's side of a stream.

    Attributes:
        outbox: What is to be sent; None if nothing ever is.
        replaced: Set when the same caller has opened another stream; this one ends then.
    """

    @property
    def outbox(self) -> Outbox | None: ...

    @property
    def replaced(self) -> asyncio.Event: ...

    def receive(self, message: Any) -> None:
        """Takes a message.

        Raises:
            RefusalError: It is not acceptable; the stream ends with that status.
        """

    def pack(self, items: list[Any]) -> Message:
        """One message of several items of the outbox."""

    def close(self) -> None:
        """The stream has ended."""


class Server:
    """The gRPC server of a process.

    Args:
        name: Of the process, e.g. `cloud`.
        fingerprint: Of its network.
        metrics: Where refusals are counted.
        certificates: For mutual TLS; None: plaintext, on loopback only.
    """

    def __init__(
        self, name: str, fingerprint: str, metrics: Metrics, certificates: Certificates | None
    ) -> None:
        self._name, self._fingerprint, self._metrics = name, fingerprint, metrics
        self._certificates = certificates
        self._server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=_CALLS)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._handlers: dict[str, dict[str, Any]] = {}
        self._running, self._is_draining = 0, False

    def unary(
        self,
        path: str,
        peers: Collection[str],
        kind: type[Message],
        handler: Callable[[str, Any, float | None], Awaitable[Message]],
        limit: int,
    ) -> None:
        """Adds a method.

        Args:
            path: `Aggregator/Classify`.
            peers: Names that may call it.
            kind: The message that it takes.
            handler: Is given the caller's name, the message and the seconds left; gives the reply.
            limit: Bytes of the message.
        """

        async def serve(content: bytes, context: Any) -> bytes:
            self._running += 1
            try:
                peer = self._admit(context, peers)
                if self._is_draining:
                    raise RefusalError(
                        grpc.StatusCode.UNAVAILABLE, "draining", f"{self._name} is shutting down."
                    )
                message = self._parse(content, kind, limit)
                return (await handler(peer, message, context.time_remaining())).SerializeToString()
            except RefusalError as refusal:
                return await self._refuse(context, refusal)
            except Exception:
                return await self._fail(context)
            finally:
                self._running -= 1

        self._add(path, grpc.unary_unary_rpc_method_handler(serve))

    def stream(
        self,
        path: str,
        peers: Collection[str],
        kind: type[Message],
        opened: Callable[[str], Session],
        limit: int,
    ) -> None:
        """Adds a method whose callers hold a stream open; arguments as of `unary`."""

        async def serve(contents: Any, context: Any) -> None:
            session: Session | None = None
            try:
                peer = self._admit(context, peers)
                session = opened(peer)
                await context.write(Accepted().SerializeToString())
                tasks = [
                    asyncio.ensure_future(self._read(contents, session, kind, limit)),
                    asyncio.ensure_future(_replacement(session, peer)),
                ]
                if session.outbox is not None:
                    tasks.append(asyncio.ensure_future(self._write(context, session, session.outbox)))
                await _first_of(tasks)
            except RefusalError as refusal:
                await self._refuse(context, refusal)
            except Exception:
                await self._fail(context)
            finally:
                if session is not None:
                    session.close()

        self._add(path, grpc.stream_stream_rpc_method_handler(serve))

    async def start(self, address: str) -> str:
        """Listens.

        Args:
            address: `host:port`; port 0 takes a free one.

        Returns:
            The address, with its port.

        Raises:
            OSError: The port is in use.
            ValueError: Plaintext on an address that others can reach, or no address.
        """
        host = host_and_port(address)[0]
        if self._certificates is None and not is_loopback(address):
            raise ValueError(
                f"Expected a loopback address without TLS, but got {address!r}: others could read and forge "
                "messages there; give --certs."
            )
        for service, methods in self._handlers.items():
            generic = grpc.method_handlers_generic_handler(f"{_SERVICE}.{service}", methods)
            self._server.add_generic_rpc_handlers((generic,))
        try:
            if self._certificates is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, self._certificates.for_server())
        except RuntimeError:
            raise OSError(
                f"Cannot listen at {address}: the port is in use, or the address is not this machine's."
            ) from None
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        return joined(host, bound)

    async def stop(self, grace: float) -> None:
        """Takes no new calls, lets those running end within `grace` seconds, and closes."""
        self._is_draining = True
        await self._health.enter_graceful_shutdown()
        end = time.monotonic() + grace
        while self._running and time.monotonic() < end:
            await asyncio.sleep(0.01)
        await self._server.stop(0)

    def _add(self, path: str, handler: Any) -> None:
        service, method = path.split("/")
        self._handlers.setdefault(service, {})[method] = handler

    def _admit(self, context: Any, peers: Collection[str]) -> str:
        """The caller's name, if it may call."""
        given = dict(context.invocation_metadata() or ())
        name = str(given.get(_NAME_KEY, ""))
        if self._certificates is not None and not has_name(context.auth_context(), name):
            raise RefusalError(
                grpc.StatusCode.PERMISSION_DENIED,
                "name",
                f"the caller's certificate does not carry the name {name[:64]!r}",
            )
        if name not in peers:
            raise RefusalError(
                grpc.StatusCode.PERMISSION_DENIED, "role", f"{name[:64]!r} may not call this of {self._name}"
            )
        if given.get(_PROTOCOL_KEY) != PROTOCOL:
            raise RefusalError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "version",
                f"{self._name} speaks protocol {PROTOCOL}, not {str(given.get(_PROTOCOL_KEY))[:16]!r}",
            )
        if name != CLIENT and given.get(_NETWORK_KEY) != self._fingerprint:
            raise RefusalError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "network",
                f"{self._name} serves another network than {name}: give both the same bundle",
            )
        return name

    def _parse(self, content: bytes, kind: type[Message], limit: int) -> Any:
        if len(content) > limit:
            raise RefusalError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "oversized",
                f"the message has {len(content)} bytes, {self._name} takes at most {limit}",
            )
        try:
            return kind.FromString(content)
        except DecodeError:
            raise RefusalError(
                grpc.StatusCode.INVALID_ARGUMENT, "malformed", f"this is no {kind.DESCRIPTOR.name} message"
            ) from None

    async def _read(self, contents: Any, session: Session, kind: type[Message], limit: int) -> None:
        async for content in contents:
            session.receive(self._parse(content, kind, limit))

    async def _write(self, context: Any, session: Session, outbox: Outbox) -> None:
        while True:
            await context.write(session.pack(await outbox.take()).SerializeToString())

    async def _refuse(self, context: Any, refusal: RefusalError) -> NoReturn:
        self._metrics.refused.labels(refusal.reason).inc()
        fields = {"reason": refusal.reason, "peer": context.peer(), "status": refusal.code.name}
        _log.debug("refused", extra={"fields": fields})
        await context.abort(refusal.code, str(refusal), (("ddnn-reason", refusal.reason),))
        raise AssertionError("abort always raises")

    async def _fail(self, context: Any) -> NoReturn:
        """A fault of ours: it costs this call, and not the process."""
        self._metrics.refused.labels("internal").inc()
        _log.exception("internal error", extra={"fields": {"peer": context.peer()}})
        await context.abort(grpc.StatusCode.INTERNAL, f"{self._name} failed; its log says why.")
        raise AssertionError("abort always raises")


class Caller:
    """A process's way to one peer.

    Args:
        name: Of this process.
        peer: Of the other.
        address: Where it listens, `host:port`.
        certificates: For mutual TLS; None: plaintext, on loopback only.
        fingerprint: Of this process's network; empty for clients.

    Raises:
        ValueError: No address, or plaintext to one that is not loopback.
    """

    def __init__(
        self, name: str, peer: str, address: str, certificates: Certificates | None, fingerprint: str = ""
    ) -> None:
        host_and_port(address)
        if certificates is None and not is_loopback(address):
            raise ValueError(
                f"Expected a loopback address without TLS, but got {address!r}: give --certs for others."
            )
        self.peer, self.address = peer, address
        self.metadata = ((_PROTOCOL_KEY, PROTOCOL), (_NETWORK_KEY, fingerprint), (_NAME_KEY, name))
        self.options: list[tuple[str, Any]] = list(_CHANNEL_OPTIONS)
        self._credentials = None
        if certificates is not None:
            self._credentials = certificates.for_client()
            self.options.append(("grpc.ssl_target_name_override", server_name(peer)))
        self._channel: grpc.aio.Channel | None = None

    def sync_channel(self) -> grpc.Channel:
        """A channel for threads; the caller of this closes it."""
        if self._credentials is None:
            return grpc.insecure_channel(self.address, self.options)
        return grpc.secure_channel(self.address, self._credentials, self.options)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel for asyncio, opened when it is first asked for."""
        if self._channel is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self.address, self.options)
            else:
                self._channel = grpc.aio.secure_channel(self.address, self._credentials, self.options)
        return self._channel

    async def call(self, path: str, message: Message, kind: type[Message], timeout: float) -> Any:
        """One call.

        Args:
            path: `Upper/Decide`.
            message: What to send.
            kind: The reply's type.
            timeout: Seconds.

        Raises:
            grpc.aio.AioRpcError: It failed; `code()` and `details()` say how.
        """
        method: Any = self.channel.unary_unary(f"/{_SERVICE}.{path}")
        content = await method(message.SerializeToString(), timeout=timeout, metadata=self.metadata)
        return kind.FromString(content)

    async def reach(self, timeout: float) -> None:
        """Waits until the peer answers that it is in health.

        Raises:
            ConnectionError: It does not, within `timeout` seconds.
            RejectedError: It is not whom its address should lead to.
        """
        end, problem = time.monotonic() + timeout, "no answer"
        stub = health_pb2_grpc.HealthStub(self.channel)
        while (left := end - time.monotonic()) > 0:
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=min(left, _CONNECT))
                return
            except grpc.aio.AioRpcError as error:
                problem = self.problem(error)
                await asyncio.sleep(_FIRST_PAUSE)
        raise ConnectionError(self.unreachable(timeout, problem))

    def problem(self, error: grpc.aio.AioRpcError) -> str:
        """Why a call failed, in words.

        Raises:
            RejectedError: It will fail for ever.
        """
        details = " ".join(str(error.details()).split())
        peer = f"{self.peer} at {self.address}"
        if error.code() in _REJECTIONS:
            raise RejectedError(f"{peer} refuses this process: {details}.") from None
        if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
            raise RejectedError(
                f"The certificate of {peer} is not one of '{self.peer}' by this process's authority."
            ) from None
        return details

    def unreachable(self, timeout: float, problem: str) -> str:
        """What to say of a peer that was not reached."""
        return f"Cannot reach {self.peer} at {self.address} within {timeout:g} s: {problem}."

    async def close(self) -> None:
        """Closes the channel."""
        if self._channel is not None:
            await self._channel.close()


class Link:
    """A stream to a peer that is kept open.

    Args:
        caller: The peer.
        path: `Aggregator/Attach`.
        pack: One message of several items.
        kind: What the peer sends.
        receive: Takes a message of the peer.
    """

    def __init__(
        self,
        caller: Caller,
        path: str,
        pack: Callable[[list[Any]], Message],
        kind: type[Message],
        receive: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._caller, self._path, self._pack = caller, path, pack
        self._kind, self._receive = kind, receive
        self._outbox = Outbox()
        self._was_up = asyncio.Event()
        self._problem = "no answer"
        self.is_up = False

    def send(self, item: Any) -> bool:
        """Sends an item; False if the peer is out of reach, or slower than what it is sent."""
        return self.is_up and self._outbox.put(item)

    async def ready(self, timeout: float) -> None:
        """Waits until the peer has been reached once.

        Raises:
            ConnectionError: It has not, within `timeout` seconds.
        """
        try:
            await asyncio.wait_for(self._was_up.wait(), timeout)
        except asyncio.TimeoutError:
            raise ConnectionError(self._caller.unreachable(timeout, self._problem)) from None

    async def run(self) -> None:
        """Keeps the stream open for as long as the task runs.

        Raises:
            RejectedError: The peer does not want this process.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._once()
            except grpc.aio.AioRpcError as error:
                self._problem = self._caller.problem(error)
            except asyncio.TimeoutError:
                self._problem = "no answer"
            finally:
                was_up, self.is_up = self.is_up, False
                self._outbox.clear()
            pause = _FIRST_PAUSE if was_up else min(_LONGEST_PAUSE, 2 * pause)
            fields = {"peer": self._caller.peer, "problem": self._problem}
            _log.log(logging.WARNING if was_up else logging.DEBUG, "link lost", extra={"fields": fields})
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def _once(self) -> None:
        method: Any = self._caller.channel.stream_stream(f"/{_SERVICE}.{self._path}")
        call = method(timeout=_LEASE, metadata=self._caller.metadata)
        try:
            await asyncio.wait_for(call.read(), _CONNECT)
            self.is_up = True
            self._was_up.set()
            _log.info("link up", extra={"fields": {"peer": self._caller.peer}})
            await _first_of([asyncio.ensure_future(one) for one in (self._reads(call), self._writes(call))])
        finally:
            call.cancel()

    async def _reads(self, call: Any) -> None:
        while (content := await call.read()) is not grpc.aio.EOF:
            self._receive(self._kind.FromString(content))
        self._problem = "the stream ended"

    async def _writes(self, call: Any) -> None:
        while True:
            try:
                await call.write(self._pack(await self._outbox.take()).SerializeToString())
            except asyncio.InvalidStateError:
                return  # the stream ended meanwhile


def is_refusal(error: grpc.RpcError, reason: str) -> bool:
    """Whether a failed call was refused for that reason."""
    return ("ddnn-reason", reason) in tuple(error.trailing_metadata() or ())


async def _replacement(session: Session, peer: str) -> None:
    await session.replaced.wait()
    raise RefusalError(
        grpc.StatusCode.UNAVAILABLE, "replaced", f"Another stream of {peer} has taken its place."
    )


async def _first_of(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Waits until one task ends, ends the others, and raises what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
