"""The gRPC server of a process: who may call what, and what is refused, with a status and counted.

A call is admitted only if the caller's certificate carries the name it gives, the method is for that name,
and protocol and network are the server's own; this is checked before any of its message is read. Messages
are parsed here, within a size.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ddnn_tf.runtime.calls import (
    KEEPALIVE,
    NAME_KEY,
    NETWORK_KEY,
    PROTOCOL,
    PROTOCOL_KEY,
    SERVICE,
    RefusalError,
)
from ddnn_tf.runtime.channels import Outbox, first_of, within
from ddnn_tf.runtime.ddnn_v1_pb2 import Accepted
from ddnn_tf.runtime.security import CLIENT, Certificates, has_name, host_and_port, is_loopback, joined
from ddnn_tf.runtime.telemetry import Metrics

__all__ = ["Server", "Session"]

_CALLS = 4096
_SLACK = 1 << 16  # bytes by which a message may be too long and still be refused by us, and counted
_OPTIONS = [
    *KEEPALIVE,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", 2048),
    # Else two processes may listen on one port, and each get half of the calls.
    ("grpc.so_reuseport", 0),
]
_LAST_WRITE = 1.0
_ARRIVAL = 5.0  # seconds within which the message of a call must be there
_log = logging.getLogger(__name__)


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
        self._server: grpc.aio.Server | None = None
        self._health = _Health()
        self._handlers: dict[str, dict[str, Any]] = {}
        self._largest = 0
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

        async def serve(contents: Any, context: Any) -> bytes:
            self._running += 1
            try:
                peer = self._admit(context, peers)
                if self._is_draining:
                    raise RefusalError(
                        grpc.StatusCode.UNAVAILABLE, "draining", f"{self._name} is shutting down."
                    )
                message = self._parse(await _arrived(contents), kind, limit)
                return (await handler(peer, message, context.time_remaining())).SerializeToString()
            except RefusalError as refusal:
                return await self._refuse(context, refusal)
            except Exception:
                return await self._fail(context)
            finally:
                self._running -= 1

        # On the wire a method of one message; but its caller is admitted before the message is read.
        self._add(path, grpc.stream_unary_rpc_method_handler(serve), limit)

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
                ways = (
                    self._read(contents, session, kind, limit),
                    self._write(context, session),
                    _replacement(session, peer),
                )
                await first_of([asyncio.ensure_future(way) for way in ways])
            except RefusalError as refusal:
                await self._refuse(context, refusal)
            except Exception:
                await self._fail(context)
            finally:
                if session is not None:
                    session.close()

        self._add(path, grpc.stream_stream_rpc_method_handler(serve), limit)

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
        options = [*_OPTIONS, ("grpc.max_receive_message_length", self._largest + _SLACK)]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_CALLS)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for service, methods in self._handlers.items():
            generic = grpc.method_handlers_generic_handler(f"{SERVICE}.{service}", methods)
            server.add_generic_rpc_handlers((generic,))
        try:
            if self._certificates is None:
                bound = server.add_insecure_port(address)
            else:
                bound = server.add_secure_port(address, self._certificates.for_server())
        except RuntimeError:
            raise OSError(
                f"Cannot listen at {address}: the port is in use, or the address is not this machine's."
            ) from None
        await server.start()
        self._server = server
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        return joined(host, bound)

    async def stop(self, grace: float) -> None:
        """Takes no new calls, lets those running end within `grace` seconds, and closes."""
        self._is_draining = True
        await self._health.enter_graceful_shutdown()
        end = time.monotonic() + grace
        while self._running and time.monotonic() < end:
            await asyncio.sleep(0.01)
        if self._server is not None:
            await self._server.stop(0)

    def _add(self, path: str, handler: Any, limit: int) -> None:
        self._largest = max(self._largest, limit)
        service, method = path.split("/")
        self._handlers.setdefault(service, {})[method] = handler

    def _admit(self, context: Any, peers: Collection[str]) -> str:
        """The caller's name, if it may call."""
        given = dict(context.invocation_metadata() or ())
        name = str(given.get(NAME_KEY, ""))
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
        if given.get(PROTOCOL_KEY) != PROTOCOL:
            raise RefusalError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "version",
                f"{self._name} speaks protocol {PROTOCOL}, not {str(given.get(PROTOCOL_KEY))[:16]!r}",
            )
        if name != CLIENT and given.get(NETWORK_KEY) != self._fingerprint:
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

    async def _write(self, context: Any, session: Session) -> None:
        if session.outbox is None:
            await session.replaced.wait()
            return
        while True:
            content = session.pack(await session.outbox.take()).SerializeToString()
            writing = asyncio.ensure_future(context.write(content))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                # gRPC sends no status while it still sends a message.
                await asyncio.wait([writing], timeout=_LAST_WRITE)
                raise

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


async def _replacement(session: Session, peer: str) -> None:
    await session.replaced.wait()
    raise RefusalError(
        grpc.StatusCode.UNAVAILABLE, "replaced", f"Another stream of {peer} has taken its place."
    )


async def _arrived(contents: Any) -> bytes:
    """The one message of a call."""
    try:
        return await within(contents.__aiter__().__anext__(), _ARRIVAL)
    except StopAsyncIteration:
        raise RefusalError(
            grpc.StatusCode.INVALID_ARGUMENT, "malformed", "The call has no message."
        ) from None
    except asyncio.TimeoutError:
        raise RefusalError(
            grpc.StatusCode.DEADLINE_EXCEEDED, "slow", f"The message did not come within {_ARRIVAL:g} s."
        ) from None


class _Health(health.aio.HealthServicer):
    """Says whether the process is in health when asked, but keeps no streams open for it."""

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Ask again instead of watching.")
