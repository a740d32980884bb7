"""Worker processes end with the process that started them, by Ctrl-C as by a kill.

Ctrl-C, which a terminal sends to every process of a command, reaches only the one that can answer it:

>>> with deferred_interrupts():
...     pass  # start worker processes
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker

__all__ = ["deferred_interrupts", "end_with_parent"]

_WATCH_S = 1.0


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


def end_with_parent(parent: int) -> None:
    """Makes this process end soon after the one that started it, even if that was killed.

    Args:
        parent: Process ID of that one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        # Nobody is left to take a result.
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
