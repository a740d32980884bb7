"""A whole hierarchy in the test's own event loop, with sensors that read arrays."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_networks import RandomNetwork

from ddnn_tf.bundle import Bundle, write_bundle
from ddnn_tf.datasets import DataSource, MultiViewDataset
from ddnn_tf.hierarchy import AGGREGATOR
from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.client import AsyncClient
from ddnn_tf.runtime.policy import peers_of
from ddnn_tf.runtime.process import ProcessConfig, serve_aggregator, serve_device, serve_upper
from ddnn_tf.runtime.security import CLIENT, Certificates, create_certificates
from ddnn_tf.runtime.sensors import ArraySensor, Sensor
from ddnn_tf.runtime.served import ServedNetwork
from ddnn_tf.runtime.telemetry import Metrics
from ddnn_tf.topology import Topology

_PLACE = tempfile.TemporaryDirectory(prefix="ddnn-tests-")


def served(bundle: Bundle) -> ServedNetwork:
    """A bundle as a process sees it."""
    path = Path(tempfile.mkdtemp(dir=_PLACE.name)) / "bundle"
    write_bundle(bundle, path)
    return ServedNetwork.read(path)


def unlike_network(topology: Topology, samples: int = 200) -> RandomNetwork:
    """An untrained network of any topology, on noise that differs in brightness between samples."""
    random = np.random.default_rng(3)
    views = {}
    for node in topology.hierarchy.devices:
        shape = (samples, *node.sensor.shape)
        brightness = random.uniform(0, 255, (samples, *[1] * len(node.sensor.shape)))
        views[node.name] = np.clip(random.normal(brightness, 60, shape), 0, 255).astype(np.uint8)
    rows = np.arange(samples)
    data = MultiViewDataset(
        name="noise",
        views=views,
        labels=rows % topology.classes,
        presence=np.ones((samples, len(views)), bool),
        class_names=tuple(map(str, range(topology.classes))),
        split={"train": rows[:1], "validation": rows[1:2], "test": rows[2:]},
        split_rule="in order",
    )
    return RandomNetwork(topology, data, DataSource(name="scenes"), targets=())


class PartlySensor(ArraySensor):
    """An array's readings, of which some are absent."""

    def __init__(self, codes: NDArray[np.uint8], present: NDArray[np.bool_]) -> None:
        super().__init__(codes)
        self._present = present

    def read(self, sample: int) -> NDArray[np.uint8] | None:
        return super().read(sample) if self._present[sample] else None


class Running:
    """Starts and ends all processes of a hierarchy; each can be ended and started again."""

    def __init__(
        self,
        network: ServedNetwork,
        sensors: Mapping[str, Sensor],
        certs: Path | None = None,
        *,
        wait: float = 0.5,
        left_out: tuple[str, ...] = (),
        engine: str = "tflite",
        ask: int | None = None,
    ) -> None:
        self._ask = ask
        self.network, self._sensors, self._certs, self._wait = network, sensors, certs, wait
        self.names = network.hierarchy.process_names
        self._left_out, self._engine = left_out, engine
        self.addresses: dict[str, str] = {}
        self.metrics: dict[str, Metrics] = {name: Metrics() for name in self.names}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.aggregator: Aggregator
        if certs is not None and not certs.exists():
            create_certificates(certs, [*self.names, CLIENT])

    async def __aenter__(self) -> Running:
        hierarchy = self.network.hierarchy
        try:
            for node in reversed(hierarchy.uppers):
                await self.start(node.name)
            await self.start(AGGREGATOR)
            devices = [name for name in hierarchy.device_names if name not in self._left_out]
            await asyncio.gather(*map(self.start, devices))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for name in list(self.tasks):
            await self.end(name)

    async def end(self, name: str) -> None:
        """Ends a process at once."""
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def start(self, name: str) -> None:
        """Starts a process; where it was, if it has been there before."""
        ready = asyncio.Event()

        def announce(event: str, what: Any) -> None:
            if event == "listening":
                self.addresses[name] = what
            if event == "ready":
                ready.set()

        config = ProcessConfig(self.addresses.get(name, "127.0.0.1:0"), self.certificates(name))
        task = asyncio.ensure_future(self._serve(name, config, announce))
        self.tasks[name] = task
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()

    def _serve(self, name: str, config: ProcessConfig, announce: Any) -> Any:
        network, metrics, engine = self.network, self.metrics[name], self._engine
        peers = {peer: self.addresses[peer] for peer in peers_of(network.hierarchy, name)}
        if name == AGGREGATOR:
            uppers = {
                peer: Caller(name, peer, address, config.certificates, network.fingerprint)
                for peer, address in peers.items()
            }
            self.aggregator = Aggregator(
                network,
                uppers,
                metrics,
                engine=engine,
                wait=self._wait,
                upper_wait=2 * self._wait,
                ask=self._ask,
            )
            return serve_aggregator(self.aggregator, uppers, config, announce)
        if name not in network.hierarchy.device_names:
            return serve_upper(
                name, network, peers, config, metrics, announce, engine=engine, features_wait=self._wait
            )
        sensor = self._sensors[name]
        return serve_device(name, network, sensor, peers, config, metrics, announce, engine=engine)

    def certificates(self, name: str) -> Certificates | None:
        return None if self._certs is None else Certificates.read(self._certs, name)

    def client(self) -> AsyncClient:
        devices = self.network.hierarchy.device_names
        return AsyncClient(
            self.addresses[AGGREGATOR],
            certificates=self.certificates(CLIENT),
            devices={name: address for name, address in self.addresses.items() if name in devices},
        )


def sensors_of(
    views: Mapping[str, NDArray[np.uint8]],
    rows: NDArray[np.int64] | None = None,
    present: NDArray[np.bool_] | None = None,
) -> dict[str, Sensor]:
    """A sensor for each device.

    Args:
        views: `(samples, ...)` by device.
        rows: Which of these samples they sense, in order; None: all.
        present: `(samples, devices)` bool, which of them are there; None: all.
    """
    chosen = {name: view if rows is None else view[rows] for name, view in views.items()}
    if present is None:
        return {name: ArraySensor(view) for name, view in chosen.items()}
    columns = {name: present[:, number] for number, name in enumerate(views)}
    return {name: PartlySensor(view, columns[name]) for name, view in chosen.items()}


def refused(metrics: Metrics) -> dict[str, float]:
    """What a process has refused, by reason."""
    return {
        sample.labels["reason"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "ddnn_refused_total"
    }
