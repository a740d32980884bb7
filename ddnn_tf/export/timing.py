"""How an engine is timed: what a target that offers a `clock` of its own uses.

A clock takes the inputs of a section, `SAMPLES` samples by sender, and the number of samples of a call, and
gives the seconds of each call, after some calls to warm up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from ddnn_tf.sections import Arrays, Runner

__all__ = ["SAMPLES", "WARM_UP", "Clock", "part", "runner_clock", "timed"]

SAMPLES = 256
"""Samples that are timed, which is also the size of the large batch."""

WARM_UP = 20
"""Calls of one sample before the first that counts: caches, lazy allocations and branch predictors settle."""

# A call of one sample takes microseconds, one of a batch milliseconds: both are timed for about as long.
_SINGLE_CALLS, _BATCH_CALLS = 300, 12
_BATCH_WARM_UP = 2

Clock = Callable[["Arrays", int], list[float]]
"""Inputs by sender and samples of a call to the seconds of each call."""


def timed(call: Callable[[int], Any], batch: int) -> list[float]:
    """Seconds of each call.

    Args:
        call: Takes the number of the call.
        batch: Samples of a call, which decides how often it is called.
    """
    is_single = batch == 1
    for number in range(WARM_UP if is_single else _BATCH_WARM_UP):
        call(number)
    seconds = []
    for number in range(_SINGLE_CALLS if is_single else _BATCH_CALLS):
        start = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - start)
    return seconds


def part(array: NDArray[Any], start: int, size: int) -> NDArray[Any]:
    """`size` samples from `start` on, which begins anew behind the last; a view, without copying."""
    first = start % len(array) if size < len(array) else 0
    return array[first : first + size]


def runner_clock(run: Runner) -> Clock:
    """The clock of a target that offers none: its runner, called with one batch after the other."""

    def clock(inputs: Arrays, batch: int) -> list[float]:
        def call(number: int) -> None:
            run({sender: part(array, number * batch, batch) for sender, array in inputs.items()})

        return timed(call, batch)

    return clock
