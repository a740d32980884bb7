"""Streams that stay open, and what waits to be sent on them.

A `Channel` is the calling end of a stream. When the stream breaks, the channel opens it again, after pauses
that grow and are drawn at random, so that neighbours do not all call at once. What waits to be sent stands in
an `Outbox`: bounded, and emptied in one message, so that a busy stream carries many samples a message and an
idle one is not slowed.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import Message

from ddnn_tf.runtime.calls import SERVICE, Caller, RejectedError

__all__ = ["Channel", "Outbox", "first_of", "message_limit", "within"]

_TOGETHER = 64
_BYTES = 1 << 18
_OVERHEAD = 64  # bytes of an item beside its payload, at most
# Seconds after which a stream is opened anew, and a sample or two of it is missed.
_LEASE = 86_400.0
_CONNECT = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_log = logging.getLogger(__name__)
Result = TypeVar("Result")


def message_limit(payload: int) -> int:
    """Bytes of the largest message that an outbox makes of items with payloads of so many bytes."""
    return _BYTES + payload + (_TOGETHER + 1) * _OVERHEAD


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
        taken: list[Any] = []
        size = 0
        while self._items and len(taken) < _TOGETHER and size < _BYTES:
            taken.append(self._items.popleft())
            size += len(getattr(taken[-1], "content", b""))
        if not self._items:
            self._some.clear()
        return taken

    def clear(self) -> None:
        """Forgets all."""
        self._items.clear()
        self._some.clear()


class Channel:
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
            RejectedError: The peer does not want this process, and never did. One that once did is asked
                again and again: it may be restarted wrongly, or another may listen in its place.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._once()
            except grpc.aio.AioRpcError as error:
                try:
                    self._problem = self._caller.problem(error)
                except RejectedError as rejected:
                    if not self._was_up.is_set():
                        raise
                    self._problem = str(rejected)
            except asyncio.TimeoutError:
                self._problem = "no answer"
            except Exception as error:
                self._problem = f"{type(error).__name__}: {error}"
                _log.exception("a message could not be dealt with")
            finally:
                was_up, self.is_up = self.is_up, False
                self._outbox.clear()
            pause = _FIRST_PAUSE if was_up else min(_LONGEST_PAUSE, 2 * pause)
            fields = {"peer": self._caller.peer, "problem": self._problem}
            _log.log(logging.WARNING if was_up else logging.DEBUG, "link lost", extra={"fields": fields})
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def _once(self) -> None:
        method: Any = self._caller.channel.stream_stream(f"/{SERVICE}.{self._path}")
        call = method(timeout=_LEASE, metadata=self._caller.metadata)
        try:
            await within(call.read(), _CONNECT)
            self.is_up = True
            self._was_up.set()
            _log.info("link up", extra={"fields": {"peer": self._caller.peer}})
            ways = (self._reads(call), self._writes(call))
            await first_of([asyncio.ensure_future(way) for way in ways])
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


async def first_of(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Waits until one task ends, ends the others, and raises what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def within(work: Coroutine[Any, Any, Result], timeout: float | None) -> Result:
    """What some work gives, if it is done within `timeout` seconds.

    Before Python 3.12 `asyncio.wait_for` can lose a cancellation that comes as the work is done; a
    process would then never end.

    Raises:
        asyncio.TimeoutError: It is not.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=timeout)
        if not done:
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()
        # gRPC may answer the cancellation with a failure, for which nobody asks any more.
        task.add_done_callback(_forget)


def _forget(task: asyncio.Future[Any]) -> None:
    """Takes what a task that was given up raises, so that asyncio does not report it on stderr."""
    if not task.cancelled():
        task.exception()
