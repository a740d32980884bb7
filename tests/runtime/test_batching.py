"""Samples that arrive together run together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from ddnn_tf.runtime.batching import Batcher
from ddnn_tf.runtime.calls import RefusalError

Arrays = Mapping[str, NDArray[np.float32]]


def one(value: float) -> dict[str, NDArray[np.float32]]:
    return {"x": np.full((1, 2), value, np.float32)}


def test_each_gets_its_own_answer_and_those_that_wait_share_a_batch() -> None:
    sizes: list[int] = []
    go = threading.Event()

    def run(inputs: Arrays) -> Arrays:
        go.wait(10)
        return {"y": 2 * inputs["x"]}

    async def main() -> None:
        batcher = Batcher(run, most=4, observe=sizes.append)
        asked = [asyncio.ensure_future(batcher.submit(one(value))) for value in range(10)]
        await asyncio.sleep(0.05)
        asked.append(asyncio.ensure_future(batcher.submit(one(10))))
        go.set()
        for value, found in enumerate(await asyncio.gather(*asked)):
            np.testing.assert_array_equal(found["y"], np.full((1, 2), 2.0 * value))
        batcher.close()

    asyncio.run(main())
    assert sizes == [4, 4, 3]


def test_too_many_are_refused_and_what_fails_fails_alone() -> None:
    def run(inputs: Arrays) -> Arrays:
        if (inputs["x"] < 0).any():
            raise RuntimeError("negative")
        return inputs

    async def main() -> None:
        batcher = Batcher(run, most=1, limit=3)
        asked = [asyncio.ensure_future(batcher.submit(one(value))) for value in (1, -1, 2, 3, 4)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found[1], RuntimeError)
        assert [isinstance(each, RefusalError) for each in found] == [False, False, False, True, True]
        assert isinstance(found[3], RefusalError)
        assert found[3].reason == "overload"
        with pytest.raises(RuntimeError, match="negative"):
            await batcher.submit(one(-2))
        batcher.close()

    asyncio.run(main())
