"""Runs the processes that a plan (`ddnn_tf.plan`) gives to a unit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ddnn_tf.bundle import open_bundle
from ddnn_tf.plan import Plan
from ddnn_tf.runtime.process import SUPERVISED

__all__ = ["serve_unit"]

_END = 10.0


async def serve_unit(bundle: Path, plan: Plan, unit: str, options: Mapping[str, Sequence[str]]) -> int:
    """Runs the processes of a unit until it is told to end, or one of them ends.

    Args:
        bundle: The bundle that they serve.
        plan: The plan.
        unit: The unit.
        options: More options of `ddnn serve` by role: `device`, `aggregator`, `local`, `edge`, `cloud`.

    Returns:
        0 if it was told to end; otherwise the exit code of the process that ended.

    Raises:
        ValueError: The plan is not for this bundle's network, or the unit has nothing to do.
    """
    hierarchy = open_bundle(bundle).topology.hierarchy
    plan.check_fits(hierarchy)
    names = plan.of_unit(unit)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)
    running: list[asyncio.subprocess.Process] = []
    try:
        for name in names:
            role, *rest = plan.arguments(name, hierarchy)
            command = [sys.executable, "-m", "ddnn_tf.cli", "serve", role, str(bundle), *rest, *options[role]]
            running.append(
                # Its standard input ends with this process, however that ends, and so does it then.
                await asyncio.create_subprocess_exec(
                    *command, stdin=subprocess.PIPE, env={**os.environ, SUPERVISED: "1"}
                )
            )
        told = asyncio.ensure_future(ending.wait())
        waits = [asyncio.ensure_future(process.wait()) for process in running]
        done, pending = await asyncio.wait([told, *waits], return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        if told in done:
            return 0
        name, code = next((name, one.result()) for name, one in zip(names, waits, strict=True) if one in done)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        print(f"ddnn: {name} ended with {how}, and so does unit {unit}", file=sys.stderr, flush=True)
        return code if code >= 0 else 128 - code
    finally:
        for process in running:
            if process.returncode is None:
                process.terminate()
        for process in running:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), _END)
            if process.returncode is None:
                process.kill()
                await process.wait()
