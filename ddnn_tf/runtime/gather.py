"""Waiting until several senders have answered, or a deadline has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

__all__ = ["Gather"]


class Gather:
    """Waits for the answers of some senders; made in a running event loop.

    Args:
        names: Names of the senders.

    Attributes:
        waited_for: Those that have not settled yet.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.waited_for = set(names)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, name: str) -> None:
        """Notes that a sender has answered, or will not."""
        self.waited_for.discard(name)
        if not self.waited_for:
            self._end()

    async def wait(self, seconds: float) -> None:
        """Waits until all have settled, but at most `seconds`."""
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
