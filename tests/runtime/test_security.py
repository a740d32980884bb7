"""Certificates, names, and who is let in."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from running import refused

from ddnn_tf.runtime.calls import Caller, RejectedError
from ddnn_tf.runtime.ddnn_v1_pb2 import Accepted, Task
from ddnn_tf.runtime.security import Certificates, create_certificates, is_loopback, server_name, write_keys
from ddnn_tf.runtime.server import Server
from ddnn_tf.runtime.telemetry import Metrics

NAMES = ("aggregator", "cloud", "device_0", "device_1", "client")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("security") / "certs"
    create_certificates(place, NAMES)
    return place


def test_keys_are_private_and_nothing_is_overwritten(certs: Path) -> None:
    for key in certs.glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    assert len(list(certs.iterdir())) == 2 * (len(NAMES) + 1)
    with pytest.raises(FileExistsError, match="not empty"):
        create_certificates(certs, NAMES)


@pytest.mark.parametrize("name", ["", "1Device", "../x", "a b", "1", "a-b", "ä"])
def test_names_that_are_none_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and _"):
        create_certificates(tmp_path / "certs", [name])
    assert not (tmp_path / "certs").exists()


def test_certificates_and_keys_on_a_full_disk_are_written_whole_or_not_at_all(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    devices = [f"device_{number}" for number in range(200)]
    with full_disk(), pytest.raises(OSError, match=r"certs' cannot be written \(File too large\)"):
        create_certificates(tmp_path / "certs", {"gateway": devices})
    with full_disk(), pytest.raises(OSError, match=r"gateway\.keys' cannot be written \(File too large\)"):
        write_keys(tmp_path / "gateway.keys", devices)
    assert not list(tmp_path.iterdir())


def test_keys_are_not_overwritten(tmp_path: Path) -> None:
    file = write_keys(tmp_path / "gateway.keys", ["device_0"])
    with pytest.raises(FileExistsError, match="name a new file"):
        write_keys(file, ["device_0"])


def test_missing_and_mixed_files_are_named(certs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"edge_0\.pem.*ddnn certs"):
        Certificates.read(certs, "edge_0")
    for file in certs.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cloud.key").write_bytes((certs / "device_0.key").read_bytes())
    with pytest.raises(ValueError, match="do not belong together"):
        Certificates.read(tmp_path, "cloud")
    (tmp_path / "cloud.pem").write_text("garbage")
    with pytest.raises(ValueError, match="damaged certificate"):
        Certificates.read(tmp_path, "cloud")


def test_keys_do_not_show_in_logs(certs: Path) -> None:
    assert "PRIVATE" not in repr(Certificates.read(certs, "cloud"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("127.9.9.9:1", True),
        ("0.0.0.0:1", False), ("10.0.0.1:1", False), ("example.org:1", False), ("[::]:1", False),
    ],
)  # fmt: skip
def test_what_is_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


async def _answer(*_: object) -> Accepted:
    return Accepted()


def _run(certs: Path, test: Callable[[Server, str], Any], name: str = "aggregator") -> dict[str, float]:
    metrics = Metrics()

    async def run() -> None:
        server = Server(name, "network", metrics, Certificates.read(certs, name))
        server.unary("Aggregator/Classify", ("device_0", "client"), Task, _answer, 100)
        address = await server.start("127.0.0.1:0")
        try:
            await test(server, address)
        finally:
            await server.stop(0)

    asyncio.run(run())
    return refused(metrics)


def _call(certs: Path, address: str, name: str, holder: str, **fields: Any) -> Any:
    peer = fields.pop("peer", "aggregator")
    caller = Caller(name, peer, address, Certificates.read(certs, holder), fields.pop("network", "network"))
    if "metadata" in fields:
        caller.metadata = fields["metadata"]
    return caller.call("Aggregator/Classify", Task(), Accepted, 5)


def test_who_is_let_in_and_who_is_not(certs: Path) -> None:
    async def test(_: Server, address: str) -> None:
        await _call(certs, address, "device_0", "device_0")
        await _call(certs, address, "client", "client", network="")
        for name, holder, message in (
            ("device_0", "device_1", "does not carry the name 'device_0'"),
            ("aggregator", "device_0", "does not carry the name 'aggregator'"),
            ("", "device_0", "does not carry the name ''"),
            ("device_1", "device_1", "'device_1' may not call this"),
            ("cloud", "cloud", "'cloud' may not call this"),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
                await _call(certs, address, name, holder)
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError, match="serves another network") as caught:
            await _call(certs, address, "device_0", "device_0", network="other")
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        old = (("ddnn-protocol", "0"), ("ddnn-network", "network"), ("ddnn-name", "device_0"))
        with pytest.raises(grpc.aio.AioRpcError, match="speaks protocol 1, not '0'"):
            await _call(certs, address, "device_0", "device_0", metadata=old)

    assert _run(certs, test) == {"name": 3, "role": 2, "network": 1, "version": 1}


def test_a_device_cannot_pose_as_the_aggregator(certs: Path) -> None:
    async def test(_: Server, address: str) -> None:
        caller = Caller("client", "aggregator", address, Certificates.read(certs, "client"))
        with pytest.raises(RejectedError, match="not one of 'aggregator'"):
            await caller.reach(5)
        await caller.close()

    _run(certs, test, name="device_0")


def test_strangers_certificates_and_none_at_all_are_refused(certs: Path, tmp_path: Path) -> None:
    create_certificates(tmp_path / "other", NAMES)

    async def test(_: Server, address: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(tmp_path / "other", address, "device_0", "device_0")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        bare = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
        options = [("grpc.ssl_target_name_override", server_name("aggregator"))]
        for channel in (
            grpc.aio.secure_channel(address, bare, options=options),
            grpc.aio.insecure_channel(address),
        ):
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/ddnn.v1.Aggregator/Classify")(b"", timeout=2)
            await channel.close()

    assert _run(certs, test) == {}


def test_old_tls_is_refused(certs: Path) -> None:
    def attempt(address: str, version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        context.load_cert_chain(certs / "client.pem", certs / "client.key")
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        host, port = address.split(":")
        with (
            socket.create_connection((host, int(port)), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=server_name("aggregator")) as line,
        ):
            return line.version()

    async def test(_: Server, address: str) -> None:
        assert await asyncio.to_thread(attempt, address, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        assert await asyncio.to_thread(attempt, address, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, OSError)):
                await asyncio.to_thread(attempt, address, version)

    _run(certs, test)


def test_plaintext_stays_on_this_machine() -> None:
    async def run() -> None:
        server = Server("cloud", "network", Metrics(), None)
        with pytest.raises(
            ValueError, match=r"Expected a loopback address without TLS, but got '0\.0\.0\.0:0'"
        ):
            await server.start("0.0.0.0:0")
        with pytest.raises(ValueError, match="loopback"):
            Caller("client", "cloud", "10.0.0.1:7000", None)

    asyncio.run(run())


def test_a_port_in_use_is_named(certs: Path) -> None:
    async def test(_: Server, address: str) -> None:
        other = Server("cloud", "network", Metrics(), Certificates.read(certs, "cloud"))
        with pytest.raises(OSError, match=f"Cannot listen at {address}: the port is in use"):
            await other.start(address)
        for wrong in ("nowhere", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http"):
            with pytest.raises(ValueError, match="Expected an address host:port"):
                await Server("cloud", "network", Metrics(), None).start(wrong)

    _run(certs, test)
