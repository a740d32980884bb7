"""Calls and streams between tiers: limits, order of ending, and coming back."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from running import refused, served

from ddnn_tf.runtime import aggregator as aggregator_module
from ddnn_tf.runtime.aggregator import Aggregator
from ddnn_tf.runtime.calls import Caller, RefusalError
from ddnn_tf.runtime.channels import Channel, Outbox, within
from ddnn_tf.runtime.ddnn_v1_pb2 import Accepted, Delivery, Payload, Task
from ddnn_tf.runtime.device import delivery
from ddnn_tf.runtime.server import Server
from ddnn_tf.runtime.telemetry import Metrics, log_in_json


class Taking:
    """A stream that keeps what it is given."""

    outbox = None

    def __init__(self, taken: list[int]) -> None:
        self.replaced = asyncio.Event()
        self.taken = taken

    def receive(self, message: Delivery) -> None:
        if any(one.ticket == 13 for one in message.maps):
            raise RuntimeError("a fault of ours")
        self.taken += [one.ticket for one in message.maps]

    def pack(self, items: list[Any]) -> Accepted:
        raise NotImplementedError

    def close(self) -> None: ...


def serving(
    test: Callable[[Server, str], Awaitable[None]],
    handler: Callable[..., Awaitable[Accepted]] | None = None,
    taken: list[int] | None = None,
) -> dict[str, float]:
    async def answer(*_: object) -> Accepted:
        return Accepted()

    metrics = Metrics()

    async def run() -> None:
        server = Server("cloud", "", metrics, None)
        server.unary("Upper/Decide", ("aggregator",), Task, handler or answer, 100)
        server.stream(
            "Upper/Deliver", ("device_0",), Delivery, lambda _: Taking([] if taken is None else taken), 1000
        )
        address = await server.start("127.0.0.1:0")
        try:
            await test(server, address)
        finally:
            await server.stop(0)

    asyncio.run(run())
    return refused(metrics)


def test_what_runs_is_finished_and_what_comes_later_is_told_so() -> None:
    begun = asyncio.Event()

    async def slow(*_: object) -> Accepted:
        begun.set()
        await asyncio.sleep(0.3)
        return Accepted()

    async def test(server: Server, address: str) -> None:
        caller = Caller("aggregator", "cloud", address, None)
        running = asyncio.ensure_future(caller.call("Upper/Decide", Task(), Accepted, 5))
        await begun.wait()
        ending = asyncio.ensure_future(server.stop(5))
        await asyncio.sleep(0.05)
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down") as caught:
            await caller.call("Upper/Decide", Task(), Accepted, 5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await running == Accepted()
        await ending
        await caller.close()

    assert serving(test, slow) == {"draining": 1}


def test_a_fault_of_ours_costs_a_call_and_not_the_process() -> None:
    async def fails(*_: object) -> Accepted:
        raise RuntimeError("secret details")

    async def test(_: Server, address: str) -> None:
        caller = Caller("aggregator", "cloud", address, None)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.call("Upper/Decide", Task(), Accepted, 5)
            assert caught.value.code() == grpc.StatusCode.INTERNAL
            assert "secret" not in str(caught.value.details())
        await caller.close()

    assert serving(test, fails) == {"internal": 3}


def test_oversized_malformed_and_unknown_are_refused_each_with_its_status() -> None:
    async def test(_: Server, address: str) -> None:
        caller = Caller("aggregator", "cloud", address, None)
        for path, content, code in (
            ("Upper/Decide", b"\x08\x01" * 51, grpc.StatusCode.RESOURCE_EXHAUSTED),
            ("Upper/Decide", b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
            ("Upper/Explode", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("Upper/Decide", b"x" * (5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            method: Any = caller.channel.unary_unary(f"/ddnn.v1.{path}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(content, timeout=5, metadata=caller.metadata)
            assert caught.value.code() == code
        await caller.close()

    counts = serving(test)
    assert counts["oversized"] == 1
    # What is far too large the transport refuses, and it may look like a call without a message.
    assert counts["malformed"] in (1, 2)
    assert set(counts) == {"oversized", "malformed"}


def test_a_link_comes_back_after_its_peer_and_after_a_fault() -> None:
    taken: list[int] = []

    async def test(server: Server, address: str) -> None:
        caller = Caller("device_0", "cloud", address, None)
        link = Channel(caller, "Upper/Deliver", delivery, Accepted)
        assert not link.send(Payload(ticket=1))
        task = asyncio.ensure_future(link.run())
        await link.ready(5)
        await until(lambda: link.send(Payload(ticket=2)))
        await until(lambda: taken == [2])
        link.send(Payload(ticket=13))
        await until(lambda: not link.is_up)
        await until(lambda: link.is_up)
        link.send(Payload(ticket=3))
        await until(lambda: taken == [2, 3])
        await server.stop(0)
        await until(lambda: not link.is_up)
        again = Server("cloud", "", Metrics(), None)
        again.stream("Upper/Deliver", ("device_0",), Delivery, lambda _: Taking(taken), 1000)
        await again.start(address)
        await until(lambda: link.is_up)
        link.send(Payload(ticket=4))
        await until(lambda: taken == [2, 3, 4])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await again.stop(0)
        await caller.close()

    assert serving(test, taken=taken) == {"internal": 1}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("It does not happen within 10 s.")


def test_an_outbox_is_bounded_and_empties_in_one_message() -> None:
    async def run() -> None:
        outbox = Outbox(limit=100)
        assert [outbox.put(number) for number in range(102)] == [True] * 100 + [False] * 2
        assert await outbox.take() == list(range(64))
        assert await outbox.take() == list(range(64, 100))
        waiting = asyncio.ensure_future(outbox.take())
        await asyncio.sleep(0)
        outbox.put("next")
        assert await waiting == ["next"]

    asyncio.run(run())


def test_too_many_samples_at_once_are_refused(
    network_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregator_module, "_IN_FLIGHT", 2)

    async def run() -> None:
        aggregator = Aggregator(served(network_of("c").bundle), {}, Metrics(), wait=0.2)
        session = aggregator.attach("device_0")
        found = await asyncio.gather(
            *(aggregator.classify("client", Task(sample=number), 1.0) for number in range(3)),
            return_exceptions=True,
        )
        reasons = [error.reason for error in found if isinstance(error, RefusalError)]
        assert reasons == ["no_device", "no_device", "overload"]
        session.close()

    asyncio.run(run())


def test_log_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="log level"):
        log_in_json("cloud", "loud")
    logger = logging.getLogger("ddnn_tf.runtime")
    before = (logger.handlers[:], logger.level, logger.propagate)
    try:
        log_in_json("cloud", "info")
        logging.getLogger("ddnn_tf.runtime.x").info("link up", extra={"fields": {"peer": "edge_0"}})
        logging.getLogger("ddnn_tf.runtime.x").debug("not told")
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line).items() >= {"process": "cloud", "event": "link up", "peer": "edge_0"}.items()


def test_work_that_fails_when_it_is_given_up_is_not_complained_of() -> None:
    """gRPC may answer a cancellation with the failure of the call."""
    complaints: list[dict[str, Any]] = []

    async def fail() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError("refused") from None

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        waiting = asyncio.ensure_future(within(fail(), None))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    gc.collect()
    assert complaints == []
