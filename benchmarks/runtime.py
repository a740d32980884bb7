"""The hierarchy as processes: latency and throughput beside bare gRPC, faults at random, memory over time.

    python benchmarks/runtime.py RUN                                   latency, throughput, where time goes
    python benchmarks/runtime.py RUN --chaos 20000                     processes killed and revived at random
    python benchmarks/runtime.py RUN --soak 600                        memory of each process, seconds
    python benchmarks/runtime.py RUN --device c                        memory and start of a device process

RUN is a run directory or a bundle. All with mutual TLS. The bare echoes carry the payloads of a sample
that leaves at the local exit, with the same certificates and the same gRPC settings: `one echo` is one
call to one process that holds nothing; `echo through six` is a call to a process that passes the class
vectors' bytes round over an open stream to each of as many processes as there are devices.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from rich.console import Console
from rich.table import Table

from ddnn_tf.bundle import open_bundle
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.client import Answer, ClassificationError
from ddnn_tf.runtime.cluster import Cluster, bundle_of, stream
from ddnn_tf.runtime.results import percentiles
from ddnn_tf.runtime.security import Certificates, create_certificates

_TASK, _ANSWER = 4, 250  # bytes of a question, and of an answer with its report
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    if sys.argv[1:2] == ["--echo"]:
        asyncio.run(_echo(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run directory, or a bundle")
    parser.add_argument("--samples", type=int, default=2000, help="of each measurement of time")
    parser.add_argument("--chaos", type=int, help="samples, with processes killed and revived at random")
    parser.add_argument("--soak", type=float, help="seconds of a constant stream")
    parser.add_argument("--device", metavar="ENGINE", help="start a device process on that engine ten times")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    bundle = bundle_of(options.run, options.device or "tflite", lambda text: print(text, file=sys.stderr))
    if options.chaos:
        found = asyncio.run(_chaos(bundle, options.chaos, options.seed))
    elif options.device:
        found = asyncio.run(_device(bundle, options.device))
    elif options.soak:
        found = asyncio.run(_soak(bundle, options.soak))
    else:
        found = asyncio.run(_times(bundle, options.samples))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for title, rows in found.items():
        if not isinstance(rows, list):
            print(f"{title}: {rows}")
            continue
        table = Table(title=title, title_justify="left")
        for column in rows[0]:
            table.add_column(column, justify="left" if column == next(iter(rows[0])) else "right")
        for row in rows:
            table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row.values()))
        Console(width=130).print(table)


async def _times(bundle: Path, samples: int) -> dict[str, Any]:
    """All in one run, one after the other: echoes, then the hierarchy, at 1 and at 64 samples at a time."""
    rows = []
    cpu: list[dict[str, Any]] = []
    for at_a_time in (1, 64):
        base: dict[str, float] = {}
        async with _echoes(bundle) as (one, through):
            for name, call in (("one echo", one), ("echo through six", through)):
                taken, seconds = await _timed(call, samples, at_a_time)
                base[name] = percentiles(taken)["p50"]
                rows.append(_row(name, at_a_time, taken, samples / seconds, base))
        for name, thresholds in (("local exit", {"local": 1.0}), ("cloud exit", {"local": 0.0})):
            async with Cluster(bundle, thresholds=thresholds) as cluster:
                labels = [0] * len(cluster.network.load_data().split["test"])
                device_names = cluster.network.hierarchy.device_names
                await stream(cluster, labels, 200, concurrency=at_a_time)
                before = {process: _cpu(cluster.pid(process)) for process in cluster.names}
                result = await stream(cluster, labels, samples, concurrency=at_a_time)
                rows.append(_row(name, at_a_time, result.latencies, result.to_dict()["throughput"], base))
                spent = {
                    process: (_cpu(cluster.pid(process)) - before[process]) / samples * 1e6
                    for process in cluster.names
                }
                tiers = {tier: percentiles(values)["p50"] for tier, values in result.by_tier.items()}
                devices = [spent[device] for device in device_names]
                cpu.append(
                    {
                        "samples": f"{name}, {at_a_time} at a time",
                        "a device, CPU us": float(np.mean(devices)),
                        "aggregator": spent["aggregator"],
                        "cloud": spent["cloud"],
                        "local tier, median ms": tiers["local"],
                        "cloud tier": tiers.get("cloud", ""),
                    }
                )
    return {"Latency and throughput": rows, "Where the time goes, each sample": cpu}


def _row(
    name: str, at_a_time: int, taken: list[float], rate: float, base: dict[str, float]
) -> dict[str, Any]:
    found = percentiles(taken)
    return {
        "what": name,
        "at a time": at_a_time,
        **{f"{rank} ms": value for rank, value in found.items()},
        "a second": rate,
        "to one echo": found["p50"] / base["one echo"],
        "to echo through six": found["p50"] / base["echo through six"] if "echo through six" in base else "",
    }


async def _timed(call: Callable[[], Awaitable[Any]], count: int, at_a_time: int) -> tuple[list[float], float]:
    taken: list[float] = []
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            begin = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - begin)

    for _ in range(200):
        await call()
    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_a_time)))
    return taken, time.perf_counter() - start


@contextlib.asynccontextmanager
async def _echoes(bundle: Path) -> AsyncIterator[tuple[Callable[[], Any], Callable[[], Any]]]:
    """A process that echoes, and one that echoes through as many others as there are devices."""
    hierarchy = open_bundle(bundle).topology.hierarchy
    count, size = len(hierarchy.devices), hierarchy.class_vector.size
    with tempfile.TemporaryDirectory() as place:
        certs = str(Path(place) / "certs")
        create_certificates(certs, ["echo", "client"])
        processes = []

        def start(*targets: str) -> str:
            command = [sys.executable, __file__, "--echo", certs, "echo", str(size), *targets]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            processes.append(process)
            assert process.stdout is not None
            return process.stdout.readline().strip()

        try:
            leaves = [start() for _ in range(count)]
            relay = start(*leaves)
            credentials = Certificates.read(certs, "client")
            callers = [Caller("client", "echo", address, credentials) for address in (leaves[0], relay)]
            calls = [caller.channel.unary_unary("/echo/Call") for caller in callers]
            yield (
                lambda: calls[0](b"x" * _TASK, timeout=10, metadata=callers[0].metadata),
                lambda: calls[1](b"x" * _TASK, timeout=10, metadata=callers[1].metadata),
            )
            for caller in callers:
                await caller.close()
        finally:
            for process in processes:
                process.kill()
                process.wait()


async def _echo(certs: str, name: str, size: int, targets: list[str]) -> None:
    """One process of the bare echoes."""
    server = grpc.aio.server()
    credentials = Certificates.read(certs, name)
    callers = [Caller("client", name, target, Certificates.read(certs, "client")) for target in targets]
    streams = [caller.channel.stream_stream("/echo/Stream")() for caller in callers]
    waiting: list[asyncio.Queue[asyncio.Future[bytes]]] = [asyncio.Queue() for _ in streams]

    writing = [asyncio.Lock() for _ in streams]

    async def gather(at: int) -> None:
        while True:
            content = await streams[at].read()
            (await waiting[at].get()).set_result(content)

    async def ask(at: int) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        async with writing[at]:  # gRPC takes one write at a time
            waiting[at].put_nowait(answer)
            await streams[at].write(b"x" * 14)
        return await answer

    async def call(_: bytes, __: Any) -> bytes:
        await asyncio.gather(*(ask(at) for at in range(len(streams))))
        return b"x" * _ANSWER

    async def echo(contents: Any, context: Any) -> None:
        async for _ in contents:
            await context.write(b"x" * (size + 13))

    methods = {
        "Call": grpc.unary_unary_rpc_method_handler(call),
        "Stream": grpc.stream_stream_rpc_method_handler(echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", methods),))
    port = server.add_secure_port("127.0.0.1:0", credentials.for_server())
    await server.start()
    readers = [asyncio.ensure_future(gather(at)) for at in range(len(streams))]
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()
    assert readers


async def _chaos(bundle: Path, samples: int, seed: int) -> dict[str, Any]:
    """Kills and revives processes at random while samples go through; counts the outcomes of each."""
    draw = random.Random(seed)
    outcomes: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    timeout = 10.0
    async with Cluster(bundle) as cluster:
        labels = cluster.network.load_data().targets("test").tolist()
        down: set[str] = set()

        def hear(number: int, outcome: Answer | ClassificationError) -> None:
            outcomes[number] += 1
            if isinstance(outcome, ClassificationError):
                kinds[f"error: {outcome.code}"] += 1
                return
            kinds["degraded" if outcome.degraded else f"answered: {outcome.exit}"] += 1
            if down == {"cloud"}:
                kinds["while only the cloud is down"] += 1
                kinds["... of these degraded"] += outcome.degraded

        async def break_things() -> None:
            names: list[str] = []
            while True:
                await asyncio.sleep(draw.uniform(0, 0.5))
                # In a random order, but none much oftener than another.
                names = names or draw.sample(cluster.names, len(cluster.names))
                name = names.pop()
                killed[name] += 1
                down.add(name)
                await cluster.kill(name)
                await asyncio.sleep(draw.uniform(0.2, 2))
                await cluster.revive(name, wait=True)
                down.discard(name)

        breaking = asyncio.ensure_future(break_things())
        start = time.perf_counter()
        result = await stream(cluster, labels, samples, concurrency=16, timeout=timeout, hear=hear)
        seconds = time.perf_counter() - start
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)
    found = result.to_dict()
    return {
        "submitted": found["submitted"],
        "with exactly one outcome": sum(count == 1 for count in outcomes.values()),
        "with more than one": sum(count > 1 for count in outcomes.values()),
        "with none": samples - len(outcomes),
        "tickets answered twice": found["duplicates"],
        "outcomes": dict(kinds),
        "accuracy of answers": found["accuracy"],
        "longest answer, s": max(result.latencies),
        "kills": dict(killed),
        "seconds": seconds,
    }


async def _soak(bundle: Path, seconds: float) -> dict[str, Any]:
    """Memory of each process over a constant stream."""
    async with Cluster(bundle) as cluster:
        labels = cluster.network.load_data().targets("test").tolist()
        # What is allocated once, with the first samples, is no leak.
        await stream(cluster, labels, 2000, concurrency=16)
        first = {name: _memory(cluster.pid(name)) for name in cluster.names}
        end = time.monotonic() + seconds
        count = 0
        middle: dict[str, float] = {}
        while time.monotonic() < end:
            result = await stream(cluster, labels, 1000, concurrency=16)
            assert result.answered == 1000, result.errors
            count += 1000
            if not middle and time.monotonic() > end - seconds / 2:
                middle = {name: _memory(cluster.pid(name)) for name in cluster.names}
        last = {name: _memory(cluster.pid(name)) for name in cluster.names}
    rows = [
        {
            "process": name, "start MB": first[name], "middle MB": middle[name], "end MB": last[name],
            "growth %": 100 * (last[name] / first[name] - 1),
        }
        for name in first
    ]  # fmt: skip
    return {"Resident memory": rows, "samples": count, "seconds": seconds}


async def _device(bundle: Path, engine: str) -> dict[str, Any]:
    """Peak memory of a device process that is ready, and how long it took to be."""
    rows: list[dict[str, Any]] = []
    async with Cluster(bundle, engine=engine) as cluster:
        name = cluster.network.hierarchy.device_names[0]
        for _ in range(10):
            await cluster.kill(name)
            begin = time.perf_counter()
            await cluster.revive(name, wait=True)
            seconds = time.perf_counter() - begin
            status = Path(f"/proc/{cluster.pid(name)}/status").read_text()
            peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
            cpu = _cpu(cluster.pid(name))
            rows.append({"engine": engine, "ready s": seconds, "CPU s": cpu, "peak MiB": peak})
    return {f"A device process, {name}": rows}


def _cpu(pid: int) -> float:
    """Seconds of a processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> float:
    """Resident MB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6


if __name__ == "__main__":
    main()
