"""What goes between a microcontroller and its gateway: authenticated, and each message good once.

    offset  bytes
    0       2      "DG"
    2       1      version, 1
    3       1      kind: 1 hello, 2 welcome, 3 frame, 4 request
    4       2      number of the device
    6       2      bytes of the body
    8       8      counter
    16      n      body
    16 + n  16     the first 16 bytes of HMAC-SHA256 over all before

All numbers are little-endian. Device and gateway share a key of 32 bytes. A session begins with a nonce
of each side; its keys are K = HMAC(key, "ddnn envelope 1" + device nonce + gateway nonce), and HMAC(K,
"up") and HMAC(K, "down") for the two directions.

    hello     device -> gateway, counter 0, under the key: its nonce, 16 bytes
    welcome   gateway -> device, counter 0, under the key: both nonces, 32 bytes
    frame     device -> gateway, counter 1, 2, ..., under "up": one frame (`ddnn_tf.frames`)
    request   gateway -> device, counter 1, 2, ..., under "down": 1 byte verb (1 class vector, 2 features,
              3 neither: a sign of life), 3 bytes 0, number for the frame (4 bytes), sample (4 bytes)

The gateway answers the first frame of a session with a sign of life, and sends one every ten seconds; a
device answers with an empty frame. One that has heard nothing for long begins anew with a hello.

A counter is good once: those that a lossy network brings late are taken within a window of 64. A hello
that is sent again by somebody else starts no session, because only the device can go on with it. What is
sent can be read by others; it cannot be forged, changed or repeated.

Source: ours.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from typing import NamedTuple

from ddnn_tf.runtime.bounded import Bounded

__all__ = [
    "ALIVE",
    "FEATURES",
    "KEY_BYTES",
    "LARGEST",
    "OVERHEAD",
    "SENSE",
    "DeviceEnd",
    "GatewayEnd",
    "Received",
    "Request",
    "length_of",
]

KEY_BYTES = 32
HELLO, WELCOME, FRAME, REQUEST = 1, 2, 3, 4
SENSE, FEATURES, ALIVE = 1, 2, 3

_HEADER = struct.Struct("<2sBBHHQ")
_REQUEST = struct.Struct("<BxxxII")
_MAGIC, _VERSION = b"DG", 1
_TAG, _NONCE, _WINDOW = 16, 16, 64
_PENDING = 64
OVERHEAD = _HEADER.size + _TAG
"""Bytes of an envelope beside its body."""
LARGEST = 0xFFFF
"""Bytes of the largest body."""


@dataclass(frozen=True)
class Request:
    """What the gateway asks of a device.

    Attributes:
        verb: `SENSE` for the class vector, `FEATURES` for the feature map.
        number: To be written into the frame as its sample.
        sample: Which sample, as the client counts them; a device with a live sensor need not care.
    """

    verb: int
    number: int
    sample: int


class Received(NamedTuple):
    """What a gateway makes of an envelope.

    Attributes:
        frame: The frame in it, or nothing.
        reply: What to answer at once, or nothing.
        is_proof: Whether only the device can have sent it now; a hello can be repeated by others.
    """

    frame: bytes
    reply: bytes
    is_proof: bool


class _Session:
    """Keys and counters of one session, as one side sees it."""

    def __init__(self, key: bytes, nonces: bytes, sends: bytes, takes: bytes) -> None:
        shared = _hmac(key, b"ddnn envelope 1" + nonces)
        self._sends, self._takes = _hmac(shared, sends), _hmac(shared, takes)
        self._sent, self._highest, self._seen = 0, 0, 0

    def seal(self, kind: int, device: int, body: bytes) -> bytes:
        self._sent += 1
        return _seal(self._sends, kind, device, self._sent, body)

    def open(self, content: bytes) -> bool:
        return _is_genuine(self._takes, content)

    def take(self, counter: int) -> None:
        """Notes a counter.

        Raises:
            ValueError: It was used before, or is too old to tell.
        """
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = ((self._seen << min(ahead, _WINDOW)) | 1) & ((1 << _WINDOW) - 1)
            self._highest = counter
            return
        if counter < 1 or -ahead >= _WINDOW or self._seen >> -ahead & 1:
            raise ValueError("The message is a replay: its counter was used before.")
        self._seen |= 1 << -ahead


class GatewayEnd:
    """The gateway's side of one device.

    Args:
        device: Its number.
        key: The key that both share.
    """

    def __init__(self, device: int, key: bytes) -> None:
        self._device, self._key = device, _checked(key)
        self._session: _Session | None = None
        self._offered: Bounded[bytes, bytes] = Bounded(_PENDING)

    @property
    def is_open(self) -> bool:
        """Whether the device has gone on with a session."""
        return self._session is not None

    def close(self) -> None:
        """Forgets the session."""
        self._session = None

    def receive(self, content: bytes) -> Received:
        """Takes an envelope of the device.

        Raises:
            ValueError: Malformed, not of this device, forged, or a replay.
        """
        kind, device, counter, body = _parse(content)
        if device != self._device:
            raise ValueError(f"Expected an envelope of device {self._device}, but got one of {device}.")
        if kind == HELLO:
            if len(body) != _NONCE or counter or not _is_genuine(self._key, content):
                raise ValueError("The hello is forged or malformed.")
            return Received(b"", self._welcome(body), is_proof=False)
        if kind != FRAME:
            raise ValueError(f"Expected a hello or a frame, but got kind {kind}.")
        session = self._session
        if session is None or not session.open(content):
            session = self._begun(content)
        session.take(counter)
        is_new, self._session = session is not self._session, session
        reply = self.request(Request(ALIVE, 0, 0)) if is_new else b""
        return Received(body, reply, is_proof=True)

    def request(self, request: Request) -> bytes:
        """The envelope that asks a device for something.

        Raises:
            ValueError: There is no session.
        """
        if self._session is None:
            raise ValueError("There is no session with the device yet.")
        body = _REQUEST.pack(request.verb, request.number, request.sample)
        return self._session.seal(REQUEST, self._device, body)

    def _welcome(self, nonce: bytes) -> bytes:
        ours = self._offered.setdefault(nonce, secrets.token_bytes(_NONCE))
        return _seal(self._key, WELCOME, self._device, 0, nonce + ours)

    def _begun(self, content: bytes) -> _Session:
        """A session that was offered, and that this message goes on with."""
        for nonces in self._offered.items():
            session = _Session(self._key, b"".join(nonces), b"down", b"up")
            if session.open(content):
                del self._offered[nonces[0]]
                return session
        raise ValueError("The message is forged, or of a session that has ended.")


class DeviceEnd:
    """The device's side; what firmware does in C (`tflite/gateway`).

    Args:
        device: Its number.
        key: The key that both share.
    """

    def __init__(self, device: int, key: bytes) -> None:
        self._device, self._key = device, _checked(key)
        self._nonce = b""
        self._session: _Session | None = None

    @property
    def is_open(self) -> bool:
        """Whether the gateway has answered."""
        return self._session is not None

    def hello(self) -> bytes:
        """Begins a new session; said again before the welcome, it is the same hello."""
        if self._session is not None or not self._nonce:
            self._nonce, self._session = secrets.token_bytes(_NONCE), None
        return _seal(self._key, HELLO, self._device, 0, self._nonce)

    def receive(self, content: bytes) -> Request | None:
        """Takes an envelope of the gateway; gives the request, if it is one.

        Raises:
            ValueError: Malformed, for another device, forged, or a replay.
        """
        kind, device, counter, body = _parse(content)
        if device != self._device:
            raise ValueError(f"Expected an envelope for device {self._device}, but got one for {device}.")
        if kind == WELCOME:
            if self._session is not None or len(body) != 2 * _NONCE or body[:_NONCE] != self._nonce:
                raise ValueError("The welcome answers no hello.")
            if not _is_genuine(self._key, content):
                raise ValueError("The welcome is forged.")
            self._session = _Session(self._key, body, b"up", b"down")
            return None
        if kind != REQUEST or len(body) != _REQUEST.size or self._session is None:
            raise ValueError(f"Expected a welcome or a request, but got kind {kind}.")
        if not self._session.open(content):
            raise ValueError("The request is forged.")
        self._session.take(counter)
        return Request(*_REQUEST.unpack(body))

    def send(self, frame: bytes) -> bytes:
        """The envelope of a frame; an empty one shows that the device is there.

        Raises:
            ValueError: There is no session.
        """
        if self._session is None:
            raise ValueError("There is no session with the gateway yet.")
        return self._session.seal(FRAME, self._device, frame)


def length_of(start: bytes) -> int:
    """Bytes of the whole envelope that begins so (16 bytes).

    Raises:
        ValueError: No envelope begins so.
    """
    magic, version, _, _, length, _ = _HEADER.unpack(start)
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"Expected an envelope of version {_VERSION}, but it begins with {start[:3]!r}.")
    return length + OVERHEAD


def _parse(content: bytes) -> tuple[int, int, int, bytes]:
    if len(content) < OVERHEAD or len(content) != length_of(content[: _HEADER.size]):
        raise ValueError(f"Expected a whole envelope, but got {len(content)} bytes.")
    _, _, kind, device, _, counter = _HEADER.unpack_from(content)
    return kind, device, counter, content[_HEADER.size : -_TAG]


def _seal(key: bytes, kind: int, device: int, counter: int, body: bytes) -> bytes:
    if len(body) > LARGEST:
        raise ValueError(f"Expected a body of at most {LARGEST} bytes, but got {len(body)}.")
    content = _HEADER.pack(_MAGIC, _VERSION, kind, device, len(body), counter) + body
    return content + _hmac(key, content)[:_TAG]


def _is_genuine(key: bytes, content: bytes) -> bool:
    return hmac.compare_digest(_hmac(key, content[:-_TAG])[:_TAG], content[-_TAG:])


def _hmac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"Expected a key of {KEY_BYTES} bytes, but got {len(key)}.")
    return key
