"""Samples that arrive together run together: dynamic batching for edges and the cloud."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from ddnn_tf.runtime.calls import RefusalError

__all__ = ["Batcher"]

_Arrays = Mapping[str, NDArray[Any]]


class Batcher:
    """Runs samples in a thread, all that wait at once; nothing waits for others to come.

    Args:
        run: `(samples, ...)` by input to `(samples, ...)` by output.
        most: Samples of a batch.
        limit: Samples that may wait.
        observe: Is told the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[_Arrays], _Arrays],
        *,
        most: int = 32,
        limit: int = 1024,
        observe: Callable[[int], Any] = lambda _: None,
    ) -> None:
        self._run, self._most, self._limit, self._observe = run, most, limit, observe
        self._waiting: collections.deque[tuple[_Arrays, asyncio.Future[_Arrays]]] = collections.deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="section")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, inputs: _Arrays) -> _Arrays:
        """Runs one sample, `(1, ...)` by input.

        Raises:
            RefusalError: Too many wait already.
        """
        if len(self._waiting) >= self._limit:
            raise RefusalError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "overload", f"{self._limit} samples are waiting already"
            )
        answer: asyncio.Future[_Arrays] = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        return await answer

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            count = min(self._most, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            batch = [entry for entry in batch if not entry[1].done()]  # some gave up waiting
            if not batch:
                continue
            self._observe(len(batch))
            try:
                joined = {name: np.concatenate([inputs[name] for inputs, _ in batch]) for name in batch[0][0]}
                found = await loop.run_in_executor(self._thread, self._run, joined)
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for at, (_, answer) in enumerate(batch):
                if not answer.done():
                    answer.set_result({name: values[at : at + 1] for name, values in found.items()})
