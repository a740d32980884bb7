"""Peers that are let in and behave badly: each costs its own part, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from random_networks import RandomNetwork
from running import Running, sensors_of, served

from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.channels import Channel
from ddnn_tf.runtime.client import Answer
from ddnn_tf.runtime.ddnn_v1_pb2 import (
    Accepted,
    Delivery,
    ExitReport,
    Payload,
    Question,
    Reports,
    Task,
    Verdict,
)
from ddnn_tf.runtime.security import create_certificates
from ddnn_tf.runtime.server import Server
from ddnn_tf.runtime.telemetry import Metrics

pytestmark = pytest.mark.slow
Networks = Callable[..., RandomNetwork]


class Swallowing:
    outbox = None

    def __init__(self) -> None:
        self.replaced = asyncio.Event()

    def receive(self, message: Delivery) -> None: ...

    def pack(self, items: list[Any]) -> Accepted:
        raise NotImplementedError

    def close(self) -> None: ...


def test_a_tier_above_that_answers_badly_degrades_and_fails_no_sample(
    network_of: Networks, tmp_path: Path
) -> None:
    made = network_of("c")
    vector = made.topology.hierarchy.class_vector
    nothing = ExitReport(name="cloud", logits=b"")
    undefined = ExitReport(name="cloud", logits=np.full(3, np.nan, "<f4").tobytes())
    other = ExitReport(name="edge_7", logits=vector.encode(np.zeros(3)))
    answers: list[Verdict | grpc.StatusCode] = [
        Verdict(), Verdict(exits=[nothing]), Verdict(exits=[undefined]), Verdict(exits=[other]),
        grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE,
    ]  # fmt: skip

    async def run() -> list[Answer]:
        async with Running(served(made.bundle), sensors_of(made.views), tmp_path / "certs") as tiers:
            await tiers.end("cloud")
            left = iter(answers)

            async def decide(_: str, __: Question, ___: float | None) -> Verdict:
                answer = next(left)
                if isinstance(answer, Verdict):
                    return answer
                raise RefusalError(answer, "bad", "it does not work")

            fake = Server("cloud", tiers.network.fingerprint, Metrics(), tiers.certificates("cloud"))
            fake.unary("Upper/Decide", ("aggregator",), Question, decide, 1000)
            names = made.topology.hierarchy.device_names
            fake.stream("Upper/Deliver", names, Delivery, lambda _: Swallowing(), 10_000)
            await fake.start(tiers.addresses["cloud"])
            tiers.aggregator.set_threshold("local", 0)
            async with tiers.client() as client:
                found = [await client.classify(0) for _ in answers]
            await fake.stop(0)
            assert tiers.aggregator.answers["errors"] == 0
            return found

    for answer in asyncio.run(run()):
        assert answer.degraded
        assert answer.exit == "local"
        assert answer.reason.startswith("cloud: ")


@pytest.mark.parametrize("local", ["MP", "CC"])
def test_numbers_that_overflow_are_refused_at_the_door(network_of: Networks, local: str) -> None:
    made = network_of("c", local, "CC" if local == "MP" else "MP")
    aggregator = Aggregator(served(made.bundle), {}, Metrics())
    session = aggregator.attach("device_0")
    for value in (3.4e38, -3.4e38, 1e7, np.nan, np.inf):
        content = np.full(3, value, "<f4").tobytes()
        with pytest.raises(RefusalError, match="finite numbers of at most"):
            session.receive(Reports(vectors=[Payload(ticket=1, content=content)]))


def test_a_device_that_is_too_slow_for_the_load_still_takes_part(
    network_of: Networks,
) -> None:
    """What it was asked long ago must not keep it from answering what it is asked now."""
    made = network_of("c")

    async def run() -> list[bool]:
        aggregator = Aggregator(served(made.bundle), {}, Metrics(), wait=0.2, thresholds={"local": 1.0})
        vector = aggregator.network.hierarchy.class_vector.encode(np.array([1.0, 0.0, 0.0]))
        prompt = aggregator.attach("device_0")
        slow = aggregator.attach("device_1")

        async def serve(session: Any, seconds: float) -> None:
            while True:
                orders = session.pack(await session.outbox.take())
                for sense in orders.sense:
                    if seconds:
                        await asyncio.sleep(seconds)
                    session.receive(Reports(vectors=[Payload(ticket=sense.ticket, content=vector)]))

        serving = [asyncio.ensure_future(serve(prompt, 0)), asyncio.ensure_future(serve(slow, 0.01))]
        took_part: list[tuple[float, bool]] = []
        start = time.monotonic()

        async def ask() -> None:
            while (now := time.monotonic() - start) < 6:
                answer = await aggregator.classify("client", Task(sample=0), 5.0)
                took_part.append((now, "device_1" in answer.tiers[0].devices))

        await asyncio.gather(*(ask() for _ in range(100)))
        for task in serving:
            task.cancel()
        return [did for when, did in took_part if when > 2]

    # It could do 400 in these four seconds; from what it did not do in time it has to recover each time.
    assert sum(asyncio.run(run())) > 10


def test_junk_does_not_keep_a_late_device_waited_for(network_of: Networks) -> None:
    made = network_of("c")

    async def run() -> float:
        aggregator = Aggregator(served(made.bundle), {}, Metrics(), wait=0.2, thresholds={"local": 1.0})
        vector = aggregator.network.hierarchy.class_vector.encode(np.array([1.0, 0.0, 0.0]))
        prompt, rogue = aggregator.attach("device_0"), aggregator.attach("device_1")

        async def serve() -> None:
            while True:
                for sense in prompt.pack(await prompt.outbox.take()).sense:
                    prompt.receive(Reports(vectors=[Payload(ticket=sense.ticket, content=vector)]))

        async def babble() -> None:
            while True:
                rogue.receive(Reports(vectors=[Payload(ticket=7, absent=True)]))
                await asyncio.sleep(0.02)

        tasks = [asyncio.ensure_future(serve()), asyncio.ensure_future(babble())]
        for _ in range(5):
            await aggregator.classify("client", Task(sample=0), 5.0)
        waited = 0
        for _ in range(10):
            answer = await aggregator.classify("client", Task(sample=0), 5.0)
            waited += answer.seconds >= 0.2
        for task in tasks:
            task.cancel()
        return waited

    assert asyncio.run(run()) == 0


def test_a_link_that_was_up_outlives_a_stranger_in_its_peers_place(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for place in (ours, theirs):
        create_certificates(place, ["cloud", "device_0"])
    from ddnn_tf.runtime.device import delivery
    from ddnn_tf.runtime.security import Certificates

    def cloud(place: Path, fingerprint: str) -> Server:
        server = Server("cloud", fingerprint, Metrics(), Certificates.read(place, "cloud"))
        server.stream("Upper/Deliver", ("device_0",), Delivery, lambda _: Swallowing(), 1000)
        return server

    async def run() -> None:
        first = cloud(ours, "network")
        address = await first.start("127.0.0.1:0")
        caller = Caller("device_0", "cloud", address, Certificates.read(ours, "device_0"), "network")
        link = Channel(caller, "Upper/Deliver", delivery, Accepted)
        task = asyncio.ensure_future(link.run())
        await link.ready(5)
        await first.stop(0)
        for place, fingerprint in ((theirs, "network"), (ours, "another")):
            wrong = cloud(place, fingerprint)
            await wrong.start(address)
            await asyncio.sleep(1.5)
            assert not link.is_up
            assert not task.done()
            await wrong.stop(0)
        again = cloud(ours, "network")
        await again.start(address)
        for _ in range(500):
            await asyncio.sleep(0.02)
            if link.is_up:
                break
        assert link.is_up
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await again.stop(0)
        await caller.close()

    asyncio.run(run())


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_that_is_ended_leaves_no_process(
    network_of: Networks, tmp_path: Path, number: signal.Signals
) -> None:
    bundle = network_of("c").write(tmp_path / "bundle.zip")
    command = [sys.executable, "-m", "ddnn_tf.cli", "cluster", str(bundle), "--keep", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as cluster:
        try:
            end = time.monotonic() + 60
            while len(children := _children(cluster.pid)) < 5:
                assert time.monotonic() < end
                time.sleep(0.1)
            time.sleep(6)
        finally:
            cluster.send_signal(number)
        cluster.communicate(timeout=60)
    end = time.monotonic() + 30
    while any(map(_runs, children)):
        assert time.monotonic() < end, "processes were left behind"
        time.sleep(0.1)
    if number == signal.SIGTERM:
        assert cluster.returncode == 0
        assert not list(tmp_path.glob("ddnn-cluster-*"))
