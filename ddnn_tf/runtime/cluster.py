"""The whole hierarchy on one machine: a process for each part, mutual TLS between them, and faults.

    async with Cluster("bundle.zip") as cluster:
        async with cluster.client() as client:
            answer = await client.classify(0)
        await cluster.kill("device_3")

Its processes are those of a deployment, started with the same commands.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ddnn_tf
from ddnn_tf.documents import cache_directory
from ddnn_tf.hierarchy import AGGREGATOR, Role, link_name
from ddnn_tf.offload import check_asked
from ddnn_tf.plan import serve_arguments
from ddnn_tf.runtime.client import Answer, AsyncClient, ClassificationError
from ddnn_tf.runtime.faults import Fault, Proxy
from ddnn_tf.runtime.policy import peers_of
from ddnn_tf.runtime.process import SUPERVISED
from ddnn_tf.runtime.results import ClusterResult
from ddnn_tf.runtime.security import CLIENT, Certificates, create_certificates
from ddnn_tf.runtime.served import ServedNetwork

__all__ = ["Cluster", "ClusterOptions", "bundle_of", "run_cluster", "stream"]

_START = 120.0  # seconds for a process to start on a busy machine
_PATIENCE = 3600.0  # seconds that a process waits for peers that a fault has taken away
_END = 10.0


@dataclass(frozen=True)
class ClusterOptions:
    """How `run_cluster` runs.

    Attributes:
        samples: How many to classify; None: every test sample once.
        concurrency: Samples at a time.
        timeout: Seconds within which a sample is answered.
        engine: What the devices run on.
        dashboard: Address of the live page; None: no page.
        keep: Go on with the test samples until interrupted.
        device_wait: Seconds that the aggregator waits for class vectors.
        ask: How many devices the aggregator asks for their feature maps; None: all.
        logs: Directory for the processes' logs; None: they are lost with the cluster.
        plaintext: No TLS.
    """

    samples: int | None = None
    concurrency: int = 8
    timeout: float = 10.0
    engine: str = "tflite"
    dashboard: str | None = None
    keep: bool = False
    device_wait: float = 0.5
    ask: int | None = None
    logs: Path | None = None
    plaintext: bool = False


@dataclass
class _Process:
    """A process of the cluster, and the way to start it."""

    arguments: list[str]
    log: Path
    handle: asyncio.subprocess.Process | None = None
    address: str = ""
    events: dict[str, asyncio.Event] = field(default_factory=dict)  # of its present life
    wire: dict[str, list[int]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Cluster:
    """Starts the processes of a hierarchy, and ends them; used with `async with`.

    Args:
        bundle: A bundle (`ddnn export`).
        engine: What the devices run on.
        dashboard: Address of the live page.
        device_wait: Seconds that the aggregator waits for class vectors.
        ask: How many devices the aggregator asks for their feature maps; None: all.
        logs: Directory for the processes' logs.
        plaintext: No TLS.
        faulty: Names of processes that can be cut off the network, and whose links can be delayed.
        thresholds: T by tier in place of the bundle's.

    Raises:
        ValueError: A damaged bundle, faults of a process that there is not, or devices to ask that there
            are not.
        ChildProcessError: A process did not start; the message is its own.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        engine: str = "tflite",
        dashboard: str | None = None,
        device_wait: float = 0.5,
        ask: int | None = None,
        logs: Path | None = None,
        plaintext: bool = False,
        faulty: Sequence[str] = (),
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.network = ServedNetwork.read(bundle)
        if ask is not None:
            check_asked(ask, self.network.hierarchy)
        self._ask = ask
        self._bundle, self._engine, self._dashboard = str(bundle), engine, dashboard
        self._device_wait, self._plaintext = device_wait, plaintext
        self._thresholds = thresholds or {}
        self.names = self.network.hierarchy.process_names
        """Names of its processes."""
        for name in faulty:
            self.check(name)
        self._faulty = set(faulty)
        self._proxies: dict[str, list[Proxy]] = collections.defaultdict(list)
        self._processes: dict[str, _Process] = {}
        self._place = tempfile.TemporaryDirectory(prefix="ddnn-cluster-")
        self._logs = logs or Path(self._place.name) / "logs"
        self._front: dict[str, str] = {}  # address by which others reach a process
        self._tasks: set[asyncio.Task[None]] = set()
        self.page = ""
        """URL of the live page, with its token."""

    def check(self, name: str) -> None:
        """Raises ValueError if there is no such process."""
        if name not in self.names:
            raise ValueError(f"Expected a process out of {', '.join(self.names)}, but got {name!r}.")

    async def __aenter__(self) -> Cluster:
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            if not self._plaintext:
                create_certificates(self._certs, (*self.names, CLIENT))
            hierarchy = self.network.hierarchy
            # A process is started after those that it calls: from the cloud down.
            for tier in reversed(hierarchy.tiers):
                names = [node.name for node in tier.nodes if hierarchy.process_of(node.name) == node.name]
                await asyncio.gather(*map(self._start, names))
            await self._start(AGGREGATOR)
            await asyncio.gather(*map(self._start, hierarchy.device_names))
            await asyncio.gather(*(self._event(name, "ready") for name in self.names))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every process: by asking, and after some seconds by force."""
        for process in self._processes.values():
            if process.handle is not None and process.handle.returncode is None:
                process.handle.send_signal(signal.SIGCONT)
                process.handle.terminate()
        for name in list(self._processes):
            await self._ended(name)
        for task in self._tasks:
            task.cancel()
        for proxies in self._proxies.values():
            for proxy in proxies:
                await proxy.close()
        self._place.cleanup()

    def client(self) -> AsyncClient:
        """A client of the cluster's aggregator."""
        return AsyncClient(self._front[AGGREGATOR], certificates=self.certificates(CLIENT))

    def certificates(self, name: str) -> Certificates | None:
        """Of one of its processes, or the client."""
        return None if self._plaintext else Certificates.read(self._certs, name)

    def pid(self, name: str) -> int:
        """Of a process."""
        handle = self._processes[name].handle
        assert handle is not None
        return handle.pid

    def is_alive(self, name: str) -> bool:
        """Whether a process runs."""
        handle = self._processes[name].handle
        return handle is not None and handle.returncode is None

    async def kill(self, name: str) -> None:
        """Kills a process at once, as a power cut does."""
        self.check(name)
        process = self._processes[name]
        async with process.lock:
            if self.is_alive(name) and process.handle is not None:
                process.handle.kill()
                await process.handle.wait()

    async def revive(self, name: str, *, wait: bool = False) -> None:
        """Starts a killed process again, where it was.

        Args:
            name: Which.
            wait: Until it is ready, its peers reached.
        """
        self.check(name)
        async with self._processes[name].lock:
            if not self.is_alive(name):
                await self._spawn(name)
        if wait:
            await self._event(name, "ready")

    def partition(self, name: str, is_cut: bool) -> None:
        """Cuts a process of `faulty` off the network, or connects it again."""
        for proxy in self._proxies[name]:
            proxy.partition(is_cut)

    def delay(self, name: str, seconds: float) -> None:
        """Delays all that a process of `faulty` sends and receives."""
        for proxy in self._proxies[name]:
            proxy.delay = seconds

    async def apply(self, fault: Fault) -> None:
        """Lets a fault happen."""
        if fault.kind == "kill":
            await self.kill(fault.name)
        elif fault.kind == "revive":
            await self.revive(fault.name)
        elif fault.kind == "delay":
            self.delay(fault.name, fault.seconds)
        else:
            self.partition(fault.name, fault.kind == "cut")

    async def wire_bytes(self) -> dict[str, tuple[int, int]]:
        """Bytes over the links of all living processes so far: up and down, by link."""
        # One that is not ready does not know the signal yet, and would end by it.
        ready = [name for name, each in self._processes.items() if each.events["ready"].is_set()]
        alive = [name for name in ready if self.is_alive(name)]
        for name in alive:
            process = self._processes[name]
            process.events["wire"].clear()
            assert process.handle is not None
            process.handle.send_signal(signal.SIGUSR1)
        found = {}
        for name in alive:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._processes[name].events["wire"].wait(), 5)
            for peer, (sent, received) in self._processes[name].wire.items():
                receiver = self.network.hierarchy.coordinator if peer == AGGREGATOR else peer
                found[link_name(name, receiver)] = (sent, received)
        return found

    @property
    def _certs(self) -> Path:
        return Path(self._place.name) / "certs"

    async def _arguments(self, name: str) -> list[str]:
        """Arguments of `ddnn serve` for a process, without the bundle."""
        hierarchy = self.network.hierarchy
        peers = {peer: await self._way(name, peer) for peer in peers_of(hierarchy, name)}
        arguments = serve_arguments(hierarchy, name, peers)
        if peers:
            arguments += ["--wait", str(_PATIENCE)]
        if name == AGGREGATOR:
            arguments += ["--device-wait", str(self._device_wait)]
            arguments += [] if self._ask is None else ["--ask", str(self._ask)]
            for tier, value in self._thresholds.items():
                arguments += ["--threshold", f"{tier}={value}"]
            if self._dashboard is not None:
                arguments += ["--dashboard", self._dashboard]
        elif hierarchy[name].role is Role.LOCAL:
            arguments += ["--feature-wait", str(self._device_wait)]
        elif hierarchy[name].role is Role.DEVICE:
            arguments += ["--engine", self._engine]
            arguments += [] if self._dashboard is None else ["--show"]
        return arguments

    async def _way(self, name: str, peer: str) -> str:
        """The address by which a process reaches a peer; through a proxy if its links can be faulty."""
        address = self._front[peer]
        return await self._proxied(name, address) if name in self._faulty else address

    async def _proxied(self, name: str, target: str) -> str:
        proxy = Proxy(target)
        await proxy.start()
        self._proxies[name].append(proxy)
        return proxy.address

    async def _start(self, name: str) -> None:
        log = self._logs / f"{name}.log"
        self._processes[name] = _Process(await self._arguments(name), log)
        await self._spawn(name)
        if name in self.network.hierarchy.device_names:
            return
        await self._event(name, "listening")
        address = self._processes[name].address
        self._front[name] = await self._proxied(name, address) if name in self._faulty else address

    async def _spawn(self, name: str) -> None:
        process = self._processes[name]
        process.events = collections.defaultdict(asyncio.Event)
        verb, *rest = process.arguments
        command = [sys.executable, "-m", "ddnn_tf.cli", "serve", verb, self._bundle, *rest, "--json"]
        command += ["--plaintext"] if self._plaintext else ["--certs", str(self._certs)]
        command += ["--log", "info"]
        if process.address:
            command += ["--listen", process.address]
        with open(process.log, "ab") as log:
            process.handle = await asyncio.create_subprocess_exec(
                *command,
                # Its standard input ends with this process, however that ends, and so does it then.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, SUPERVISED: "1"},
            )
        reader = asyncio.ensure_future(self._listen(process, process.handle, process.events))
        self._tasks.add(reader)
        reader.add_done_callback(self._tasks.discard)

    async def _listen(
        self, process: _Process, handle: asyncio.subprocess.Process, events: dict[str, asyncio.Event]
    ) -> None:
        """Takes what a process says on stdout, until it ends."""
        assert handle.stdout is not None
        while line := await handle.stdout.readline():
            try:
                said = json.loads(line)
                event = str(said["event"])
            except (ValueError, KeyError, TypeError):
                continue  # some library has printed something
            if event == "listening":
                process.address = said["address"]
            elif event == "dashboard":
                self.page = said["address"]
            elif event == "wire":
                process.wire = said["bytes"]
            elif event == "fail":
                await self.kill(said["device"])
            elif event == "revive":
                await self.revive(said["device"])
            events[event].set()
        await handle.wait()
        events["ended"].set()

    async def _event(self, name: str, event: str) -> None:
        """Waits until a process has said something.

        Raises:
            ChildProcessError: It ended instead, or takes too long.
        """
        process = self._processes[name]
        events = process.events
        waits = [asyncio.ensure_future(events[each].wait()) for each in (event, "ended")]
        done, pending = await asyncio.wait(waits, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
        for waiting in pending:
            waiting.cancel()
        if not events[event].is_set():
            lines = process.log.read_text(errors="replace").splitlines()
            reason = "it ended" if done else f"it is not {event} after {_START:g} s"
            raise ChildProcessError(f"{name} did not start: {lines[-1] if lines else reason}")

    async def _ended(self, name: str) -> None:
        handle = self._processes[name].handle
        if handle is None:
            return
        try:
            await asyncio.wait_for(handle.wait(), _END)
        except asyncio.TimeoutError:
            handle.kill()
            await handle.wait()


async def stream(
    cluster: Cluster,
    labels: Sequence[int],
    count: int,
    *,
    concurrency: int = 8,
    timeout: float = 10.0,
    faults: Sequence[Fault] = (),
    hear: Callable[[int, Answer | ClassificationError], None] = lambda *_: None,
    forever: bool = False,
    result: ClusterResult | None = None,
) -> ClusterResult:
    """Classifies samples, some at a time, each once.

    Args:
        cluster: A running cluster.
        labels: Classes of the samples 0, 1, ... that the sensors have; taken in turns.
        count: How many to submit.
        concurrency: How many at a time.
        timeout: Seconds for each.
        faults: What happens meanwhile.
        hear: Is told each submission's number and outcome.
        forever: Starts over until cancelled.
        result: Where to count; None: a new one.
    """
    result = result or ClusterResult(cluster.network.topology)
    numbers = iter(range(count))
    to_come, one_at_a_time = collections.deque(faults), asyncio.Lock()
    start = time.perf_counter()
    async with cluster.client() as client:

        async def work() -> None:
            nonlocal numbers
            while True:
                number = next(numbers, None)
                if number is None:
                    if not forever:
                        return
                    numbers = iter(range(count))
                    continue
                async with one_at_a_time:
                    while to_come and to_come[0].at <= number:
                        await cluster.apply(to_come.popleft())
                begin = time.perf_counter()
                result.submitted += 1
                sample = number % len(labels)
                label = int(labels[sample])
                try:
                    answer = await client.classify(sample, label=label, timeout=timeout)
                except ClassificationError as error:
                    result.errors[error.code] += 1
                    hear(number, error)
                    continue
                result.add(answer, label, time.perf_counter() - begin)
                hear(number, answer)

        workers = [asyncio.ensure_future(work()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            result.seconds = time.perf_counter() - start
    return result


async def run_cluster(
    run: str | Path, options: ClusterOptions, faults: Sequence[Fault], hint: Callable[[str], None]
) -> ClusterResult:
    """Starts a hierarchy, classifies its test data, and ends it.

    Args:
        run: A run directory, or a bundle.
        options: How.
        faults: What happens meanwhile.
        hint: Is told what is going on.

    Raises:
        ValueError: Other data than those of the training, or a fault of a process that there is not.
        ChildProcessError: A process did not start.
    """
    bundle = bundle_of(run, options.engine, hint)
    cluster = Cluster(
        bundle,
        engine=options.engine,
        dashboard=options.dashboard,
        device_wait=options.device_wait,
        ask=options.ask,
        logs=options.logs,
        plaintext=options.plaintext,
        faulty=sorted({fault.name for fault in faults if fault.kind in ("cut", "mend", "delay")}),
    )
    for fault in faults:
        cluster.check(fault.name)
    labels = cluster.network.load_data().targets("test").tolist()
    count = options.samples or len(labels)
    late = [fault for fault in faults if fault.at >= count and not fault.is_end]
    if late and not options.keep:
        raise ValueError(
            f"Expected faults before sample {count}, but got one at {late[0].at}: give more --samples."
        )
    hint(f"Starting {len(cluster.names)} processes ...")
    async with cluster:
        if cluster.page:
            hint(f"The dashboard is at {cluster.page}")
        before = await cluster.wire_bytes()
        result = ClusterResult(cluster.network.topology)
        flow = asyncio.ensure_future(
            stream(
                cluster,
                labels,
                count,
                concurrency=options.concurrency,
                timeout=options.timeout,
                faults=faults,
                forever=options.keep,
                result=result,
            )
        )
        with _ended_by_signals(flow):
            try:
                await flow
            except asyncio.CancelledError:
                if not options.keep:
                    raise
        after = await cluster.wire_bytes()
        for link, (up, down) in after.items():
            first = before.get(link, (0, 0))
            result.wire[link] = (max(0, up - first[0]), max(0, down - first[1]))
        return result


@contextlib.contextmanager
def _ended_by_signals(flow: asyncio.Future[Any]) -> Iterator[None]:
    """SIGINT and SIGTERM cancel the stream, so that its processes are ended in order."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, flow.cancel)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def bundle_of(run: str | Path, engine: str, hint: Callable[[str], None]) -> Path:
    """A bundle to serve: the one given, or one made of a run directory and kept in the cache.

    Args:
        run: A run directory, or a bundle.
        engine: What the devices are to run on.
        hint: Is told if it takes a while.
    """
    place = Path(run)
    if not (place / "run.json").is_file() or (place / "manifest.json").is_file():
        return place
    targets = ["tflite", "c"] if engine == "c" else ["tflite"]
    content = hashlib.sha256(f"{ddnn_tf.__version__} {targets}".encode())
    for name in ("run.json", "topology.yaml", "thresholds.json", "model.keras"):
        file = place / name
        content.update(file.read_bytes() if file.is_file() else b"")
    bundle = cache_directory() / "bundles" / f"{content.hexdigest()}.zip"
    if not bundle.exists():
        from ddnn_tf.export.pipeline import export_run

        hint(f"Exporting {place} for its processes; this is done once ...")
        bundle.parent.mkdir(parents=True, exist_ok=True)
        export_run(place, bundle, targets=targets)
    return bundle
