"""Calls to another process: who asks whom, over mutual TLS, with protocol and network named.

`RefusalError` is why a server does not serve a call; `RejectedError` why a process cannot work with a peer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ddnn_tf.runtime.security import Certificates, host_and_port, is_loopback, server_name

__all__ = [
    "KEEPALIVE",
    "NAME_KEY",
    "NETWORK_KEY",
    "PROTOCOL",
    "PROTOCOL_KEY",
    "SERVICE",
    "Caller",
    "RefusalError",
    "RejectedError",
]

PROTOCOL = "1"
SERVICE = "ddnn.v1"
PROTOCOL_KEY, NETWORK_KEY, NAME_KEY = "ddnn-protocol", "ddnn-network", "ddnn-name"
"""Metadata of every call."""

KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
"""Options by which both ends notice that the other is gone."""

_OPTIONS = [
    *KEEPALIVE,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection of its own for each process's peer, also where several run in one process.
    ("grpc.use_local_subchannel_pool", 1),
]
_CHECK, _PAUSE = 5.0, 0.05
_REJECTIONS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
)


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
        self.metadata = ((PROTOCOL_KEY, PROTOCOL), (NETWORK_KEY, fingerprint), (NAME_KEY, name))
        self.options: list[tuple[str, Any]] = list(_OPTIONS)
        self._credentials = None
        if certificates is not None:
            self._credentials = certificates.for_client()
            self.options.append(("grpc.ssl_target_name_override", server_name(peer)))
        self._channel: grpc.aio.Channel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection, opened when it is first asked for, in a running event loop."""
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
        method: Any = self.channel.unary_unary(f"/{SERVICE}.{path}")
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
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=min(left, _CHECK))
                return
            except grpc.aio.AioRpcError as error:
                problem = self.problem(error)
                await asyncio.sleep(_PAUSE)
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
