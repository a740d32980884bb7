"""Bytes over real connections, as the kernel counts them."""

from __future__ import annotations

import socket
import sys

import pytest

from ddnn_tf.runtime.meter import WireMeter


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process what its connections sent")
def test_open_and_ended_connections_are_counted_by_peer() -> None:
    with socket.socket() as listening, socket.socket() as other:
        for server in (listening, other):
            server.bind(("127.0.0.1", 0))
            server.listen()
        addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (listening, other)]
        meter = WireMeter({"cloud": addresses[0], "edge_0": addresses[1], "lost": "no.such.host.invalid:1"})
        assert meter.read() == {"cloud": (0, 0), "edge_0": (0, 0)}
        with socket.create_connection(listening.getsockname()) as line:
            far = listening.accept()[0]
            line.sendall(b"x" * 1000)
            far.sendall(b"y" * 50)
            assert line.recv(50) == b"y" * 50
            assert meter.read() == {"cloud": (1000, 50), "edge_0": (0, 0)}
            far.close()
        with socket.create_connection(listening.getsockname()) as line:
            line.sendall(b"z" * 7)
            assert meter.read() == {"cloud": (1007, 50), "edge_0": (0, 0)}
        assert meter.read()["cloud"] == (1007, 50)
