"""A whole hierarchy in the test's own event loop, with sensors that read arrays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller
from ddnn_tf.runtime.client import AsyncClient
from ddnn_tf.runtime.network import Network
from ddnn_tf.runtime.process import Place, serve_aggregator, serve_device, serve_upper
from ddnn_tf.runtime.security import CLIENT, Certificates, create_certificates
from ddnn_tf.runtime.sensors import Sensor
from ddnn_tf.runtime.telemetry import Metrics


class ArraySensor:
    """Image n is the n-th; those that are not present are not there."""

    def __init__(self, images: NDArray[np.uint8], present: NDArray[np.bool_] | None = None) -> None:
        self._images = images
        self._present = np.ones(len(images), bool) if present is None else present

    def image(self, sample: int) -> NDArray[np.uint8] | None:
        return self._images[sample] if sample < len(self._images) and self._present[sample] else None


class Hierarchy:
    """Starts and ends all tiers; each can be ended and started again."""

    def __init__(
        self,
        network: Network,
        sensors: Mapping[str, Sensor],
        certs: Path | None = None,
        *,
        wait: float = 0.5,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.network, self._sensors, self._certs, self._wait = network, sensors, certs, wait
        topology = network.topology
        self.names = [*topology.device_names, "aggregator", *topology.edge_names, "cloud"]
        self._left_out = left_out
        self.addresses: dict[str, str] = {}
        self.metrics: dict[str, Metrics] = {name: Metrics() for name in self.names}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.aggregator: Aggregator
        if certs is not None and not certs.exists():
            create_certificates(certs, [*self.names, CLIENT])

    async def __aenter__(self) -> Hierarchy:
        try:
            for name in ("cloud", *self.network.topology.edge_names, "aggregator"):
                await self.start(name)
            await asyncio.gather(
                *(
                    self.start(name)
                    for name in self.network.topology.device_names
                    if name not in self._left_out
                )
            )
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
        """Ends a tier at once."""
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def start(self, name: str) -> None:
        """Starts a tier; where it was, if it has been there before."""
        ready = asyncio.Event()

        def announce(event: str, what: Any) -> None:
            if event == "listening":
                self.addresses[name] = what
            if event == "ready" or name == "cloud":
                ready.set()

        place = Place(self.addresses.get(name, "127.0.0.1:0"), self.certificates(name))
        task = asyncio.ensure_future(self._serve(name, place, announce))
        self.tasks[name] = task
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()

    def _serve(self, name: str, place: Place, announce: Any) -> Any:
        network, metrics = self.network, self.metrics[name]
        if name == "aggregator":
            uppers = {
                upper: Caller(name, upper, self.addresses[upper], place.certificates, network.fingerprint)
                for upper in (*network.topology.edge_names, "cloud")
            }
            self.aggregator = Aggregator(network, uppers, metrics, wait=self._wait, upper_wait=2 * self._wait)
            return serve_aggregator(self.aggregator, uppers, place, announce)
        if name == "cloud" or name in network.topology.edge_names:
            cloud = None if name == "cloud" else self.addresses["cloud"]
            return serve_upper(name, network, cloud, place, metrics, announce, features_wait=self._wait)
        upper = self.addresses[network.upper_of(name)]
        return serve_device(
            name, network, self._sensors[name], self.addresses["aggregator"], upper, place, metrics, announce
        )

    def certificates(self, name: str) -> Certificates | None:
        return None if self._certs is None else Certificates.read(self._certs, name)

    def client(self) -> AsyncClient:
        return AsyncClient(
            self.addresses["aggregator"],
            certificates=self.certificates(CLIENT),
            devices={name: place for name, place in self.addresses.items() if name.startswith("device")},
        )


def sensors_of(images: NDArray[np.uint8], present: NDArray[np.bool_] | None = None) -> dict[str, Sensor]:
    """A sensor for each device out of `(samples, devices, ...)` images."""
    return {
        f"device_{at}": ArraySensor(images[:, at], None if present is None else present[:, at])
        for at in range(images.shape[1])
    }


def refused(metrics: Metrics) -> dict[str, float]:
    """What a tier has refused, by reason."""
    return {
        sample.labels["reason"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "ddnn_refused_total"
    }
