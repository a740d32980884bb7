"""Ctrl-C, which a terminal sends to every process of a command, reaches only the one that can answer it.

>>> with deferred_interrupts():
...     pass  # start worker processes
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

__all__ = ["deferred_interrupts"]


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Delays an interrupt (SIGINT) until the block ends.

    Threads and processes that start within the block inherit the mask, so they never see an interrupt: a
    worker does not print a traceback of its own, and whoever started it ends it. Without effect where
    there are no signal masks (Windows).
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its start unblocks SIGINT (Python before 3.13), and starting a worker would start it.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
