"""What really goes over a process's TCP connections, TLS and HTTP/2 included, as the kernel counts it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Mapping

__all__ = ["WireMeter"]

_ACKED = 120  # offset of tcpi_bytes_acked in Linux's struct tcp_info; tcpi_bytes_received follows
_BYTES = struct.Struct("=QQ")
_DESCRIPTORS = "/proc/self/fd"


class WireMeter:
    """Counts the bytes of this process's connections to its peers; on Linux, elsewhere nothing.

    Args:
        peers: Address `host:port` of each peer, by its name.
    """

    def __init__(self, peers: Mapping[str, str]) -> None:
        self._peers = {int(address.rpartition(":")[2]): name for name, address in peers.items()}
        self._seen: dict[str, tuple[str, int, int]] = {}

    def read(self) -> dict[str, tuple[int, int]]:
        """Bytes sent and received by peer; nothing where the system does not count them.

        Of connections that have ended, what the last reading saw.
        """
        if not (hasattr(socket, "TCP_INFO") and os.path.isdir(_DESCRIPTORS)):
            return {}
        for descriptor in os.listdir(_DESCRIPTORS):
            # One may be closed while it is being looked at, and not every socket is of TCP.
            with contextlib.suppress(OSError):
                self._look(int(descriptor))
        totals = dict.fromkeys(self._peers.values(), (0, 0))
        for name, sent, received in self._seen.values():
            totals[name] = (totals[name][0] + sent, totals[name][1] + received)
        return totals

    def _look(self, descriptor: int) -> None:
        inode = os.readlink(f"{_DESCRIPTORS}/{descriptor}")
        if not inode.startswith("socket:"):
            return
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                return
            name = self._peers.get(connection.getpeername()[1])
            if name is not None:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                if len(info) >= _ACKED + _BYTES.size:
                    self._seen[inode] = (name, *_BYTES.unpack_from(info, _ACKED))
