"""Ctrl-C and worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from joblib.externals.loky import ProcessPoolExecutor

from ddnn_tf.interrupts import deferred_interrupts


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    # A job in the background of a shell ignores SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    steps = []

    def work() -> None:
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
            steps.append("inside")
        steps.append("behind")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["inside"]


def test_a_worker_never_sees_an_interrupt() -> None:
    with deferred_interrupts():
        executor = ProcessPoolExecutor(1)
        mask = executor.submit(signal.pthread_sigmask, signal.SIG_BLOCK, [])
    try:
        assert signal.SIGINT in mask.result()
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        executor.shutdown()
