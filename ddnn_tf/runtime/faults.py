"""Faults of a local cluster, in time: processes killed and revived, links cut and delayed.

A link is cut or delayed in a proxy that stands in it; TLS goes through untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Fault", "Proxy", "read_faults"]

_CHUNK = 1 << 16
_AT = re.compile(r"(?P<name>\w+)@(?P<at>\d+)")
_SPAN = re.compile(r"(?P<name>\w+)@(?P<at>\d+)(-(?P<until>\d+))?")
_DELAY = re.compile(r"(?P<name>\w+)=(?P<ms>\d+(\.\d+)?)ms(@(?P<at>\d+)(-(?P<until>\d+))?)?")


@dataclass(frozen=True)
class Fault:
    """Something that happens before a sample is submitted.

    Attributes:
        kind: `kill`, `revive`, `cut`, `mend` or `delay`.
        name: The process.
        at: Before which sample, counted from 0.
        seconds: Of a delay.
    """

    kind: str
    name: str
    at: int
    seconds: float = 0.0

    @property
    def is_end(self) -> bool:
        """Whether it ends a fault rather than begins one."""
        return self.kind == "mend" or (self.kind == "delay" and not self.seconds)


def read_faults(
    kill: Sequence[str], revive: Sequence[str], partition: Sequence[str], delay: Sequence[str]
) -> list[Fault]:
    """Faults as the command line gives them, in the order of their time.

    Args:
        kill: `NAME@SAMPLE`.
        revive: `NAME@SAMPLE`.
        partition: `NAME@FROM-TO`, or `NAME@FROM` for good.
        delay: `NAME=80ms@FROM-TO`, `NAME=80ms@FROM` for good, `NAME=80ms` from the start.

    Raises:
        ValueError: Something else.
    """
    found = []
    for kind, given in (("kill", kill), ("revive", revive)):
        for text in given:
            match = _match(_AT, text, f"--{kind}", "device_3@200")
            found.append(Fault(kind, match["name"], int(match["at"])))
    for text in partition:
        match = _match(_SPAN, text, "--partition", "device_3@200-300")
        found += _span("cut", "mend", match, 0.0, text)
    for text in delay:
        match = _match(_DELAY, text, "--delay", "device_2=80ms or device_2=80ms@200-300")
        found += _span("delay", "delay", match, float(match["ms"]) / 1000, text)
    return sorted(found, key=lambda fault: fault.at)


class Proxy:
    """A TCP proxy on loopback that can be cut and delayed.

    Args:
        target: `host:port` that it stands in front of.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay = 0.0
        """Seconds by which each piece is late, in both directions."""

    @property
    def address(self) -> str:
        """Where it listens, once started."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def partition(self, is_cut: bool) -> None:
        """Holds everything back, as a cut cable does, while connections stay open; or lets it through."""
        (self._flows.clear if is_cut else self._flows.set)()

    async def start(self) -> None:
        """Listens on a free port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def close(self) -> None:
        """Ends it and all its connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far: asyncio.StreamWriter | None = None
        try:
            await self._flows.wait()
            back, far = await asyncio.open_connection(*self._target)
            pumps = [asyncio.ensure_future(self._pump(*pair)) for pair in ((reader, far), (back, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # nobody listens there now: the caller's connection ends, as without the proxy
        finally:
            for end in (writer, far):
                if end is not None:
                    end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries bytes one way; what is read early waits for its time in order."""
        loop = asyncio.get_running_loop()
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def read() -> None:
            try:
                while content := await reader.read(_CHUNK):
                    await self._flows.wait()
                    await line.put((loop.time() + self.delay, content))
            except OSError:
                pass  # reset, as by a process that was killed: what came before still goes through
            await line.put((0.0, b""))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, content = await line.get()
                if not content:
                    return
                if (late := due - loop.time()) > 0:
                    await asyncio.sleep(late)
                await self._flows.wait()
                writer.write(content)
                await writer.drain()
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await reading


def _match(pattern: re.Pattern[str], text: str, option: str, example: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError(f"Expected {option} like {example}, but got {text!r}.")
    return match


def _span(begin: str, end: str, match: re.Match[str], seconds: float, text: str) -> list[Fault]:
    at = int(match["at"] or 0)
    faults = [Fault(begin, match["name"], at, seconds)]
    if match["until"] is not None:
        if int(match["until"]) <= at:
            raise ValueError(f"Expected a span that ends after it begins, but got {text!r}.")
        faults.append(Fault(end, match["name"], int(match["until"])))
    return faults
