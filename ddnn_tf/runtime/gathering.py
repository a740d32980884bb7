"""Waiting for several senders at once, until a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

__all__ = ["Gathering"]


class Gathering:
    """What is waited for of some senders; made in a running event loop.

    Args:
        names: Of the senders.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.waited_for = set(names)
        """Those that have not settled yet."""
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, name: str) -> None:
        """A sender has sent what is waited for, or will not."""
        self.waited_for.discard(name)
        if not self.waited_for:
            self._end()

    async def wait(self, seconds: float) -> None:
        """Waits until all have settled, but no longer than that."""
        if not self.waited_for:
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._end)
        try:
            await self._done
        finally:
            timer.cancel()

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
