"""Faults as the command line gives them, and the proxy that cuts and delays."""

from __future__ import annotations

import asyncio
import time

import pytest

from ddnn_tf.runtime.faults import Fault, Proxy, read_faults


def test_faults_come_in_the_order_of_their_time() -> None:
    faults = read_faults(
        ["device_3@200"],
        ["device_3@400"],
        ["cloud@300-350", "edge_0@500"],
        ["device_2=80ms", "device_1=1.5ms@10-20"],
    )
    assert faults == [
        Fault("delay", "device_2", 0, 0.08),
        Fault("delay", "device_1", 10, 0.0015),
        Fault("delay", "device_1", 20, 0.0),
        Fault("kill", "device_3", 200),
        Fault("cut", "cloud", 300),
        Fault("mend", "cloud", 350),
        Fault("revive", "device_3", 400),
        Fault("cut", "edge_0", 500),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("kill", "device_3", "--kill like device_3@200, but got 'device_3'"),
        ("kill", "device_3@-1", "--kill like"),
        ("revive", "@5", "--revive like"),
        ("partition", "cloud@9-5", "ends after it begins"),
        ("partition", "cloud=9", "--partition like"),
        ("delay", "cloud=9", "--delay like"),
        ("delay", "cloud=-9ms", "--delay like"),
    ],
)
def test_other_texts_are_refused(kind: str, text: str, message: str) -> None:
    given: dict[str, list[str]] = {"kill": [], "revive": [], "partition": [], "delay": [], kind: [text]}
    with pytest.raises(ValueError, match=message):
        read_faults(**given)


def test_a_proxy_delays_and_cuts_in_both_directions() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(100):
            writer.write(content)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        proxy = Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await proxy.start()
        host, port = proxy.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def ask(content: bytes) -> bytes:
            writer.write(content)
            return await reader.readexactly(len(content))

        assert await ask(b"first") == b"first"
        proxy.delay = 0.1
        start = time.monotonic()
        assert await ask(b"late") == b"late"
        assert time.monotonic() - start >= 0.2
        proxy.delay = 0.0
        proxy.partition(True)
        writer.write(b"lost?")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        proxy.partition(False)
        assert await reader.readexactly(5) == b"lost?"
        writer.close()
        server.close()
        await proxy.close()

    asyncio.run(run())


def test_a_proxy_in_front_of_nobody_ends_the_connection() -> None:
    async def run() -> None:
        proxy = Proxy("127.0.0.1:1")
        await proxy.start()
        host, port = proxy.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        writer.close()
        await proxy.close()

    asyncio.run(run())
