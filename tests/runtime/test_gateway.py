"""The gateway with the exported C as its device, over UDP and TCP, and with strangers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from random_networks import RandomNetwork
from running import Running, refused, sensors_of, served

from ddnn_tf.runtime.client import Answer
from ddnn_tf.runtime.envelope import DeviceEnd
from ddnn_tf.runtime.gateway import read_keys
from ddnn_tf.runtime.process import ProcessConfig, serve_gateway
from ddnn_tf.runtime.security import Certificates, create_certificates, write_keys
from ddnn_tf.runtime.telemetry import Metrics

pytestmark = pytest.mark.slow
SOURCES = Path(__file__).parents[2] / "tflite" / "gateway"
BEHIND = "device_2"


@pytest.fixture(scope="module")
def program(network_of: Callable[..., RandomNetwork], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C of the device behind the gateway, compiled for this machine with its envelopes."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    place = tmp_path_factory.mktemp("c")
    bundle = network_of("c").with_c([BEHIND])
    for path, content in bundle.artefacts[-1].files.items():
        (place / Path(path).name).write_bytes(content)
    command = ["make", "-C", str(SOURCES), f"NETWORK={place}", f"BUILD={place}", "CC=gcc"]
    flags = "CFLAGS=-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    done = subprocess.run([*command, flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / "posix_device"


class Behind:
    """A hierarchy whose last device is behind a gateway."""

    def __init__(self, made: RandomNetwork, place: Path) -> None:
        self.network = served(made.bundle)
        certs = place / "certs"
        names = (*made.topology.hierarchy.process_names, "client")
        create_certificates(certs, {**{name: [name] for name in names}, "gateway": [BEHIND]})
        self.key_file = write_keys(certs / "gateway.keys", [BEHIND])
        self.keys = read_keys(self.key_file, self.network)
        self.tiers = Running(self.network, sensors_of(made.views), certs, wait=2, left_out=(BEHIND,))
        self.metrics = Metrics()
        self.address = ""
        self.made, self._certs = made, certs

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Behind]:
        ready = asyncio.Event()

        def announce(event: str, what: str) -> None:
            self.address = what if event == "listening" else self.address
            if event == "ready":
                ready.set()

        async with self.tiers:
            config = ProcessConfig("127.0.0.1:0", Certificates.read(self._certs, "gateway"))
            task = asyncio.ensure_future(
                serve_gateway(self.network, self.keys, self.tiers.addresses, config, self.metrics, announce)
            )
            waiting = asyncio.ensure_future(ready.wait())
            await asyncio.wait([task, waiting], timeout=20, return_when=asyncio.FIRST_COMPLETED)
            try:
                if task.done():
                    task.result()
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def device(self, program: Path, transport: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The C program, which has the test images as its sensor's."""
        host, port = self.address.split(":")
        process = await asyncio.create_subprocess_exec(
            program, transport, host, port, "2", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(self.keys[BEHIND] + np.ascontiguousarray(self.made.views[BEHIND]).tobytes())
        process.stdin.close()
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_device_in_c_answers_as_any_other(
    network_of: Callable[..., RandomNetwork], program: Path, tmp_path: Path, transport: str
) -> None:
    made = network_of("c")
    rows = np.arange(100)
    expected = made.staged(rows, np.ones((100, 3), bool))
    without = made.staged(rows, np.tile([True, True, False], (100, 1)))

    async def run() -> None:
        async with Behind(made, tmp_path).running() as behind, behind.tiers.client() as client:
            answer = await client.classify(0)
            assert answer.devices["local"] == ("device_0", "device_1")
            assert answer.label == without.labels[0]
            async with behind.device(program, transport):
                while len((await client.classify(0)).devices["local"]) < 3:
                    await asyncio.sleep(0.05)
                answers: list[Answer] = [await client.classify(int(sample)) for sample in rows]
                assert [answer.label for answer in answers] == expected.labels.tolist()
                tiers = made.topology.hierarchy.exit_tier_names
                assert [tiers.index(answer.exit) for answer in answers] == expected.exits.tolist()
                last = answers[int(np.flatnonzero(expected.exits)[0])]
                assert last.payload_bytes[f"{BEHIND} -> local"] == 12
                assert last.payload_bytes[f"{BEHIND} -> cloud"] == 128
            if transport == "tcp":
                await asyncio.sleep(0.1)
                assert len((await client.classify(0)).devices["local"]) == 2
            assert refused(behind.metrics) == {}

    asyncio.run(run())


def test_strangers_replays_and_noise_are_refused_and_counted(
    network_of: Callable[..., RandomNetwork], program: Path, tmp_path: Path
) -> None:
    made = network_of("c")
    noise = random.Random(1)

    async def run() -> None:
        async with Behind(made, tmp_path).running() as behind, behind.tiers.client() as client:
            host, port = behind.address.split(":")
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                line.setblocking(False)
                line.connect((host, int(port)))
                device = DeviceEnd(2, behind.keys[BEHIND])
                await loop.sock_sendall(line, device.hello())
                device.receive(await asyncio.wait_for(loop.sock_recv(line, 1024), 5))
                envelope = device.send(b"")
                stranger = DeviceEnd(2, bytes(32))
                unknown = DeviceEnd(9, behind.keys[BEHIND])
                for content in (envelope, envelope, envelope, stranger.hello(), unknown.hello()):
                    await loop.sock_sendall(line, content)
                damaged = device.send(b"no frame")
                await loop.sock_sendall(line, damaged)
                for count in range(2000):
                    body = noise.randbytes(noise.randrange(200))
                    content = (b"", b"DG\1", envelope[:8])[count % 3] + body
                    await loop.sock_sendall(line, content)
                    if count % 50 == 0:
                        await asyncio.sleep(0.002)
            for count in range(100):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write((b"", b"DG\1\1\2\0", b"GET / HTTP/1.1\r\n")[count % 3] + noise.randbytes(40))
                writer.close()
            await asyncio.sleep(0.3)
            counts = refused(behind.metrics)
            assert counts["replayed"] >= 2
            assert counts["envelope"] >= 1900
            # And the device itself is served as ever.
            async with behind.device(program, "udp"):
                while len((await client.classify(0)).devices["local"]) < 3:
                    await asyncio.sleep(0.05)

    asyncio.run(run())


def test_keys_are_read_with_care(network_of: Callable[..., RandomNetwork], tmp_path: Path) -> None:
    network = served(network_of("c").bundle)
    file = write_keys(tmp_path / "keys", ["device_0", "device_1"])
    assert file.stat().st_mode & 0o777 == 0o600
    keys = read_keys(file, network)
    assert sorted(keys) == ["device_0", "device_1"]
    assert keys["device_0"] != keys["device_1"]
    with pytest.raises(FileExistsError):
        write_keys(file, ["device_0"])
    with pytest.raises(FileNotFoundError, match="ddnn certs --gateway"):
        read_keys(tmp_path / "none", network)
    for content, message in (
        ("secret", "holds no keys"),
        ('{"device_0": "secret"}', "holds no keys"),
        ('{"device_0": "abcd"}', "has 2 bytes, expected 32"),
        ('{"device_7": "%s"}' % ("ab" * 32), "device_7"),
    ):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_keys(tmp_path / "bad", network)
        assert "secret" not in str(caught.value)


def test_a_certificate_that_does_not_carry_the_device_is_refused(
    network_of: Callable[..., RandomNetwork], tmp_path: Path
) -> None:
    made = network_of("c")

    async def run() -> None:
        behind = Behind(made, tmp_path)
        behind.keys = {"device_1": behind.keys[BEHIND]}
        with pytest.raises(ConnectionError, match="does not carry the name 'device_1'"):
            async with behind.running():
                pass

    asyncio.run(run())
