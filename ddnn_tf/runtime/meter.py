"""What really goes over a process's TCP connections, TLS and HTTP/2 included, as the kernel counts it."""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import struct
from collections.abc import Mapping

from ddnn_tf.runtime.security import host_and_port

__all__ = ["WireMeter"]

# Offsets in Linux's struct tcp_info; bytes_sent is there since Linux 4.19.
_RECEIVED, _SENT = 128, 200
_BYTES = struct.Struct("=Q")
_DESCRIPTORS = "/proc/self/fd"


class WireMeter:
    """Counts the bytes of this process's connections to its peers; on Linux, elsewhere nothing.

    Args:
        peers: Address `host:port` of each peer, by its name.
    """

    def __init__(self, peers: Mapping[str, str]) -> None:
        self._peers: dict[tuple[str, int], str] = {}
        for name, address in peers.items():
            host, port = host_and_port(address)
            with contextlib.suppress(OSError):  # a name that cannot be resolved now is not counted
                for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                    self._peers[str(found[4][0]), port] = name
        self._open: dict[str, tuple[str, int, int]] = {}
        self._ended: collections.Counter[tuple[str, str]] = collections.Counter()

    def read(self) -> dict[str, tuple[int, int]]:
        """Bytes sent and received by peer; nothing where the system does not count them.

        Of connections that have ended, what the last reading saw.
        """
        if not (hasattr(socket, "TCP_INFO") and os.path.isdir(_DESCRIPTORS)):
            return {}
        before, self._open = self._open, {}
        for descriptor in os.listdir(_DESCRIPTORS):
            # One may be closed while it is being looked at, and not every socket is of TCP.
            with contextlib.suppress(OSError):
                self._look(int(descriptor))
        for inode, (name, sent, received) in before.items():
            if inode not in self._open:
                self._ended.update({(name, "sent"): sent, (name, "received"): received})
        totals = {name: (self._ended[name, "sent"], self._ended[name, "received"]) for name in self._names}
        for name, sent, received in self._open.values():
            totals[name] = (totals[name][0] + sent, totals[name][1] + received)
        return totals

    @property
    def _names(self) -> set[str]:
        return set(self._peers.values())

    def _look(self, descriptor: int) -> None:
        inode = os.readlink(f"{_DESCRIPTORS}/{descriptor}")
        if not inode.startswith("socket:"):
            return
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                return
            host, port = connection.getpeername()[:2]
            # A socket for both families gives an IPv4 peer as ::ffff:10.0.0.2.
            name = self._peers.get((host.removeprefix("::ffff:"), port))
            if name is not None:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                if len(info) >= _SENT + _BYTES.size:
                    (sent,), (received,) = (_BYTES.unpack_from(info, at) for at in (_SENT, _RECEIVED))
                    self._open[inode] = (name, sent, received)
